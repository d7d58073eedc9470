"""What was measured on one text, for a model on another: which policy did best there.

Source: docs/methods.md, transfer (arXiv 2602.04019): a reference card may stand for another where
the rankings of their blocks by residual norm agree.
"""

from dataclasses import dataclass
from statistics import fmean

from layerwise.card.record import LayerCard, MeasuredRegime, Measurement
from layerwise.errors import BadInputError
from layerwise.placement import GOALS, POLICIES
from layerwise.placement.compare import USABLE, compare
from layerwise.placement.measured import nearest

#: Regimes that are no policy of choosing some blocks.
_NO_CHOICE = {"all", "random"}


@dataclass(frozen=True)
class Transfer:
    """What a reference says to do.

    Attributes:
        policy: The policy that did best on the reference, of those that the goal allows; None for
            the advised one.
        goal: What that was bound by there; None where the policy was not.
        layers: How many blocks it was measured with.
        note: All of it in a sentence.
    """

    policy: str | None
    goal: str | None
    layers: int
    note: str


def transferred(
    card: LayerCard,
    reference: LayerCard,
    *,
    layers: int | None = None,
    goal: str | None = None,
) -> Transfer:
    """Return what was measured on `reference` for placements of `card`.

    Of several measurements, the one with the number of blocks nearest to `layers` counts, the
    latest on ties.

    Args:
        card: The card to place by.
        reference: Another card of the same model, with measured performance.
        layers: How many blocks are wanted; None leaves it to the reference.
        goal: How long a step may take, by what was measured; None has no bound.

    Raises:
        SchemaError: The reference is of another model.
        BadInputError: It has nothing measured that could serve, measured no difference, or is too
            different.
        UnknownNameError: There is no such goal.
    """
    rho = compare([reference, card]).pairs[0].spearman
    if rho < USABLE:
        message = "reference card too different: Spearman correlation of residual norms"
        raise BadInputError(
            message,
            value=round(rho, 3),
            expected=f"at least {USABLE}",
            hint="layerwise measure MODEL DATA --card CARD on this text",
        )
    found = nearest(reference, layers)
    if found is None:
        message = "reference card without measured performance"
        hint = "layerwise measure MODEL DATA --card CARD"
        raise BadInputError(message, value=reference.data.source, hint=hint)
    if found.verdict == "no difference":
        message = "reference card that measured no difference between placements"
        hint = "place without --reference: any placement of as many blocks did as well"
        raise BadInputError(
            message, value=found.finding, expected="a measured difference", hint=hint
        )
    best = _best(found, goal)
    policy = best.name if best.name in POLICIES else best.policy
    bound = best.name if best.name in GOALS else None
    return Transfer(policy, bound, found.size, _note(reference, found, best, rho))


def _best(found: Measurement, goal: str | None) -> MeasuredRegime:
    """Return the policy that improved most, of those whose steps the goal allows."""
    able = [regime for regime in found.regimes if _is_choice(regime)]
    if goal is not None:
        allowed = GOALS[goal]
        able = [r for r in able if r.step_ratio is not None and r.step_ratio <= allowed]
    if not able:
        message = "reference card without a measured policy that the goal allows"
        raise BadInputError(message, value=goal, expected="a policy among its regimes")
    return max(able, key=lambda regime: regime.improvement)


def _is_choice(regime: MeasuredRegime) -> bool:
    name = regime.name
    return name == "recommended" or name in GOALS or (name in POLICIES and name not in _NO_CHOICE)


def _note(reference: LayerCard, found: Measurement, best: MeasuredRegime, rho: float) -> str:
    others = [r.improvement for r in found.regimes if _is_choice(r) and r is not best]
    beside = f", {fmean(others):.3g} the mean of {len(others)} other policies" if others else ""
    return (
        f"policy {best.name} by the reference on {reference.data.source} (Spearman {rho:.3f}): "
        f"{best.improvement:.3g} better {found.quality} with {found.size} blocks{beside}"
    )
