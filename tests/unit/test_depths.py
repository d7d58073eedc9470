"""Seven depths, and the line through what was measured at them."""

import numpy as np
import pytest

from layerwise.depths import RELATIVE_DEPTHS, block_at, slope


@pytest.mark.parametrize(
    ("blocks", "hidden_states"),
    [
        (12, [1, 3, 5, 7, 9, 11, 12]),
        (30, [3, 8, 12, 18, 23, 27, 30]),
        (6, [1, 2, 2, 4, 5, 5, 6]),
        (2, [1, 1, 1, 1, 2, 2, 2]),
        (1, [1] * 7),
    ],
)
def test_depths_are_hidden_states_counted_from_the_first_block(blocks, hidden_states):
    assert [block_at(depth, blocks) + 1 for depth in RELATIVE_DEPTHS] == hidden_states


def test_the_slope_is_that_of_least_squares():
    values = np.random.default_rng(0).standard_normal((5, 7))
    expected = [np.polyfit(RELATIVE_DEPTHS, row, 1)[0] for row in values]
    assert slope(values) == pytest.approx(expected, rel=1e-12)
    assert float(slope(2.0 * np.array(RELATIVE_DEPTHS) + 1.0)) == pytest.approx(2.0)
