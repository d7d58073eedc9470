"""Pure functions: what a pass measured in, one number a block out."""

from collections.abc import Callable

from layerwise.capture.stats import LayerStats
from layerwise.registry import Registry
from layerwise.shapes import Array, Float64
from layerwise.signals.cost import activation_bytes, backward_seconds, forward_seconds
from layerwise.signals.inputs import activation_energy, effective_rank
from layerwise.signals.residual import coherence, residual_norm
from layerwise.signals.saturation import (
    activation_gradient,
    attention_entropy,
    attention_entropy_error,
)

__all__ = ["COLUMNS", "Column"]

#: One number a block, (l,); NaN where a block has none.
Column = Callable[[LayerStats], Float64[Array, "l"]]

#: The columns of a card that are functions of one pass, by their name in `card.json`.
COLUMNS: Registry[Column] = Registry("signal")
COLUMNS.add("residual_norm", residual_norm)
COLUMNS.add("coherence", coherence)
COLUMNS.add("activation_energy", activation_energy)
COLUMNS.add("effective_rank", effective_rank)
COLUMNS.add("attention_entropy", attention_entropy)
COLUMNS.add("attention_entropy_error", attention_entropy_error)
COLUMNS.add("activation_gradient", activation_gradient)
COLUMNS.add("forward_seconds", forward_seconds)
COLUMNS.add("backward_seconds", backward_seconds)
COLUMNS.add("activation_bytes", activation_bytes)
