"""A placement: which blocks, which adapters, what a step costs, and whether that was verified."""

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
    done = placement.verified
    verified = f"{done.matched} of {done.expected} modules, and no other" if done else "not yet"
    revision = f" at {shown(placement.revision, limit=12)}" if placement.revision else ""
    pairs = [
        ("Adapters", f"rank {_ranks(placement)}, alpha {placement.alpha}"),
        ("Modules", f"{len(placement.modules):,}: {some}"),
        ("Trainable", f"{placement.adapter_parameters:,} parameters"),
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
            b.Verdict(f"Adapt {parts.block_names(placement.blocks)}.", [chosen]),
            parts.facts(pairs),
            *([cost_figures(placement.cost)] if placement.cost else []),
            *parts.noted(placement.notes),
            b.Heading("Every module", detail=True),
            parts.facts((str(n), name) for n, name in enumerate(placement.modules, start=1)),
        ],
    )


def placement_text(placement: Placement, labels: Mapping[str, str]) -> str:
    """Return what adapts which blocks, in one sentence."""
    where, policy = parts.block_names(placement.blocks, labels), shown(placement.policy, limit=60)
    told = (
        f"Policy {policy} adapts {where}: rank {_ranks(placement)}, alpha {placement.alpha}, "
        f"{placement.adapter_parameters:,} trainable parameters on "
        f"{counted(len(placement.modules), 'module')}"
    )
    done = placement.verified
    return f"{told}, {done.matched} of {done.expected} verified." if done else f"{told}."


def _ranks(placement: Placement) -> str:
    """Return the rank, and what other ranks there are."""
    others = sorted(set((placement.ranks or {}).values()))
    rank = str(placement.rank)
    return f"{rank} (others: {', '.join(map(str, others))})" if others else rank


def cost_figures(cost: Cost) -> b.Figures:
    """Return what a step costs relative to adapters on all blocks."""
    ratios = {
        "Training step": cost.step_ratio,
        "Backward pass": cost.backward_ratio,
        "Saved activations": cost.activation_ratio,
    }
    of = "of adapters on all blocks"
    return b.Figures([(name, percent(ratio), of) for name, ratio in ratios.items()])
