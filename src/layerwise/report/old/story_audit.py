"""What an audit of an adapter says, in words: what a user needs first, first."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from layerwise.placement.record import PlacedBlock
from layerwise.profile.audit_record import Audit, BlockAudit, CardPlacement, ModuleAudit
from layerwise.report.old.story import number, percent
from layerwise.report.old.text import counted, plural, ranges, shown

__all__ = ["audit_headline", "audit_sentences", "block_names", "part", "rank_text"]

#: A share of wasted parameters from which on it is worth a word (ours).
_MUCH = 0.005


def audit_headline(audit: Audit) -> str:
    """What the adapter is, in one line."""
    kinds = ", ".join(audit.kinds) or "Adapter"
    count, outside = len(audit.modules), sum(m.index is None for m in audit.modules)
    beyond = f" and {outside} outside blocks" if outside else ""
    inside = counted(count - outside, "module")
    blocks = counted(len(audit.blocks), "block")
    return (
        f"{shown(kinds, limit=60)}: {inside} in {blocks}{beyond}, {rank_text(audit)}, "
        f"{audit.parameters:,} parameters."
    )


def rank_text(audit: Audit) -> str:
    """The ranks of the adapters: one, or from the least to the largest."""
    ranks = sorted({m.rank // m.experts for m in audit.modules})
    if not ranks:
        return "no rank"
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"


def audit_sentences(audit: Audit) -> Mapping[str, str]:
    """What to know of the adapter, by a word each, the most urgent first."""
    told = {
        "Dead": _dead(audit),
        "Rank": _rank(audit),
        "Size": _size(audit),
        "On inputs": _on_inputs(audit),
        "Card": "" if audit.card is None else _card(audit.card, len(audit.blocks)),
        "Not read": _unread(audit),
    }
    return {word: sentence for word, sentence in told.items() if sentence}


def part(share: float) -> str:
    """A share in percent, with three significant digits."""
    return f"{number(100.0 * share)} %"


def _dead(audit: Audit) -> str:
    count, dead = len(audit.modules), len(audit.dead)
    if not count:
        return ""
    if not dead:
        return "No adapter is dead: each changes its weight."
    if dead == count:
        return "All adapters are dead: the model is its base."
    where = block_names(PlacedBlock(b.stack, b.index) for b in audit.blocks if b.dead)
    inside = f", in {where}" if where else ""
    return f"{dead} of {count} adapters are dead, they change nothing{inside}."


def block_names(blocks: Iterable[PlacedBlock]) -> str:
    """Blocks as people write them (``"blocks 0, 3–7"``), by stack where there are several."""
    found: dict[str, list[int]] = {}
    for block in blocks:
        found.setdefault(block.stack, []).append(block.index)
    several = len(found) > 1
    return " and ".join(
        f"{plural('block', len(set(indices)))} {ranges(indices)}"
        + (f" of {shown(stack, limit=40)}" if several else "")
        for stack, indices in found.items()
    )


def _rank(audit: Audit) -> str:
    if len(audit.dead) == len(audit.modules):
        return ""
    typical = median(m.rank for m in audit.modules)
    used = (
        f"Of {typical:g} directions the median adapter holds 90 % of its update in "
        f"{audit.energy_rank_90:g} (stable rank {number(audit.stable_rank)}, effective rank "
        f"{number(audit.effective_rank)}); rank {audit.enough_rank} would do for nine in ten"
    )
    if audit.wasted_share < _MUCH:
        return f"{used}."
    wasted = "are dead or in directions that hold the last 1 % of an update"
    return f"{used}. {percent(audit.wasted_share)} of the parameters {wasted}."


def _size(audit: Audit) -> str:
    if audit.relative_norm is None or not audit.blocks:
        return ""
    known = [(b, b.relative_norm) for b in audit.blocks if b.relative_norm is not None]
    told = f"The update is {part(audit.relative_norm)} of the weights that it adapts"
    return f"{told}{_from_to(known)}{_rescaled(audit.modules)}{_dominant(audit.modules)}."


def _rescaled(modules: Sequence[ModuleAudit]) -> str:
    """Under DoRA, how far the weights went in all."""
    whole = [m.whole_relative_norm for m in modules if m.whole_relative_norm is not None]
    if not whole:
        return ""
    return f"; with DoRA's magnitudes the median weight changed by {part(median(whole))}"


def _from_to(known: Sequence[tuple[BlockAudit, float]]) -> str:
    """From which block to which a share goes; nothing where there is one block."""
    if len(known) < 2:
        return ""
    least, most = (end(known, key=lambda pair: pair[1]) for end in (min, max))
    first, last = part(least[1]), part(most[1])
    return f", from {first} in block {least[0].index} to {last} in block {most[0].index}"


def _dominant(modules: Sequence[ModuleAudit]) -> str:
    known = [(m.dominance, m.name) for m in modules if m.dominance is not None]
    if not known or not max(known)[0]:
        return ""
    most, name = max(known)
    over = "; it outweighs it" if most > 1.0 else ""
    return (
        f". By largest singular values it is {number(most)} of its weight at most, "
        f"in {shown(name, limit=80)}{over}"
    )


def _on_inputs(audit: Audit) -> str:
    """What weights alone cannot tell."""
    known = [(b, b.output_change) for b in audit.blocks if b.output_change is not None]
    if not known:
        return ""
    pairs = ((m.output_change, m.whole_relative_norm or m.relative_norm) for m in audit.modules)
    ratios = [change / size for change, size in pairs if change and size]
    middle = median(change for _, change in known)
    told = (
        f"On the probes the outputs of adapted modules change by {part(middle)} in the median block"
    )
    told += _from_to(known)
    if ratios:
        told += f", {number(median(ratios))} times what the weights' norms would suggest"
    if audit.depth_agreement is not None:
        told += f". Size and effect rank the blocks alike at Spearman {audit.depth_agreement:.2f}"
    return f"{told}."


def _card(card: CardPlacement, adapted: int) -> str:
    """Where the card would have placed as many, and what that would have cost."""
    wanted = block_names(card.blocks)
    some = f"the adapter is on {card.shared} of these, not on {block_names(card.missed)}"
    have = some if card.missed else "the adapter is there"
    more = f", and on {len(card.elsewhere)} more" if card.elsewhere else ""
    told = f"The card ({card.policy}) would have taken {wanted}; {have}{more}"
    told += f". What both have holds {percent(card.norm_share)} of the update's squared norm"
    if card.step_ratio is not None and card.adapter_step_ratio is not None:
        told += (
            f". A step there takes {card.step_ratio:.2f} of one with all blocks, the adapter's "
            f"{card.adapter_step_ratio:.2f}"
        )
    if card.spearman is not None:
        told += (
            f". Residual norm and update rank its {adapted} blocks alike at Spearman "
            f"{card.spearman:.2f}"
        )
    return f"{told}."


def _unread(audit: Audit) -> str:
    """Adapted modules that are not in the figures."""
    told = []
    if audit.unread:
        why = shown(next(iter(audit.unread.values())), limit=120)
        told.append(f"{len(audit.unread)} adapted modules are not products B A ({why}).")
    if audit.saved_modules:
        names = shown(", ".join(audit.saved_modules), limit=120)
        told.append(f"Trained and saved whole: {names}.")
    return " ".join(told)
