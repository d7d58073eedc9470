"""What a card's own measurement found, and whether a placement follows it."""

from layerwise.card.record import LayerCard, Measurement
from layerwise.placement.record import Placement
from layerwise.placement.rows import resolve_rows

#: The arm whose adapters are larger than the budget: what the others are held against.
_LARGER = "all"


def nearest(card: LayerCard, size: int | None) -> Measurement | None:
    """Return the measurement of `card` whose number of blocks is nearest to `size`.

    The latest on ties, or where `size` is None; None where the card has none.
    """
    latest = [found for found in reversed(card.measured or ()) if found.regimes]
    return min(latest, key=lambda m: 0 if size is None else abs(m.size - size), default=None)


def measured_note(card: LayerCard, placement: Placement) -> str | None:
    """Return in a line what was measured on `card`, and whether `placement` follows that.

    None where nothing was measured.
    """
    found = nearest(card, len(placement.blocks))
    if found is None:
        return None
    seeds = "1 seed" if found.seeds == 1 else f"{found.seeds} seeds"
    blocks = "1 block" if found.size == 1 else f"{found.size} blocks"
    what = f"layerwise measure compared adapters of rank {found.rank} on {blocks} ({seeds})"
    told = [found.finding.rstrip(".")] if found.finding else []
    equal = [regime.name for regime in found.regimes if regime.name != _LARGER]
    told += [f"{equal[0]} came first of {len(equal)}"] if equal else []
    rows = set(resolve_rows(card, placement.blocks))
    same = [regime.name for regime in found.regimes if set(regime.layers) == rows]
    own = "this placement has blocks that were not compared"
    if same:
        own = f"this placement has the blocks of {', '.join(same)}"
        numbers = [equal.index(name) + 1 for name in same if name in equal]
        own += f", number {numbers[0]}" if numbers else ""
    has_advised = "recommended" in same
    follows = {
        "better": "it follows that" if has_advised else "it does not follow that",
        "worse": "it does not follow that" if has_advised else "it follows that",
    }.get(found.verdict or "", "there was nothing to follow")
    return f"{what}: {'; '.join(told)}; {own}: {follows}"
