"""What one pass measured: frozen arrays, one axis each for examples, blocks and modules."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from layerwise.models.stack import BlockRef
from layerwise.shapes import Array, Float64, Int


@dataclass(frozen=True)
class AdaptedModule:
    """A module that a simulated adapter sat on.

    Attributes:
        name: Its qualified name.
        row: The position of its block among all blocks.
        source: Which distinct input it reads (query, key and value often share one).
        in_features: Width of its input.
        out_features: Width of its output.
    """

    name: str
    row: int
    source: int
    in_features: int
    out_features: int


@dataclass(frozen=True)
class LayerStats:
    """The sums of a pass, from which `signals` compute one number a block.

    Axes: n examples, l blocks, m adapted modules, s distinct inputs of those, r adapter rank, c
    columns of all draws of A (r each, draw after draw), g examples kept for the Gram matrices, b
    batches. None stands for what was not asked for.

    Attributes:
        blocks: The blocks, in the order in which they run.
        modules: The adapted modules, ordered by block.
        source_rows: The block of each distinct input.
        index: The position of each example in the data.
        losses: Loss of each example.
        tokens: Tokens of each example that count in the statistics of each block.
        column_energy: Squared norm of each column of each adapter's B gradient, per example.
        mean_column_energy: The same of the gradient averaged over examples.
        mean_gradient_products: Of that gradient, under the first draw: products of its columns.
        feature_products: Sum over counted tokens of products of what the first A makes of them.
        input_energy: Sum over counted tokens of the mean squared entry of each input.
        input_tokens: Counted tokens of each input (a cross-attention's are the encoder's).
        spectra: Eigenvalues of each input's token covariance, ascending, (d,) or (tokens,).
        moments: The same of each input's second moment, its mean left in.
        gram: Inner products of the examples' adapter gradients, per block.
        adam_gram: The same, each coordinate's product divided by its root mean square over
            examples: what an optimizer sees that scales each coordinate so.
        entropy: Sum over counted query tokens of attention entropy in nats, mean over heads.
        entropy_variance: Sampling variance of that sum; zero where every row was used.
        gradient_energy: Squared norm of the loss gradient at each block's output, per example.
        batch_tokens: Tokens of each batch, padding included: what the times are relative to.
        forward_seconds: Time in each block's forward, without the signals' own work.
        backward_seconds: Time in each block's backward, likewise.
        outside_seconds: Forward and backward time in no block.
        activation_bytes: Bytes that autograd kept for each block.
        seconds: Wall time of the pass.
        peak_memory_bytes: Largest memory in use during the pass.
        adapter_seconds: Time of each block's adapters in a batch of the mean size, forward and
            backward; timed apart.
        draws: Independent A that each adapter was simulated with.
        reading: Of the residual norm, one of `layerwise.capture.plan.READINGS`.
        seed: Of the pass; whatever is resampled from it draws by that.
        absent: Why a measurement cannot be had here, by its name in `MEASUREMENTS`.
        notes: What was done otherwise than by default.
    """

    blocks: tuple[BlockRef, ...]
    modules: tuple[AdaptedModule, ...]
    source_rows: Int[Array, "s"]
    index: Int[Array, "n"]
    losses: Float64[Array, "n"]
    tokens: Float64[Array, "n l"]
    batch_tokens: Float64[Array, "b"]
    forward_seconds: Float64[Array, "b l"]
    backward_seconds: Float64[Array, "b l"]
    outside_seconds: Float64[Array, "b 2"]
    activation_bytes: Float64[Array, "b l"]
    seconds: float
    peak_memory_bytes: int
    column_energy: Float64[Array, "n m c"] | None = None
    mean_column_energy: Float64[Array, "m c"] | None = None
    mean_gradient_products: Float64[Array, "m r r"] | None = None
    feature_products: Float64[Array, "m r r"] | None = None
    input_energy: Float64[Array, "n s"] | None = None
    input_tokens: Float64[Array, "n s"] | None = None
    spectra: tuple[np.ndarray, ...] | None = None
    moments: tuple[np.ndarray, ...] | None = None
    gram: Float64[Array, "l g g"] | None = None
    adam_gram: Float64[Array, "l g g"] | None = None
    entropy: Float64[Array, "n l"] | None = None
    entropy_variance: Float64[Array, "n l"] | None = None
    gradient_energy: Float64[Array, "n l"] | None = None
    adapter_seconds: Float64[Array, "l"] | None = None
    seed: int = 0
    draws: int = 1
    reading: str = "algorithm-1"
    absent: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
