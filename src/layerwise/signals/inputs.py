"""How well conditioned the inputs of the adapted modules are."""

from collections.abc import Sequence

import numpy as np

from layerwise.capture.stats import LayerStats
from layerwise.shapes import Array, Float64
from layerwise.signals import spectrum


def activation_energy(stats: LayerStats) -> Float64[Array, "l"]:
    """Mean squared entry of the adapted modules' inputs, E ||phi||^2 / d, mean over modules.

    Source: arXiv 2602.04019, activation energy sigma.
    """
    assert stats.input_energy is not None  # noqa: S101  # the plan measured inputs
    assert stats.input_tokens is not None  # noqa: S101
    return _over_modules(stats, stats.input_energy.sum(0) / stats.input_tokens.sum(0))


def effective_rank(stats: LayerStats) -> Float64[Array, "l"]:
    """Effective rank of the inputs' token covariance, mean over the block's adapted modules."""
    assert stats.spectra is not None  # noqa: S101  # the plan measured covariances
    return _over_modules(stats, [spectrum.effective_rank(values) for values in stats.spectra])


def effective_rank_uncentred(stats: LayerStats) -> Float64[Array, "l"]:
    """Effective rank of the inputs' second moment E phi phi^T, which has their mean in it.

    Source: arXiv 2602.04019, whose Sigma it is.
    """
    assert stats.moments is not None  # noqa: S101  # the plan measured covariances
    return _over_modules(stats, [spectrum.effective_rank(values) for values in stats.moments])


def _over_modules(stats: LayerStats, values: Sequence[float] | np.ndarray) -> np.ndarray:
    """The mean over each block's modules of a value of their input; NaN for a block without any."""
    column = np.full(len(stats.blocks), np.nan)
    for row in {module.row for module in stats.modules}:
        column[row] = np.mean([values[m.source] for m in stats.modules if m.row == row])
    return column
