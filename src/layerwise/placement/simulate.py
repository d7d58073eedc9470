"""One measured card as the user's own, the others as references: what would they have advised?

Source: arXiv 2602.04019, table 6. What was measured on the target is looked up, never used.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from layerwise.card.record import LayerCard, MeasuredRegime, Measurement
from layerwise.placement import POLICIES
from layerwise.placement.measured import nearest

_ALL = "all"


@dataclass(frozen=True)
class SimulatedTransfer:
    """What a policy did on a card, of those that were measured on all of the others too.

    Attributes:
        target: The card's position.
        policy: The policy.
        drop: The share of what all blocks improve that it loses there; below 0 it gained more.
        speedup: How much more steps it does in the same time, as a share; None without step times.
        picked: Whether the references pick it: for ``quality``, the one of the least mean drop
            there, for ``cost`` of the most mean speedup; else empty.
    """

    target: int
    policy: str
    drop: float
    speedup: float | None
    picked: str = ""


def simulated(cards: Sequence[LayerCard]) -> tuple[SimulatedTransfer, ...]:
    """Return the transfers among `cards`; none where fewer than two have measured policies."""
    tables = {i: found for i, card in enumerate(cards) if (found := _table(card))}
    if len(tables) < 2:
        return ()
    return tuple(row for target in tables for row in _rows(target, tables))


def _rows(target: int, tables: Mapping[int, "_Table"]) -> Iterator[SimulatedTransfer]:
    others = [table for i, table in tables.items() if i != target]
    shared = [p for p in tables[target] if all(p in table for table in others)]
    drops = {p: fmean(table[p][0] for table in others) for p in shared}
    speeds = {p: [table[p][1] for table in others] for p in shared}
    gained = {
        p: fmean(s for s in own if s is not None) for p, own in speeds.items() if None not in own
    }
    picked = {min(drops, key=drops.__getitem__): "quality"} if drops else {}
    if gained:
        fastest = max(gained, key=gained.__getitem__)
        picked[fastest] = " and ".join(filter(None, [picked.get(fastest, ""), "cost"]))
    for policy in shared:
        drop, speedup = tables[target][policy]
        yield SimulatedTransfer(target, policy, drop, speedup, picked.get(policy, ""))


_Table = Mapping[str, tuple[float, float | None]]


def _table(card: LayerCard) -> _Table:
    """Return the drop and the speedup of each policy of a card's latest measurement."""
    found = nearest(card, None)
    whole = None if found is None else _regime(found, _ALL)
    if found is None or whole is None or not whole.improvement > 0.0:
        return {}
    return {
        regime.name: (
            1.0 - regime.improvement / whole.improvement,
            1.0 / regime.step_ratio - 1.0 if regime.step_ratio else None,
        )
        for regime in found.regimes
        if regime.name in POLICIES and regime.name not in {_ALL, "random"}
    }


def _regime(found: Measurement, name: str) -> MeasuredRegime | None:
    return next((regime for regime in found.regimes if regime.name == name), None)
