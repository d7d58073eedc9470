"""What to adapt, why, and what would make the answer surer."""

from dataclasses import replace

import numpy as np

from layerwise.card.record import Advice, LayerCard, Measurement, Stability
from layerwise.placement import ADVISED, WITHOUT_GAINS
from layerwise.placement.measured import nearest
from layerwise.placement.place import Choice, choose
from layerwise.placement.stability import BY_EXAMPLES, stability

#: The rank correlation below which a ranking is called unsure (transfer, docs/methods.md).
ENOUGH = 0.9
#: The width of an interval, over its value, above which it is called wide (ours).
WIDE = 0.3
#: Where the blocks of each advised policy lie.
_WHERE = {
    ADVISED: "chosen to lie near most of what all blocks would gain",
    WITHOUT_GAINS: "the middles of equal parts, what each would gain being unknown",
}
_UNTIL = ", the default until layerwise measure has compared placements of this model"
_SECOND = "make a second card on other text and hold it against this one: layerwise compare"
_RIVALS = (
    "train it beside its rivals, a low rank on all blocks among them, which gained more where that "
    "was tried (docs/evidence.md): layerwise measure with --card"
)


def advise(card: LayerCard, *, available: int | None = None) -> Advice:
    """Return the blocks near which the card's gains lie, and the figures behind that.

    The text of the card has `available` rows, None where that is not known. The verdict is ``flat``
    where no two blocks' residual norms are told apart by their intervals (or none were measured).

    Raises:
        PlacementError: No block can be adapted.
    """
    choice = choose(card)
    low, high = _intervals(card)
    flat = low.size == 0 or bool(low.max() <= high.min())  # One value lies in all of them.
    found = nearest(card, len(choice.rows))
    until = _UNTIL if found is None else ""
    where = f"{len(choice.rows)} of {len(card.layers)} blocks are {_WHERE[choice.policy]}{until}"
    compared = "" if found is None else f" {_compared(found)}"
    step = "what a step takes is unknown, since the card has no timings"
    if choice.cost is not None:
        step = f"a step takes {choice.cost.step_ratio:.2f} of one with all blocks"
    return Advice(
        verdict="flat" if flat else "place",
        layers=choice.rows,
        policy=choice.policy,
        reason=f"{_evidence(card, flat=flat)}; {where}; {step}.{compared}",
        remedies=_remedies(card, flat=flat, available=available),
        stability=_stability(card, choice),
    )


def _stability(card: LayerCard, choice: Choice) -> Stability | None:
    """Return how surely the advice follows from the examples; None where it does not go by them."""
    if choice.policy not in BY_EXAMPLES:
        return None
    return stability(card, choice.rows, again=lambda half: choose(half).rows)


def advise_again(card: LayerCard) -> Advice | None:
    """Return the advice of a `card` that was measured since it was given; None where none was."""
    if card.advice is None:
        return None
    remedies = tuple(remedy for remedy in card.advice.remedies if remedy != _RIVALS)
    return replace(advise(card), remedies=remedies)


def _compared(found: Measurement) -> str:
    """Return what fine-tuning placements found."""
    blocks = "1 block" if found.size == 1 else f"{found.size} blocks"
    told = found.finding or f"{found.regimes[0].name} came first of {len(found.regimes)}."
    return f"layerwise measure compared placements of {blocks}: {told}"


def _intervals(card: LayerCard) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends of the residual norms that have an interval."""
    low, high = card.column("residual_norm_low"), card.column("residual_norm_high")
    known = np.isfinite(low) & np.isfinite(high)
    return low[known], high[known]


def _evidence(card: LayerCard, *, flat: bool) -> str:
    low, high = _intervals(card)
    if low.size == 0:
        return "No residual norms with intervals were measured, so no block stands out"
    if flat:
        return (
            f"The residual-norm intervals of all {low.size} blocks share a value "
            f"({low.max():.3g} to {high.min():.3g}), so no two blocks are told apart"
        )
    low, high = card.column("residual_norm_low"), card.column("residual_norm_high")
    top, bottom = int(np.nanargmax(low)), int(np.nanargmin(high))
    return (
        f"The residual norm of {card.layers[top].name} (at least {low[top]:.3g}) is above that of "
        f"{card.layers[bottom].name} (at most {high[bottom]:.3g})"
    )


def _remedies(card: LayerCard, *, flat: bool, available: int | None) -> tuple[str, ...]:
    """Return what would make the advice surer, for the weakest link first; 1 is full confidence."""
    links = _examples(card, flat=flat, available=available)
    stability = card.agreement.rank_stability
    if stability is not None and stability < ENOUGH:
        why = f"rankings at several adapter ranks agree at {stability:.2f} only"
        rank = f"layerwise card with --rank {2 * card.capture.rank}"
        links.append((stability, f"measure at a larger rank ({why}): {rank}"))
    known = np.isfinite(card.column("attention_entropy")).any()
    if not known and "attention_entropy" not in card.absent:  # Else the model cannot have it.
        why = "ski placements cannot be compared without attention entropy"
        links.append((ENOUGH, f"measure all signals ({why}): layerwise card without --signals"))
    links.sort(key=lambda link: link[0])
    return (*(text for _, text in links), _SECOND, _RIVALS)


def _examples(card: LayerCard, *, flat: bool, available: int | None) -> list[tuple[float, str]]:
    """More examples, where the ranking or the intervals are unsure; 0 is no confidence."""
    low, high = _intervals(card)
    agreement = card.agreement.bootstrap_spearman
    width = float(np.median(2.0 * (high - low) / (high + low))) if np.any(high > 0.0) else 0.0
    reasons = [(0.0, "no two blocks are told apart")] if flat else []
    if agreement is not None and agreement < ENOUGH:
        reasons.append((agreement, f"resampled rankings agree at {agreement:.2f} only"))
    if width > WIDE:
        reasons.append((1.0 - width, f"intervals are {width:.0%} of their norm wide"))
    if not reasons:
        return []
    why = ", ".join(text for _, text in reasons)
    read = card.data.examples + card.data.dropped
    wanted = 4 * card.data.examples
    more = wanted if available is None else min(wanted, available)
    how = f"layerwise card with --examples {more}"
    if available is not None and available <= read:
        how = f"this one's {available:,} rows were all measured"
    return [(min(reasons)[0], f"measure more text ({why}): {how}")]
