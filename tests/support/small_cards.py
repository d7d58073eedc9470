"""Layer Cards small enough to work out by hand, for tests of placements."""

from dataclasses import replace

import numpy as np

from layerwise.card.record import (
    Agreement,
    CaptureInfo,
    DataInfo,
    LayerCard,
    LayerRow,
    ModelInfo,
    StackInfo,
)
from layerwise.provenance import Provenance

CAPTURE = CaptureInfo(
    seconds=1.0,
    peak_memory_bytes=1,
    plain_step_seconds=1.0,
    outside_forward_seconds=0.0,
    outside_backward_seconds=0.0,
    rank=8,
    targets=("q", "v"),
    seed=0,
    readout="residual",
    batch_size=8,
    dtype="float32",
    damping=0.1,
    entropy_rows=16,
    gram_examples=6,
    bootstrap=100,
)


def small_card(blocks=12, *, stacks=None, gram="planted", absent=None, model=None, **columns):
    """A card of `blocks` blocks (or of `stacks`), each of one second forward and one backward.

    A column is a value for all blocks or a list over them; None takes it away.
    """
    stacks = stacks or {"model.layers": blocks}
    places = [(name, i) for name, count in stacks.items() for i in range(count)]
    size = len(places)
    rows = tuple(
        replace(_row(stack, index), **{k: _at(v, r) for k, v in columns.items()})
        for r, (stack, index) in enumerate(places)
    )
    infos = tuple(StackInfo(n, c, "Block", "sequential") for n, c in stacks.items())
    planted = planted_gram(size) if isinstance(gram, str) else gram
    return LayerCard(
        model=model or ModelInfo("org/model", "Model", 1000, infos, revision="abc"),
        data=DataInfo("reviews.csv", "0" * 64, 64, 1000, "causal-lm"),
        capture=CAPTURE,
        layers=rows,
        agreement=Agreement(bootstrap_spearman=0.99, rank_stability=0.99),
        provenance=Provenance("0", "0", "0", "0", "0", None, "cpu", "layerwise card", "2026"),
        absent=absent or {},
        arrays={} if planted is None else {"gram": planted, "adam_gram": planted},
    )


def _at(value, row):
    return value[row] if isinstance(value, list | np.ndarray) else value


def _row(stack, index):
    """A block like all others but for signals that differ from block to block."""
    wave = float(np.sin(1.7 * index) + 2.0)
    name = f"{stack}.{index}"
    return LayerRow(
        stack=stack,
        index=index,
        name=name,
        adapter_parameters=80,
        residual_norm=wave,
        residual_norm_low=0.95 * wave,
        residual_norm_high=1.05 * wave,
        attention_entropy=float(np.cos(2.3 * index) + 2.0),
        activation_gradient=float(np.cos(1.1 * index) + 1.5),
        forward_seconds=1.0,
        backward_seconds=1.0,
        activation_bytes=100.0,
        modules=(f"{name}.attn.q", f"{name}.attn.v"),
        parameters=0,
    )


def planted_gram(size, *, examples=6, width=4, seed=0):
    """Gram matrices of random gradients, (size, examples, examples)."""
    rng = np.random.default_rng(seed)
    gradients = rng.normal(size=(size, examples, width)) + 0.2
    return np.einsum("lid,ljd->lij", gradients, gradients)
