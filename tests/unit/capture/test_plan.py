"""A plan measures what the wanted signals need and refuses what it does not know."""

import pytest

from layerwise.capture import SIGNALS, plan
from layerwise.errors import BadInputError, UnknownNameError


def test_all_signals_by_default():
    assert plan().signals == tuple(SIGNALS)
    assert plan().needs == frozenset().union(*SIGNALS.values())


@pytest.mark.parametrize("signal", SIGNALS)
def test_one_signal_needs_no_more_than_its_own(signal):
    assert plan([signal]).needs == SIGNALS[signal]


def test_an_unknown_signal_is_named_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"'residual_nrm'.*did you mean 'residual_norm'"):
        plan(["residual_nrm"])


def test_an_unknown_readout_is_named():
    with pytest.raises(UnknownNameError, match="unknown readout: 'final'"):
        plan(readout="final")


def test_no_signal_is_refused():
    with pytest.raises(BadInputError, match=r"signals.*at least one"):
        plan([])


def test_a_rank_below_one_is_refused():
    with pytest.raises(BadInputError, match=r"adapter rank: '0'.*at least 1"):
        plan(rank=0)
