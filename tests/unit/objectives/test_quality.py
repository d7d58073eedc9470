"""Figures of how well classes are told apart, against those worked out by hand."""

import pytest

from layerwise.objectives.quality import class_quality


def test_shares_and_the_mean_of_each_class():
    """Class 0: 2 of 3 found, 1 wrongly; class 1: 1 of 1, 1 wrongly; class 2: none of 1."""
    found = class_quality([0, 0, 1, 1, 0], [0, 0, 0, 1, 2])
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["macro_f1"] == pytest.approx((4 / 6 + 2 / 3 + 0) / 3)


def test_from_nothing_to_everything():
    assert class_quality([0, 1, 2], [0, 1, 2]) == {"accuracy": 1.0, "macro_f1": 1.0}
    assert class_quality([1, 2, 0], [0, 1, 2]) == {"accuracy": 0.0, "macro_f1": 0.0}


def test_one_class_for_all_is_seen_by_the_mean_over_classes():
    found = class_quality([0] * 10, [0] * 9 + [1])
    assert found["accuracy"] == 0.9
    assert found["macro_f1"] == pytest.approx((18 / 19 + 0) / 2)


@pytest.mark.parametrize(("predicted", "actual"), [([], []), ([0], [0, 1])])
def test_rows_that_do_not_match_are_refused(predicted, actual):
    with pytest.raises(ValueError, match=f"{len(predicted)} predictions for {len(actual)} rows"):
        class_quality(predicted, actual)
