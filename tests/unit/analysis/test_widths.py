import numpy as np
import pandas as pd
import pytest

from layerwise.analysis.run_tables import check_runs
from layerwise.analysis.slopes import widths

RISING = (0.0, 0.0, 0.1, 0.1, 0.2, 0.2, 0.4)
LAST = (0, 0, 0, 0, 0, 0, 0.002)
STILL = (0,) * 7


@pytest.fixture
def of(planted_runs):
    """Makes the widths of ``{(model, objective, condition, metric): profile}``."""

    def made(profiles):
        rows = pd.DataFrame(planted_runs.profile_rows(profiles))
        return widths(check_runs(rows, source="planted"))

    return made


def test_equal_step_and_procrustes_are_not_in_it(of):
    (row,) = of(
        {
            ("a", "nsp", "lora", "cka"): LAST,
            ("a", "nsp", "lora", "procrustes"): RISING,
            ("a", "nsp", "equal-step", "cka"): RISING,
        }
    )
    assert row.shares == (0, 0, 0, 0, 0, 0, 1)


def test_runs_that_changed_nothing_are_counted_apart(of):
    moved, still = of(
        {
            ("a", "nsp", "lora", "cka"): LAST,
            ("a", "nsp", "uniform", "cka"): STILL,
            ("b", "nsp", "uniform", "cka"): STILL,
        }
    )
    assert (moved.runs, moved.still, moved.shares[-1]) == (1, 1, 1.0)
    assert (still.model, still.runs, still.still, still.shares) == ("b", 0, 1, ())


def test_without_cka_there_is_none(of):
    assert of({("a", "nsp", "lora", "procrustes"): RISING}) == ()


def test_the_smallest_change_has_a_width(of):
    (row,) = of({("a", "nsp", "lora", "cka"): np.array(LAST) * 1e-200})
    assert row.shares == (0, 0, 0, 0, 0, 0, 1)
