"""Cards of one model against each other: does one's ranking of blocks hold for the other?"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from layerwise.card.record import LayerCard, ModelInfo
from layerwise.errors import BadInputError, SchemaError
from layerwise.records import DocumentRecord
from layerwise.signals.ranks import spearman

#: The agreement at which one card may stand for another.
USABLE = 0.9


@dataclass(frozen=True)
class PairAgreement:
    """The agreement of two cards, by their positions: the rank correlation of their residual norms.

    They are `usable` where one can be the reference of the other.
    """

    first: int
    second: int
    spearman: float
    usable: bool


@dataclass(frozen=True)
class Comparison(DocumentRecord):
    """The agreement of every pair of some cards.

    Attributes:
        model: The source of the model that they are of.
        data: The text and objective of each card.
        pairs: Every pair once, the lower position first.
        threshold: The agreement from which on a pair is usable.
    """

    DOCUMENT = "comparison"

    model: str
    data: tuple[str, ...]
    pairs: tuple[PairAgreement, ...]
    threshold: float


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
    pairs = []
    for i, j in combinations(range(len(cards)), 2):
        rho = spearman(norms[i], norms[j])
        pairs.append(PairAgreement(i, j, rho, usable=rho >= threshold))
    data = tuple(f"{card.data.source} ({card.data.objective})" for card in cards)
    return Comparison(cards[0].model.source, data, tuple(pairs), threshold)


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
