"""What a card's own measurement found, and whether a placement follows it."""

from layerwise.card.record import LayerCard, Measurement
from layerwise.placement.record import Placement
from layerwise.placement.rows import resolve_rows


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
    count, first = len(found.regimes), found.regimes[0].name
    told += [f"{first} came first of {count}"]
    rows = set(resolve_rows(card, placement.blocks))
    same = [n for n, regime in enumerate(found.regimes) if set(regime.layers) == rows]
    own = "this placement has blocks that were not compared"
    if same:
        names = ", ".join(found.regimes[n].name for n in same)
        own = f"this placement has the blocks of {names}, number {same[0] + 1}"
    has_advised = "recommended" in {found.regimes[n].name for n in same}
    follows = {
        "better": "it follows that" if has_advised else "it does not follow that",
        "worse": "it does not follow that" if has_advised else "it follows that in leaving those",
    }.get(found.verdict or "", "there was nothing to follow")
    return f"{what}: {'; '.join(told)}; {own}: {follows}"
