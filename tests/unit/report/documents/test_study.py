import math

import pandas as pd
import pytest

from layerwise.report import frames, text
from layerwise.report.documents.study_status import document as status_document
from layerwise.report.documents.study_summary import MOST, document
from layerwise.study.status import FailedRun, Status

NAMES = {"model": "bert", "objective": "classification", "condition": "lora", "placement": "all"}


def summary(*rows):
    return pd.DataFrame([{**NAMES, "seeds": 3, **row} for row in rows])


def test_what_differs_is_named_and_spreads_follow_means():
    made = document(
        summary(
            {"placement": "band", "accuracy_mean": 0.8125, "accuracy_sd": 0.0125},
            {"placement": "all", "accuracy_mean": 0.75, "accuracy_sd": 0.5},
        )
    )
    found = frames(made)["summary"]
    assert list(found.columns) == ["name", "seeds", "accuracy_mean", "accuracy_sd"]
    assert list(found["name"]) == ["band", "all"]
    assert list(found["accuracy_sd"]) == [0.0125, 0.5]
    assert "Mean and standard deviation over seeds." in text(made)


def test_one_seed_has_no_spread_and_what_is_not_there_is_no_column():
    missing = {"eval_loss_sd": math.nan, "slope_mean": math.nan, "slope_sd": math.nan}
    found = frames(document(summary({"seeds": 1, "eval_loss_mean": 2.5, **missing})))["summary"]
    assert found.to_dict("records") == [{"name": "bert", "seeds": 1, "eval_loss_mean": 2.5}]


@pytest.mark.parametrize("extra", [0, 1, 1200])
def test_no_more_lines_than_people_read(extra):
    rows = [{"model": f"m{i}", "slope_mean": 1.0, "slope_sd": 0.0} for i in range(MOST + extra)]
    found = text(document(summary(*rows)), width=100).splitlines()
    assert sum(line.startswith("m") and line[1].isdigit() for line in found) == MOST
    assert (f"{MOST} of {MOST + extra} rows" in found) == bool(extra)


def test_a_status_counts_the_runs_and_says_why_some_failed(unsaid):
    failures = tuple(FailedRun(f"run{n}", "memory", "out of [it]", "tune") for n in range(22))
    status = Status("sweep", 40, 9, 2, 5, 1, 1, {"memory": 22}, 5400.0, failures)
    assert not unsaid(
        text(status, width=120),
        "Study: sweep",
        "9 of 40 runs done, 2 running, 5 waiting, 1 lost, 1 blocked, 22 failed (memory).",
        "About 1.5 h left.",
        "run0   memory in tune: out of [it]",
        "And 2 more.",
    )
    done = text(Status("sweep", 40, 40, 0, 0, 0, 0, {}, 0.0))
    assert "40 of 40 runs done." in done
    assert "left" not in done
    assert "failed" not in done
    assert status_document(status).title == "sweep"
