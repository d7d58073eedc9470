"""From a pass's sums to `LayerStats`: only what ran, in order, with the reasons for the rest."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from layerwise.capture.plan import Plan
from layerwise.capture.stats import AdaptedModule, LayerStats
from layerwise.capture.sums import PassSums
from layerwise.errors import ModelError
from layerwise.models.stack import BlockRef
from layerwise.models.targets import Target


def to_stats(
    sums: PassSums,
    plan: Plan,
    *,
    blocks: Sequence[BlockRef],
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
    place = {int(row): i for i, row in enumerate(rows)}
    whole = sums.leaders.keys() - sums.unread  # Of a part of its calls there is no number.
    heard = [t.name in whole and t.row in place for t in targets]
    if "gradients" in plan.needs:  # NaN where unheard.
        learns = np.nan_to_num(examples["column_energy"]).any((0, 2))
        heard = [is_heard and bool(learns[m]) for m, is_heard in enumerate(heard)]
    ran = [m for m, is_heard in enumerate(heard) if is_heard]
    if not place or (not ran and "inputs" in plan.needs):
        what = "no block ran" if not place else "no adapted module learns from this text"
        why = _left_out([t.name for t in targets], sums) if place else {}
        raise ModelError(
            what + "".join(f"; {len(names)} {reason}" for reason, names in why.items()),
            value=", ".join(sorted({t.suffix for t in targets})),
            expected="modules that the forward calls with a row for each token",
            hint="--targets with other module names",
        )
    led = {sums.leaders[targets[m].name] for m in ran}  # One may itself be left out.
    leaders = [m for m, t in enumerate(targets) if t.name in led]
    source = {targets[m].name: s for s, m in enumerate(leaders)}
    modules = tuple(
        AdaptedModule(
            t.name, place[t.row], source[sums.leaders[t.name]], t.in_features, t.out_features
        )
        for t in (targets[m] for m in ran)
    )
    measured = _measured(sums, plan, examples, modules, ran=ran, leaders=leaders, rows=rows)
    if "covariance" in plan.needs:
        moments = [sums.inputs[targets[m].name] for m in leaders]
        measured["spectra"] = tuple(each.result() for each in moments)
        measured["moments"] = tuple(each.result(centred=False) for each in moments)
    reasons = {"entropy": "entropy", "outputs": "gradient_energy"}
    lacking = [n for n, array in reasons.items() if n in plan.needs and array not in measured]
    return LayerStats(
        blocks=tuple(blocks[row] for row in place),
        modules=modules,
        source_rows=np.array([place[targets[m].row] for m in leaders], dtype=np.int64),
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
        draws=plan.draws,
        reading=plan.reading,
        absent={need: absent.get(need, "nothing was heard of it") for need in lacking},
        notes=(*notes, *_unheard(blocks, targets, sums, place=place, ran=ran)),
        **measured,
    )


def _measured(
    sums: PassSums,
    plan: Plan,
    examples: Mapping[str, np.ndarray],
    modules: Sequence[AdaptedModule],
    *,
    ran: Sequence[int],
    leaders: Sequence[int],
    rows: np.ndarray,
) -> dict[str, Any]:
    """Get the arrays that the plan asked for and that were heard, by their name in `LayerStats`.

    `ran` and `leaders` are the columns of the modules that ran, and of the first on each input.
    """
    found: dict[str, Any] = {}
    needs = plan.needs
    if "gradients" in needs:
        means = [sums.gradients[m.name].result() / len(examples["key"]) for m in modules]
        found["column_energy"] = examples["column_energy"][:, ran]
        found["mean_column_energy"] = np.stack([np.square(mean).sum(0) for mean in means])
        own = (mean[:, : plan.rank] for mean in means)
        found["mean_gradient_products"] = np.stack([mean.T @ mean for mean in own])
        found["feature_products"] = np.stack([sums.features[m.name].result() for m in modules])
    if "inputs" in needs:
        found["input_energy"] = examples["input_energy"][:, leaders]
        found["input_tokens"] = examples["input_tokens"][:, leaders]
    if "gram" in needs:
        plain = [sums.kept[m.name].result() for m in modules]
        scaled = [sums.kept[m.name].scaled() for m in modules]
        # A block's adapter gradients are its modules' side by side.
        found["gram"], found["adam_gram"] = np.zeros((2, len(rows), *plain[0].shape))
        for m, module in enumerate(modules):
            found["gram"][module.row] += plain[m]
            found["adam_gram"][module.row] += scaled[m]
    for column in ("entropy", "entropy_variance") if "entropy" in needs else ():
        values = examples[column]
        if column in (weighed := sums.weighed.result()):
            values = np.where(np.isnan(values), weighed[column], values)
        if not np.isnan(values[:, rows]).all():
            found[column] = values[:, rows]
    if "outputs" in needs and not np.isnan(examples["gradient_energy"][:, rows]).all():
        found["gradient_energy"] = examples["gradient_energy"][:, rows]
    return found


def _unheard(
    blocks: Sequence[BlockRef],
    targets: Sequence[Target],
    sums: PassSums,
    *,
    place: Mapping[int, int],
    ran: Sequence[int],
) -> list[str]:
    """Return notes on what no text ran through, what is left out, and blocks that ran often."""
    silent = sorted({b.stack for row, b in enumerate(blocks) if row not in place})
    notes = [f"no text runs through stack {stack}: its blocks are left out" for stack in silent]
    out = [t.name for m, t in enumerate(targets) if m not in set(ran) and t.row in place]
    for reason, names in _left_out(out, sums).items():
        notes.append(f"{len(names)} target modules {reason}, the first {names[0]}: left out")
    often = {blocks[row].name: sums.runs.get(row, 1) for row in place}
    return notes + [
        f"block {name} runs {runs} times: its numbers are of all of them"
        for name, runs in often.items()
        if runs > 1
    ]


def _left_out(names: Sequence[str], sums: PassSums) -> dict[str, list[str]]:
    """Return the modules called `names` by why they are not measured."""
    ran = {name for name in names if name in sums.leaders.keys() - sums.unread}
    reasons = {
        "ran on other rows than one for each token": [n for n in names if n in sums.unread],
        "got no gradient: the loss does not depend on them": [n for n in names if n in ran],
        "never ran": [n for n in names if n not in sums.unread | ran],
    }
    return {reason: found for reason, found in reasons.items() if found}
