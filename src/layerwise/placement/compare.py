"""Cards of one model against each other: does one's ranking of blocks hold for the other?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from layerwise.card.record import LayerCard, ModelInfo
from layerwise.errors import BadInputError, SchemaError
from layerwise.placement.gain import predicted_gain
from layerwise.placement.place import choose
from layerwise.placement.simulate import SimulatedTransfer, simulated
from layerwise.records import DocumentRecord
from layerwise.signals.ranks import partial_spearman, spearman

#: The agreement at which one card may stand for another.
USABLE = 0.9


@dataclass(frozen=True)
class PairAgreement:
    """The agreement of two cards, by their positions.

    Attributes:
        first: The one's position.
        second: The other's.
        spearman: Rank correlation of their residual norms.
        usable: Whether that is enough for one to be the reference of the other, after [C].
        detrended: The same with the depth of the blocks held fixed; None where one card ranks its
            blocks by depth alone, so that nothing is left.
        advised: How many blocks the other's advice has, for `first` and for `second`; None where
            one has no gains to advise by.
        common: How many of these each card's own advice of as many blocks has too.
        costs: The share of what each predicts for its own advice that it loses by the other's.
    """

    first: int
    second: int
    spearman: float
    usable: bool
    detrended: float | None = None
    advised: tuple[int, int] | None = None
    common: tuple[int, int] | None = None
    costs: tuple[float, float] | None = None


@dataclass(frozen=True)
class Comparison(DocumentRecord):
    """The agreement of every pair of some cards.

    Attributes:
        model: The source of the model that they are of.
        data: The text and objective of each card.
        pairs: Every pair once, the lower position first.
        threshold: The agreement from which on a pair is usable.
        transfers: What the others would have advised for each card, where they are measured.
    """

    DOCUMENT = "comparison"

    model: str
    data: tuple[str, ...]
    pairs: tuple[PairAgreement, ...]
    threshold: float
    transfers: tuple[SimulatedTransfer, ...] = ()


def compare(cards: Sequence[LayerCard], *, threshold: float = USABLE) -> Comparison:
    """Return the rank agreement of the residual norms of each pair of `cards`.

    Source: docs/methods.md, transfer (arXiv 2602.04019).

    Raises:
        BadInputError: There are fewer than two cards, or one has no residual norms.
        SchemaError: A card is of another model than the first.
    """
    if len(cards) < 2:
        msg = "cards to compare"
        raise BadInputError(msg, value=len(cards), expected="at least 2", hint="compare CARD CARD")
    for card in cards[1:]:
        refuse_another_model(cards[0].model, card.model)
    norms = [card.column("residual_norm") for card in cards]
    for card, values in zip(cards, norms, strict=True):
        if not np.isfinite(values).all():
            msg = "card without residual norms of every block"
            raise BadInputError(msg, value=card.data.source, hint="make it with all signals")
    pairs = [
        _agreement(i, j, cards=cards, threshold=threshold)
        for i, j in combinations(range(len(cards)), 2)
    ]
    data = tuple(f"{card.data.source} ({card.data.objective})" for card in cards)
    return Comparison(cards[0].model.source, data, tuple(pairs), threshold, simulated(cards))


def _agreement(i: int, j: int, *, cards: Sequence[LayerCard], threshold: float) -> PairAgreement:
    first, second = cards[i], cards[j]
    a, b = (card.column("residual_norm") for card in (first, second))
    rho, detrended = spearman(a, b), partial_spearman(a, b, np.arange(float(len(a))))
    pair = PairAgreement(i, j, rho, rho >= threshold, detrended)
    if not all("adam_gram" in card.arrays for card in (first, second)):
        return pair
    one, other = _followed(first, choose(second).rows), _followed(second, choose(first).rows)
    advised, common = (one[0], other[0]), (one[1], other[1])
    return replace(pair, advised=advised, common=common, costs=(one[2], other[2]))


def _followed(card: LayerCard, rows: Sequence[int]) -> tuple[int, int, float]:
    """Return how many `rows` another card advises, how many of these `card` does, and their cost.

    It is the share that `rows` lose of what `card` predicts for as many blocks of its own advice.
    """
    own = choose(card, layers=len(rows)).rows
    best = predicted_gain(card, own)
    cost = 1.0 - predicted_gain(card, rows) / best if best > 0.0 else 0.0
    return len(rows), len({*own} & {*rows}), cost


def refuse_another_model(expected: ModelInfo, found: ModelInfo) -> None:
    """Raise unless both are one model: of one shape and the same weights (else the same source).

    Raises:
        SchemaError: They are not.
    """
    if expected.files and found.files:
        same = sorted(expected.files.values()) == sorted(found.files.values())
    else:
        same = (expected.source, expected.revision) == (found.source, found.revision)
    if same and _shape(expected) == _shape(found):
        return
    if _shown(found) != _shown(expected):
        msg = "a card of another model"
        raise SchemaError(msg, value=_shown(found), expected=_shown(expected))
    msg = "a card of other weights of this model"
    raise SchemaError(msg, value=_own(found, expected), expected=_own(expected, found))


def _shape(model: ModelInfo) -> tuple[object, ...]:
    return model.architecture, model.parameters, model.stacks


def _own(model: ModelInfo, other: ModelInfo) -> str:
    """Return what tells `model` from `other`: its revision, or what files hold that both have."""
    if model.revision != other.revision:
        return f"revision {model.revision}"
    both = sorted(model.files.keys() & other.files.keys())
    changed = [name for name in both if model.files[name] != other.files[name]]
    return (
        ", ".join(f"{name} {model.files[name][:12]}" for name in changed)
        or f"{len(model.files)} files"
    )


def _shown(model: ModelInfo) -> str:
    blocks = " + ".join(str(stack.blocks) for stack in model.stacks)
    size = f"{blocks} blocks, {model.parameters:,} parameters"
    return f"{model.source} ({model.architecture}, {size})"
