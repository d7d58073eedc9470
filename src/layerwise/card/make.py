"""A model, some text and an objective in; a `LayerCard` out."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from layerwise.capture import LayerStats, Plan, capture
from layerwise.capture.adapters import adapter_seconds
from layerwise.card.describe import data_info, model_info
from layerwise.card.record import Agreement, CaptureInfo, LayerCard, LayerRow
from layerwise.data.text import TextData
from layerwise.models.linear import parameter_count
from layerwise.models.load import LoadedModel
from layerwise.models.parts import refuse_compiled_parts
from layerwise.models.quantisation import refuse_without_gradient
from layerwise.objectives import Objective
from layerwise.objectives.forward import refuse_too_long
from layerwise.objectives.length import fitted
from layerwise.progress import Progress, silent
from layerwise.provenance import collect
from layerwise.signals import COSTS, Signal, residual, select
from layerwise.signals.cost import outside_seconds, plain_step_seconds
from layerwise.signals.gain import DAMPING
from layerwise.signals.ranks import spearman_to

log = logging.getLogger(__name__)


def make_card(
    loaded: LoadedModel,
    data: TextData,
    objective: Objective,
    plan: Plan,
    *,
    signals: Sequence[Signal] | None = None,
    batch_size: int = 8,
    max_length: int | None = 128,
    progress: Progress = silent,
) -> LayerCard:
    """Return the Layer Card of `loaded` on `data` under `objective`, from one pass; no advice.

    Args:
        loaded: The model.
        data: The text.
        objective: What the loss is.
        plan: With which adapters, samples and seed; what is measured follows from the signals.
        signals: The columns beside the costs; all that are registered where None.
        batch_size: Examples a batch; changes time and memory, not the numbers.
        max_length: Tokens an example is cut at; what suits the examples where None.
        progress: Hears how far the pass is.

    Raises:
        LayerwiseError: What cannot be measured, and what to type instead.
    """
    length, data = fitted(loaded, data, objective, max_length)
    batches = objective.batches_for(
        loaded, data, batch_size=batch_size, max_length=length, seed=plan.seed
    )
    for note in batches.notes:
        log.warning("%s: %s", data.source, note)
    refuse_too_long(loaded.model, batches.batches)
    wanted = select() if signals is None else signals
    needs = (need for signal in wanted for need in signal.needs)
    plan = plan.measuring(("inputs", *needs))  # Which modules ran: a placement needs to know.
    refuse_without_gradient(loaded.model)
    refuse_compiled_parts(loaded.model, then="make the card")
    stats = capture(loaded, objective, batches.batches, plan, progress=progress)
    stats = replace(stats, adapter_seconds=_adapters(loaded, stats, plan))
    absent = {s.name: stats.absent[n] for s in wanted for n in s.needs if n in stats.absent}
    measured = [signal for signal in (*wanted, *COSTS.values()) if signal.name not in absent]
    columns = {key: values for s in measured for key, values in s.values(stats).items()}
    notes = (*loaded.notes, *data.notes, *batches.notes, *stats.notes)
    return LayerCard(
        model=model_info(loaded),
        data=data_info(data, batches, objective, max_length=length),
        capture=_capture_info(loaded, stats, plan, batch_size=batch_size, notes=notes),
        layers=_rows(loaded, stats, plan, columns),
        agreement=_agreement(stats, plan, columns.get("residual_norm")),
        provenance=collect(device=str(loaded.device)),
        absent=absent,
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
        draws=plan.draws,
        targets=tuple(sorted({m.name.rpartition(".")[2] for m in stats.modules})),
        seed=plan.seed,
        readout=plan.readout,
        residual=plan.reading,
        batch_size=batch_size,
        dtype=str(loaded.model.dtype).removeprefix("torch."),
        damping=DAMPING,
        entropy_rows=plan.entropy_rows,
        gram_examples=0 if stats.gram is None else stats.gram.shape[1],
        bootstrap=residual.REPLICATES,
        notes=tuple(dict.fromkeys(notes)),
    )


def _rows(
    loaded: LoadedModel, stats: LayerStats, plan: Plan, columns: Mapping[str, np.ndarray]
) -> tuple[LayerRow, ...]:
    numbers = {
        key: [None if np.isnan(v) else float(v) for v in values] for key, values in columns.items()
    }
    further = numbers.keys() - LayerRow.__dataclass_fields__.keys()
    rows = []
    for i, block in enumerate(stats.blocks):
        modules = [m for m in stats.modules if m.row == i]
        sizes = (plan.rank * (m.in_features + m.out_features) for m in modules)
        module = loaded.model.get_submodule(block.name)
        values: dict[str, Any] = {k: v[i] for k, v in numbers.items() if k not in further}
        row = LayerRow(
            stack=block.stack,
            index=block.index,
            name=block.name,
            adapter_parameters=sum(sizes),
            parameters=parameter_count(module),
            modules=tuple(m.name for m in modules),
            further={k: v for k in sorted(further) if (v := numbers[k][i]) is not None},
            **values,
        )
        rows.append(row)
    return tuple(rows)


def _adapters(loaded: LoadedModel, stats: LayerStats, plan: Plan) -> np.ndarray | None:
    """Return the seconds of each block's adapters in a batch of the pass's mean size, if any."""
    if not stats.modules:
        return None
    return adapter_seconds(
        stats.modules,
        blocks=len(stats.blocks),
        tokens=max(1, round(float(stats.batch_tokens.mean()))),
        rank=plan.rank,
        device=loaded.device,
        dtype=loaded.model.dtype,
    )


def _agreement(stats: LayerStats, plan: Plan, whole: np.ndarray | None) -> Agreement:
    """Return how stable the ranking by residual norm is over examples and over adapter ranks.

    Each rank has a draw of A of its own, as in table 2 of arXiv 2602.04019: nested ones agree more.
    """
    if whole is None:
        return Agreement()
    known = ~np.isnan(whole)
    replicates = residual.bootstrap(stats)[:, known]
    ranks = [r for r in (1, 4, 8) if r < plan.rank][: plan.draws - 1]
    every = enumerate((*ranks, plan.rank))
    smaller = np.stack([residual.one_draw(stats, draw, rank=r) for draw, r in every])
    pairs = [spearman_to(row, smaller[:, known]) for row in smaller[:, known]]
    return Agreement(
        bootstrap_spearman=float(np.median(spearman_to(whole[known], replicates))),
        rank_stability=float(np.min(pairs)) if ranks else None,
    )


def _arrays(stats: LayerStats) -> Mapping[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {"index": stats.index, "losses": stats.losses}
    if stats.gram is not None:
        arrays["gram"] = stats.gram
    if stats.adam_gram is not None:
        arrays["adam_gram"] = stats.adam_gram
    if stats.column_energy is not None:
        arrays["gradient_norms"] = residual.norms(stats, stats.column_energy).mean(2)
    if stats.spectra is not None:
        firsts = [
            next(m.name for m in stats.modules if m.source == s) for s in range(len(stats.spectra))
        ]
        arrays |= {f"spectrum/{name}": v for name, v in zip(firsts, stats.spectra, strict=True)}
    return arrays
