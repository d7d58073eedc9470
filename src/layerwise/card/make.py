"""A model, some text and an objective in; a `LayerCard` out."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from layerwise.capture import LayerStats, Plan, capture
from layerwise.capture.adapters import adapter_seconds
from layerwise.card.describe import data_info, model_info
from layerwise.card.record import Agreement, CaptureInfo, LayerCard, LayerRow
from layerwise.data.text import TextData
from layerwise.models.load import LoadedModel
from layerwise.objectives import Objective
from layerwise.objectives.forward import refuse_too_long
from layerwise.progress import Progress, silent
from layerwise.provenance import collect
from layerwise.signals import COLUMNS, residual
from layerwise.signals.cost import outside_seconds, plain_step_seconds
from layerwise.signals.gain import DAMPING, single_gains
from layerwise.signals.residual import residual_norm

__all__ = ["make_card"]

log = logging.getLogger(__name__)

#: Bootstrap replicates: enough for a 95 % interval whose ends move by a percent (ours).
REPLICATES = 1000

#: Columns that no `--signals` leaves out: what a placement costs comes from them.
COSTS = ("forward_seconds", "backward_seconds", "activation_bytes")


def make_card(
    loaded: LoadedModel,
    data: TextData,
    objective: Objective,
    plan: Plan,
    *,
    batch_size: int = 8,
    max_length: int = 128,
    progress: Progress = silent,
) -> LayerCard:
    """The Layer Card of `loaded` on `data` under `objective`, from one pass; without advice.

    Args:
        loaded: The model.
        data: The text.
        objective: What the loss is.
        plan: What to measure, and with which adapters, samples and seed.
        batch_size: Examples a batch; changes time and memory, not the numbers.
        max_length: Tokens an example is cut at.
        progress: Hears how far the pass is.

    Raises:
        LayerwiseError: What cannot be measured, and what to type instead.
    """
    batches = objective.batches_for(
        loaded, data, batch_size=batch_size, max_length=max_length, seed=plan.seed
    )
    for note in batches.notes:
        log.warning("%s: %s", data.source, note)
    refuse_too_long(loaded.model, batches.batches)
    stats = capture(loaded, objective, batches.batches, plan, progress=progress)
    replicates = _replicates(stats, plan)
    notes = (*loaded.notes, *data.notes, *batches.notes, *stats.notes)
    return LayerCard(
        model=model_info(loaded),
        data=data_info(data, batches, objective, max_length=max_length),
        capture=_capture_info(loaded, stats, plan, batch_size=batch_size, notes=notes),
        layers=_rows(loaded, stats, plan, replicates),
        agreement=_agreement(stats, plan, replicates),
        provenance=collect(device=str(next(loaded.model.parameters()).device)),
        absent=stats.absent or {},
        arrays=_arrays(stats),
    )


def _capture_info(
    loaded: LoadedModel, stats: LayerStats, plan: Plan, *, batch_size: int, notes: Sequence[str]
) -> CaptureInfo:
    forward, backward = outside_seconds(stats)
    return CaptureInfo(
        seconds=stats.seconds,
        peak_memory_bytes=stats.peak_memory_bytes,
        plain_step_seconds=plain_step_seconds(stats),
        outside_forward_seconds=float(forward),
        outside_backward_seconds=float(backward),
        rank=plan.rank,
        targets=tuple(sorted({m.name.rpartition(".")[2] for m in stats.modules})),
        seed=plan.seed,
        readout=plan.readout,
        batch_size=batch_size,
        dtype=str(loaded.model.dtype).removeprefix("torch."),
        damping=DAMPING,
        entropy_rows=plan.entropy_rows,
        gram_examples=0 if stats.gram is None else stats.gram.shape[1],
        bootstrap=REPLICATES,
        notes=tuple(dict.fromkeys(notes)),
    )


def _replicates(stats: LayerStats, plan: Plan) -> np.ndarray | None:
    """Bootstrap replicates of the residual norms, (replicates, l); None where not measured."""
    if "residual_norm" not in plan.signals:
        return None
    return residual.bootstrap(stats, replicates=REPLICATES, seed=plan.seed)


def _columns(stats: LayerStats, plan: Plan, replicates: np.ndarray | None) -> dict[str, np.ndarray]:
    """Every column that the plan asked for and the pass could measure, (l,) each."""
    absent = stats.absent or {}
    wanted = [name for name in plan.signals if name not in absent and name in COLUMNS]
    columns = {name: COLUMNS[name](stats) for name in (*wanted, *COSTS)}
    if "attention_entropy" in columns:
        columns["attention_entropy_error"] = COLUMNS["attention_entropy_error"](stats)
    if replicates is not None:
        low, high = residual.interval(replicates)
        columns |= {"residual_norm_low": low, "residual_norm_high": high}
    if "gain" in plan.signals and stats.gram is not None:
        columns["gain"] = single_gains(stats.gram, damping=DAMPING)
    return columns


def _rows(
    loaded: LoadedModel, stats: LayerStats, plan: Plan, replicates: np.ndarray | None
) -> tuple[LayerRow, ...]:
    measured = _columns(stats, plan, replicates)
    if stats.modules:
        measured["adapter_seconds"] = _adapters(loaded, stats, plan)
    columns = {name: _optional(values) for name, values in measured.items()}
    rows = []
    for i, block in enumerate(stats.blocks):
        modules = [m for m in stats.modules if m.row == i]
        sizes = (plan.rank * (m.in_features + m.out_features) for m in modules)
        module = loaded.model.get_submodule(block.name)
        values: dict[str, Any] = {name: column[i] for name, column in columns.items()}
        row = LayerRow(
            stack=block.stack,
            index=block.index,
            name=block.name,
            adapter_parameters=sum(sizes),
            parameters=sum(p.numel() for p in module.parameters()),
            modules=tuple(m.name for m in modules),
            **values,
        )
        rows.append(row)
    return tuple(rows)


def _adapters(loaded: LoadedModel, stats: LayerStats, plan: Plan) -> np.ndarray:
    """Seconds of each block's adapters in a batch of the pass's mean size."""
    first = next(loaded.model.parameters())
    return adapter_seconds(
        stats.modules,
        blocks=len(stats.blocks),
        tokens=max(1, round(float(stats.batch_tokens.mean()))),
        rank=plan.rank,
        device=first.device,
        dtype=first.dtype,
    )


def _optional(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(v) else float(v) for v in values]


def _agreement(stats: LayerStats, plan: Plan, replicates: np.ndarray | None) -> Agreement:
    """How stable the ranking by residual norm is over examples and over adapter ranks."""
    if replicates is None:
        return Agreement()
    whole = residual_norm(stats)
    known = ~np.isnan(whole)
    ranks = [r for r in (1, 4, 8) if r < plan.rank]
    smaller = np.stack([residual_norm(stats, rank=r) for r in (*ranks, plan.rank)])[:, known]
    pairs = [residual.spearman_to(row, smaller) for row in smaller]
    return Agreement(
        bootstrap_spearman=float(
            np.median(residual.spearman_to(whole[known], replicates[:, known]))
        ),
        rank_stability=float(np.min(pairs)) if ranks else None,
    )


def _arrays(stats: LayerStats) -> Mapping[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {"index": stats.index, "losses": stats.losses}
    if stats.gram is not None:
        arrays["gram"] = stats.gram
    if stats.adam_gram is not None:
        arrays["adam_gram"] = stats.adam_gram
    if stats.column_energy is not None:
        arrays["gradient_norms"] = np.sqrt(stats.column_energy.sum(-1))
    if stats.spectra is not None:
        firsts = [
            next(m.name for m in stats.modules if m.source == s) for s in range(len(stats.spectra))
        ]
        arrays |= {f"spectrum/{name}": v for name, v in zip(firsts, stats.spectra, strict=True)}
    return arrays
