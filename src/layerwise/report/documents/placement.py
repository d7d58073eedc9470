"""A placement: which blocks, how they train, what a step costs, and whether that was verified."""

from collections.abc import Mapping

from layerwise.placement.record import Cost, Placement
from layerwise.report import blocks as b
from layerwise.report.documents import parts
from layerwise.report.numbers import counted, percent
from layerwise.report.words import shown

#: Modules that are listed whole on a terminal.
_FEW = 6


def document(placement: Placement) -> b.Document:
    """Return what `placement` says in few lines."""
    kinds = dict.fromkeys(name.rpartition(".")[2] for name in placement.modules)
    some = ", ".join(list(kinds)[:_FEW]) + (", …" if len(kinds) > _FEW else "")
    done, whole = placement.verified, placement.whole
    things = "tensors" if whole else "modules"
    verified = f"{done.matched} of {done.expected} {things}, and no other" if done else "not yet"
    revision = f" at {shown(placement.revision, limit=12)}" if placement.revision else ""
    pairs = [
        ("Adapters", "none: the blocks train whole" if whole else _adapters(placement)),
        ("Modules", "" if whole else f"{len(placement.modules):,}: {some}"),
        ("Trainable", f"{placement.trained:,} parameters"),
        ("Dropout", f"{placement.dropout:g}" if placement.dropout else ""),
        ("Verified", verified),
    ]
    policy = shown(placement.policy, limit=60)
    chosen = "Named by hand." if placement.policy == "manual" else f"Chosen by policy {policy}."
    return b.Document(
        "Placement",
        f"{shown(placement.model, limit=120)}{revision}",
        counted(len(placement.blocks), "block"),
        [
            b.Verdict(f"{_todo(placement)}.", [chosen]),
            parts.facts(pairs),
            *([cost_figures(placement.cost, whole=whole)] if placement.cost else []),
            *parts.noted(placement.notes),
            *([] if whole else [b.Heading("Every module", detail=True)]),
            parts.facts((str(n), name) for n, name in enumerate(placement.modules, start=1)),
        ],
    )


def placement_text(placement: Placement, labels: Mapping[str, str]) -> str:
    """Return what adapts which blocks, in one sentence."""
    where, policy = parts.block_names(placement.blocks, labels), shown(placement.policy, limit=60)
    told = f"{placement.trained:,} trainable parameters"
    if placement.whole:
        told = f"Policy {policy} trains {where} whole, without adapters: {told}"
    else:
        on = counted(len(placement.modules), "module")
        told = f"Policy {policy} adapts {where}: {_adapters(placement)}, {told} on {on}"
    done = placement.verified
    return f"{told}, {done.matched} of {done.expected} verified." if done else f"{told}."


def _todo(placement: Placement) -> str:
    """Return what to do with which blocks."""
    where = parts.block_names(placement.blocks)
    return f"Train {where} whole" if placement.whole else f"Adapt {where}"


def _adapters(placement: Placement) -> str:
    """Return the rank, what other ranks there are, and alpha."""
    others = ", ".join(map(str, sorted(set((placement.ranks or {}).values()))))
    told = f" (others: {others})" if others else ""
    return f"rank {placement.rank}{told}, alpha {placement.alpha}"


def cost_figures(cost: Cost, *, whole: bool = False) -> b.Figures:
    """Return what a step costs relative to adapters on all blocks, or to training all `whole`."""
    ratios = {
        "Training step": cost.step_ratio,
        "Backward pass": cost.backward_ratio,
        "Saved activations": cost.activation_ratio,
    }
    of = "of training all blocks whole" if whole else "of adapters on all blocks"
    return b.Figures([(name, percent(ratio), of) for name, ratio in ratios.items()])
