"""How a run went, out of its log."""

import logging
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from layerwise.errors import BadInputError
from layerwise.models.linear import parameter_count
from layerwise.tuning.groups import LayerGroup
from layerwise.tuning.record import GroupRecord, TuneOutcome, TuneSettings
from layerwise.tuning.steplog import EVALUATED, Entry

log = logging.getLogger(__name__)


def outcome(
    settings: TuneSettings,
    entries: Sequence[Entry],
    *,
    examples: int,
    rows: int,
    seconds: float,
    peak_memory_bytes: int,
    processes: int,
    resumed_from: int | None,
) -> TuneOutcome:
    """Return the outcome of a run whose log is `entries`, over training `examples` in `rows`."""
    losses = [e["loss"] for e in entries if "loss" in e]
    evaluated = [_evaluated(e) for e in entries if "eval_loss" in e] or [(None, {})]
    (first_loss, first_quality), (last_loss, last_quality) = evaluated[0], evaluated[-1]
    seen = settings.steps * settings.batch_size * settings.accumulation * processes
    return TuneOutcome(
        steps=settings.steps,
        examples=seen * examples // rows,
        epochs=seen / rows,
        loss=float(np.mean(losses[-max(1, len(losses) // 10) :])),
        first_loss=losses[0],
        seconds=seconds,
        peak_memory_bytes=peak_memory_bytes,
        processes=processes,
        eval_loss=last_loss,
        first_eval_loss=first_loss,
        quality=last_quality,
        first_quality=first_quality,
        resumed_from=resumed_from,
    )


def _evaluated(entry: Entry) -> tuple[float | None, dict[str, float]]:
    """Return the loss of an evaluation, and its other figures by name."""
    found = {k.removeprefix(EVALUATED): v for k, v in entry.items() if k.startswith(EVALUATED)}
    return found.pop("loss"), found


def group_records(
    model: nn.Module,
    groups: Sequence[LayerGroup],
    factors: Mapping[str, float],
    settings: TuneSettings,
    entries: Sequence[Entry],
) -> tuple[GroupRecord, ...]:
    """Return each layer group with its size, its rate and the steps that it made."""
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    found = []
    for group in groups:
        trained = [n for n in group.parameters if n in factors]
        measured = (entry.get("step_ratio", {}) for entry in entries)
        ratios = [steps[group.name] for steps in measured if group.name in steps]
        low, middle, high = np.percentile(ratios, [5, 50, 95]).tolist() if ratios else (None,) * 3
        rates = [factors[n] * (settings.learning_rate or 0.0) for n in trained]
        found.append(
            GroupRecord(
                name=group.name,
                row=group.row,
                parameters=_size(model, group, sizes),
                trained=sum(sizes[n] for n in trained),
                learning_rate=max(rates, default=None),
                step_ratio=middle,
                step_ratio_low=low,
                step_ratio_high=high,
            )
        )
    return tuple(found)


def _size(model: nn.Module, group: LayerGroup, sizes: Mapping[str, int]) -> int:
    """Count the numbers of a group's weights; quantised ones lie in blocks alone."""
    if group.module:
        return parameter_count(model.get_submodule(group.module))
    return sum(sizes[n] for n in group.parameters)


def matched_tau(entries: Sequence[Mapping[str, Any]], *, steps: int) -> float:
    """Get the median relative step over layer groups and the first `steps` steps of a standard run.

    Raises:
        BadInputError: No group moved in any of them.
    """
    first = [e["step_ratio"] for e in entries if "step_ratio" in e and e["step"] <= steps]
    moved = [ratio for made in first for ratio in made.values() if ratio]
    if not moved:
        message = "steps to match"
        raise BadInputError(message, value="no group moved", expected="measured steps")
    tau = statistics.median(moved)
    log.info("tau matched to %.3g over %d steps of standard", tau, len(first))
    return tau
