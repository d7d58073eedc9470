"""A plan measures what the wanted signals need and refuses what it does not know."""

import pytest

from layerwise.capture import MEASUREMENTS, plan
from layerwise.errors import BadInputError, UnknownNameError


def test_all_that_can_be_measured_is_the_default():
    assert plan().needs == frozenset(MEASUREMENTS)


@pytest.mark.parametrize("need", MEASUREMENTS)
def test_a_need_brings_what_it_needs_and_no_more(need):
    assert plan([need]).needs == MEASUREMENTS[need] | {need}
    assert plan([need]).measuring(["entropy"]) == plan(["entropy"])


def test_what_needs_are_needed_for_is_complete():
    for needed in MEASUREMENTS.values():
        assert needed == needed.union(*(MEASUREMENTS[need] for need in needed))


def test_an_unknown_measurement_is_named_with_the_nearest():
    with pytest.raises(
        UnknownNameError, match=r"measurement: 'gradient'.*did you mean 'gradients'"
    ):
        plan(["gradient"])


def test_an_unknown_readout_is_named():
    with pytest.raises(UnknownNameError, match="unknown readout: 'final'"):
        plan(readout="final")


def test_a_rank_below_one_is_refused():
    with pytest.raises(BadInputError, match=r"adapter rank: '0'.*at least 1"):
        plan(rank=0)
