"""Trained sets as lines of a file."""

from dataclasses import replace

from laboratory.run_log import SetRun, append_run, by_pair, read_runs
from layerwise.measure.trial import Trial

TRIAL = Trial(0, 1e-3, 3.0, 2.5, 0.1, 1, 10, 4, 100)
RUN = SetRun("tiny", "random", (1, 4), 0, 8, 4, 16, TRIAL, "cpu", "2026-01-01T00:00:00+00:00")


def test_what_is_appended_is_read(tmp_path):
    path = tmp_path / "deep" / "runs.jsonl"
    assert read_runs(path) == ()
    others = replace(RUN, pair="other"), replace(RUN, seed=1)
    for run in (RUN, *others):
        append_run(path, run)
    assert read_runs(path) == (RUN, *others)
    assert by_pair(read_runs(path)) == {"tiny": [RUN, others[1]], "other": [others[0]]}
    assert RUN.key == ("tiny", "random", (1, 4), 0, 1e-3)
