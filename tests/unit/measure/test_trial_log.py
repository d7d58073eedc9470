"""A measurement that is cut short goes on where it was, and only where it was."""

import json
from dataclasses import replace

import pytest
import torch

from layerwise.errors import SchemaError
from layerwise.files import whole_lines
from layerwise.measure.trial_log import TrialLog

pytestmark = pytest.mark.slow  # Short runs, many of them.

FEW = {"arms": ("uniform", "last", "all"), "ladder": (1e-3, 1e-2), "seeds": (0, 1)}


def cut_short(after):
    """A progress that is interrupted once it has shown `after` pieces of work."""
    shown = 0

    def progress(items, _told, _total):
        nonlocal shown
        for item in items:
            if shown == after:
                raise KeyboardInterrupt
            shown += 1
            yield item

    return progress


def timeless(made):
    """The arms of a measurement without what differs from time to time."""
    return [
        replace(
            arm,
            outcome=None,
            trials=tuple(
                replace(trial, seconds_per_step=0.0, peak_memory_bytes=0) for trial in arm.trials
            ),
        )
        for arm in made.arms
    ]


def test_what_was_done_is_not_done_again(measuring, tmp_path):
    kept = tmp_path / "trials.jsonl"
    with pytest.raises(KeyboardInterrupt):
        measuring(kept=kept, progress=cut_short(5), **FEW)
    before = whole_lines(kept)
    assert len(before) == 5
    made = measuring(kept=kept, **FEW).measure
    assert whole_lines(kept)[:5] == before
    (note,) = [note for note in made.notes if "cut short" in note]
    assert note.startswith(
        "5 trials were kept from a measurement that was cut short, so step times"
    )
    whole = measuring(**FEW).measure
    assert timeless(made) == timeless(whole)
    different = [arm for arm in whole.arms if arm.same_as is None]
    runs = sum(len(arm.ladder) + len(arm.trials) for arm in different)
    assert len(whole_lines(kept)) == runs


def test_more_seeds_go_on_from_fewer(measuring, tmp_path):
    kept = tmp_path / "trials.jsonl"
    few = FEW | {"seeds": (1,)}
    measuring(kept=kept, **few)
    count = len(whole_lines(kept))
    made = measuring(kept=kept, **FEW).measure
    assert f"{count} trials were kept" in " ".join(made.notes)


SMALL = {"arms": ("uniform",), "ladder": (1e-2,), "seeds": (0,)}


@pytest.fixture(scope="module")
def small_log(measuring, tmp_path_factory):
    """The lines of a small measurement."""
    kept = tmp_path_factory.mktemp("kept") / "trials.jsonl"
    measuring(kept=kept, **SMALL)
    return kept.read_bytes()


def shifted(model):
    with torch.no_grad():
        model.lm_head.weight.mul_(1.01)


@pytest.mark.parametrize(
    ("other", "is_taken"),
    [
        ({}, True),
        ({"change": shifted}, False),
        ({"steps": 3}, False),
        ({"texts": 41}, False),
        ({"ladder": (3e-3,)}, False),
        ({"seeds": (7,), "ladder": (3e-3,)}, False),
        ({"layers": 2, "arms": ("last",)}, False),
    ],
)
def test_trials_of_another_measurement_or_other_weights_are_not_taken(
    measuring, small_log, tmp_path, other, is_taken
):
    kept = tmp_path / "trials.jsonl"
    kept.write_bytes(small_log)
    made = measuring(kept=kept, **(SMALL | other)).measure
    assert any("cut short" in note for note in made.notes) == is_taken


def test_what_diverged_is_remembered(measuring, tmp_path):
    kept = tmp_path / "trials.jsonl"
    how = {"arms": ("last",), "seeds": (0,), "ladder": (1e-2, 1e30), "steps": 4}
    first = measuring(kept=kept, **how).measure
    count = len(whole_lines(kept))
    assert any("fault" in json.loads(line) for line in whole_lines(kept))
    again = measuring(kept=kept, **how).measure
    assert [arm.ladder for arm in again.arms] == [arm.ladder for arm in first.arms]
    assert len(whole_lines(kept)) == count


@pytest.mark.parametrize("line", ["no json", "[1]", '{"schema": "other/1"}'])
def test_a_file_of_something_else_is_refused_with_its_line(tmp_path, line):
    kept = tmp_path / "trials.jsonl"
    kept.write_text(line + "\n")
    with pytest.raises(SchemaError, match="line 1"):
        TrialLog(kept)
