"""The summary of a study on a terminal."""

import io
import math

import pandas as pd
import pytest
from layerwise.cli.study_table import MOST, summary_table
from rich.console import Console

NAMES = {"model": "bert", "objective": "classification", "condition": "lora", "placement": "all"}


def summary(*rows):
    return pd.DataFrame([{**NAMES, "seeds": 3, **row} for row in rows])


def lines(frame, width=100):
    stream = io.StringIO()
    Console(file=stream, width=width).print(summary_table(frame))
    return [" ".join(line.split()) for line in stream.getvalue().splitlines()]


def test_what_differs_is_named_and_spreads_follow_means():
    found = lines(
        summary(
            {"placement": "band", "accuracy_mean": 0.8125, "accuracy_sd": 0.0125},
            {"placement": "all", "accuracy_mean": 0.75, "accuracy_sd": 0.5},
        )
    )
    assert found[0] == "placement seeds accuracy"
    assert "band 3 0.812 (0.0125)" in found
    assert "all 3 0.750 (0.500)" in found
    assert found[-1] == "Mean and standard deviation over seeds."


def test_one_seed_has_no_spread_and_what_is_not_there_is_a_dash():
    (row,) = [
        line
        for line in lines(
            summary(
                {
                    "seeds": 1,
                    "eval_loss_mean": 2.5,
                    "eval_loss_sd": math.nan,
                    "slope_mean": math.nan,
                    "slope_sd": math.nan,
                }
            )
        )
        if line.startswith("bert")
    ]
    assert row == "bert 1 2.50 –"


@pytest.mark.parametrize("extra", [0, 1, 1200])
def test_no_more_lines_than_people_read(extra):
    rows = [{"model": f"m{i}", "slope_mean": 1.0, "slope_sd": 0.0} for i in range(MOST + extra)]
    found = lines(summary(*rows))
    assert sum(line.startswith("m") for line in found) == MOST + 1  # And the heading.
    assert any(line == f"… and {extra:,} more" for line in found) == bool(extra)
