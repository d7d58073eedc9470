"""Relative depths, and the straight line through what was measured at them."""

import math

import numpy as np

from layerwise.shapes import Array, Float64

#: The relative depths of arXiv 2604.17177.
RELATIVE_DEPTHS = (0.10, 0.25, 0.40, 0.60, 0.75, 0.90, 1.00)


def block_at(relative: float, blocks: int) -> int:
    """The block, from 0, whose output stands for the relative depth in a stack of `blocks`.

    Hidden state max(1, floor(r L + 1/2)), counted from the first block's output.

    >>> [block_at(r, 12) for r in RELATIVE_DEPTHS]
    [0, 2, 4, 6, 8, 10, 11]
    """
    return max(1, math.floor(relative * blocks + 0.5)) - 1


def slope(values: Float64[Array, "*b 7"]) -> Float64[Array, "*b"]:
    """Slope of the least-squares line of the last axis on the seven relative depths."""
    across = np.array(RELATIVE_DEPTHS) - np.mean(RELATIVE_DEPTHS)
    return values @ (across / (across @ across))
