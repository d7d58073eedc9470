"""From a pass's sums to `LayerStats`: only what ran, in order, with the reasons for the rest."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from layerwise.capture.plan import Plan
from layerwise.capture.stats import AdaptedModule, BlockName, LayerStats
from layerwise.capture.sums import PassSums
from layerwise.errors import ModelError
from layerwise.models.targets import Target

__all__ = ["to_stats"]


def to_stats(
    sums: PassSums,
    plan: Plan,
    *,
    blocks: Sequence[BlockName],
    targets: Sequence[Target],
    absent: Mapping[str, str],
    seconds: float,
    peak_memory_bytes: int,
    notes: Sequence[str],
) -> LayerStats:
    """Return the frozen result of a pass.

    Blocks and modules that never ran (a vision tower fed with text) are left out and noted.

    Raises:
        ModelError: No block, or no adapted module, ran at all.
    """
    examples, batches = sums.examples.result(), sums.batches.result()
    rows = np.flatnonzero(~np.isnan(batches["forward_seconds"]).all(0))
    ran = [m for m, t in enumerate(targets) if t.name in sums.leaders and t.row in set(rows)]
    if not len(rows) or (not ran and "inputs" in plan.needs):
        raise ModelError(
            "no block ran" if not len(rows) else "none of the adapted modules ran",
            value=", ".join(sorted({t.suffix for t in targets})),
            expected="modules that the forward calls",
            hint="--targets with other module names",
        )
    leaders = [m for m in ran if sums.leaders[targets[m].name] == targets[m].name]
    modules = _modules(targets, ran, leaders, sums, rows)
    measured = _measured(sums, plan, examples, targets, ran=ran, leaders=leaders, rows=rows)
    return LayerStats(
        blocks=tuple(blocks[int(row)] for row in rows),
        modules=modules,
        source_rows=np.searchsorted(rows, [targets[m].row for m in leaders]),
        index=examples["key"],
        losses=examples["losses"],
        tokens=examples["tokens"][:, rows],
        batch_tokens=batches["batch_tokens"],
        forward_seconds=batches["forward_seconds"][:, rows],
        backward_seconds=batches["backward_seconds"][:, rows],
        outside_seconds=batches["outside_seconds"],
        activation_bytes=batches["activation_bytes"][:, rows],
        seconds=seconds,
        peak_memory_bytes=peak_memory_bytes,
        seed=plan.seed,
        absent=_absent(measured, plan, absent),
        notes=(*notes, *_unheard(blocks, targets, rows=rows, ran=ran)),
        **measured,
    )


def _modules(
    targets: Sequence[Target],
    ran: Sequence[int],
    leaders: Sequence[int],
    sums: PassSums,
    rows: np.ndarray,
) -> tuple[AdaptedModule, ...]:
    source = {targets[m].name: s for s, m in enumerate(leaders)}
    return tuple(
        AdaptedModule(
            name=t.name,
            row=int(np.searchsorted(rows, t.row)),
            source=source[sums.leaders[t.name]],
            in_features=t.in_features,
            out_features=t.out_features,
        )
        for t in (targets[m] for m in ran)
    )


def _measured(
    sums: PassSums,
    plan: Plan,
    examples: Mapping[str, np.ndarray],
    targets: Sequence[Target],
    *,
    ran: Sequence[int],
    leaders: Sequence[int],
    rows: np.ndarray,
) -> dict[str, Any]:
    """Get the arrays that the plan asked for and that were heard, by their name in `LayerStats`."""
    found: dict[str, Any] = {}
    needs = plan.needs
    if "gradients" in needs:
        found["column_energy"] = examples["column_energy"][:, ran]
        found["mean_column_energy"] = _mean_energy(sums, targets, ran, len(examples["key"]))
    if "inputs" in needs:
        found["input_energy"] = examples["input_energy"][:, leaders]
        found["input_tokens"] = examples["input_tokens"][:, leaders]
    if "covariance" in needs:
        found["spectra"] = tuple(sums.inputs[targets[m].name].result() for m in leaders)
    if "gram" in needs:
        plain = {m: sums.kept[targets[m].name].result() for m in ran}
        scaled = {m: sums.kept[targets[m].name].scaled() for m in ran}
        found["gram"] = _by_block(plain, targets, rows)
        found["adam_gram"] = _by_block(scaled, targets, rows)
    if "entropy" in needs and not np.isnan(examples["entropy"][:, rows]).all():
        found["entropy"] = examples["entropy"][:, rows]
        found["entropy_variance"] = examples["entropy_variance"][:, rows]
    if "outputs" in needs and not np.isnan(examples["gradient_energy"][:, rows]).all():
        found["gradient_energy"] = examples["gradient_energy"][:, rows]
    return found


def _mean_energy(
    sums: PassSums, targets: Sequence[Target], ran: Sequence[int], n: int
) -> np.ndarray:
    means = (sums.gradients[targets[m].name].result() / n for m in ran)
    return np.stack([np.square(mean).sum(0) for mean in means])


def _by_block(
    parts: Mapping[int, np.ndarray], targets: Sequence[Target], rows: np.ndarray
) -> np.ndarray:
    """Return each block's Gram matrix: its adapter gradients are its modules' side by side."""
    size = next(iter(parts.values())).shape[0]
    total = np.zeros((len(rows), size, size))
    for m, part in parts.items():
        total[np.searchsorted(rows, targets[m].row)] += part
    return total


def _absent(
    measured: Mapping[str, object], plan: Plan, reasons: Mapping[str, str]
) -> dict[str, str]:
    """Return why each measurement that the plan asked for could not be had."""
    arrays = {"entropy": "entropy", "outputs": "gradient_energy"}
    return {
        need: reasons.get(need, "nothing was heard of it")
        for need, array in arrays.items()
        if need in plan.needs and array not in measured
    }


def _unheard(
    blocks: Sequence[BlockName],
    targets: Sequence[Target],
    *,
    rows: np.ndarray,
    ran: Sequence[int],
) -> list[str]:
    silent = sorted({b.stack for row, b in enumerate(blocks) if row not in set(rows)})
    idle = [t.name for m, t in enumerate(targets) if m not in set(ran) and t.row in set(rows)]
    notes = [f"no text runs through stack {stack}: its blocks are left out" for stack in silent]
    if idle:
        notes.append(f"{len(idle)} target modules never ran, the first {idle[0]}: left out")
    return notes
