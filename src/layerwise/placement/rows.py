"""Which rows of a card a user means: blocks by stack and index, or those that can be adapted."""

import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from layerwise.card.record import LayerCard
from layerwise.errors import PlacementError, UnknownNameError
from layerwise.placement.record import PlacedBlock

#: LoRA ranks by block, or as a user writes them.
Ranks = str | Mapping[int | PlacedBlock, int]

_SPELLING = "block indices such as 3,7,11 or STACK:3,7,11"


class BlockPlace(Protocol):
    """A block among all of a model: a row of its card, or a reference."""

    @property
    def stack(self) -> str:
        """The name of its stack."""

    @property
    def index(self) -> int:
        """Its number there."""


def parse_rows(text: str) -> tuple[int | PlacedBlock, ...]:
    """Return the blocks in `text`: indices, and after ``STACK:`` blocks of that stack.

    Raises:
        PlacementError: It is empty, or a part of it is no index.

    >>> parse_rows("3,7")
    (3, 7)
    >>> parse_rows("encoder:0,decoder:1")
    (PlacedBlock(stack='encoder', index=0), PlacedBlock(stack='decoder', index=1))
    """
    stack: str | None = None
    blocks: list[int | PlacedBlock] = []
    for part in text.split(",") if text.strip() else ():
        name, colon, index = part.strip().rpartition(":")
        stack = name.strip() if colon else stack
        if not re.fullmatch(r"-?[0-9]+", index.strip()) or stack == "":
            raise PlacementError(what="block", value=part, expected=_SPELLING)
        blocks.append(int(index) if stack is None else PlacedBlock(stack, int(index)))
    if not blocks:
        raise PlacementError(what="no block in the placement", value=text, expected=_SPELLING)
    return tuple(blocks)


def parse_ranks(text: str) -> dict[int | PlacedBlock, int]:
    """Return the ranks in `text`, by block: each an index or ``STACK:INDEX``, ``=`` and a rank.

    Raises:
        PlacementError: A part of it is none of that, or names a block again.

    >>> parse_ranks("3=4,encoder:7=16")
    {3: 4, PlacedBlock(stack='encoder', index=7): 16}
    """
    ranks: dict[int | PlacedBlock, int] = {}
    for part in text.split(","):
        name, equals, rank = part.partition("=")
        if not equals or not re.fullmatch(r"[0-9]+", rank.strip()):
            msg = "rank of a block"
            raise PlacementError(msg, value=part, expected="BLOCK=RANK, such as 3=4,7=16")
        (block,) = parse_rows(name)
        if block in ranks:
            msg = "block with two ranks"
            raise PlacementError(msg, value=part, expected="each block once")
        ranks[block] = int(rank)
    return ranks


def resolve_ranks(
    card: LayerCard, ranks: Ranks, *, within: Sequence[int], stack: str | None = None
) -> dict[int, int]:
    """Return the rank of each row that `ranks` names; bare indices as in `resolve_rows`.

    Raises:
        UnknownNameError: The model has no such stack.
        PlacementError: A block is not among `within`, is named twice or cannot be read, or a rank
            is below 1.
    """
    by_row: dict[int, int] = {}
    for block, rank in (parse_ranks(ranks) if isinstance(ranks, str) else ranks).items():
        (row,) = resolve_rows(card, [block], stack=stack)
        name = card.layers[row].name
        if row not in within:
            msg = "rank of a block that gets no adapter"
            placed = ", ".join(card.layers[r].name for r in within)
            raise PlacementError(msg, value=name, expected=f"one of {placed}")
        if operator.index(rank) < 1:
            msg = f"LoRA rank of {name}"
            raise PlacementError(msg, value=rank, expected="a whole number of at least 1")
        _refuse_duplicates(card.layers, [*by_row, row])
        by_row[row] = rank
    return by_row


def resolve_stack(places: Sequence[BlockPlace], name: str) -> str:
    """Return the stack called `name`, which may be a part of its name that no other stack has.

    Raises:
        UnknownNameError: The model has no such stack.
        PlacementError: Several stacks have that part.
    """
    known = _stacks(places)
    if name in known:
        return name
    found = [k for k in known if f".{name}." in f".{k}."]
    if not found:
        raise UnknownNameError(what="stack", value=name, known=known)
    if len(found) > 1:
        raise PlacementError(what="stack", value=name, expected="one of " + ", ".join(found))
    return found[0]


def _stacks(places: Sequence[BlockPlace]) -> tuple[str, ...]:
    """Return the stacks that were measured: one that no text runs through has no rows."""
    return tuple(dict.fromkeys(place.stack for place in places))


def adaptable_rows(card: LayerCard, *, stack: str | None = None) -> tuple[int, ...]:
    """Return the rows that have modules to adapt, in `stack` where one is named.

    Raises:
        UnknownNameError: The model has no such stack.
        PlacementError: No row is left.
    """
    wanted = None if stack is None else resolve_stack(card.layers, stack)
    rows = tuple(
        row
        for row, layer in enumerate(card.layers)
        if layer.modules and wanted in {None, layer.stack}
    )
    if not rows:
        msg = "no block has a module to adapt"
        where = f"stack {wanted}" if wanted else "the card"
        raise PlacementError(msg, value=where, expected="a card made with other --targets")
    return rows


def resolve_rows(
    card: LayerCard, blocks: Iterable[int | PlacedBlock], *, stack: str | None = None
) -> tuple[int, ...]:
    """Return the rows of `blocks` as `locate` does; each must have a module to adapt.

    Raises:
        UnknownNameError: The model has no such stack.
        PlacementError: As for `locate`, or a block has no module to adapt.
    """
    rows = locate(card.layers, blocks, stack=stack)
    for row in rows:
        layer = card.layers[row]
        if not layer.modules:
            msg = f"block of {layer.stack} without a module to adapt"
            expected = "a card made with other --targets"
            raise PlacementError(msg, value=layer.index, expected=expected)
    return rows


def locate(
    places: Sequence[BlockPlace], blocks: Iterable[int | PlacedBlock], *, stack: str | None = None
) -> tuple[int, ...]:
    """Return the rows of `blocks` among `places`, ascending.

    Bare indices are those of `stack`, or of the only stack.

    Raises:
        UnknownNameError: The model has no such stack.
        PlacementError: There is no block, one is named twice or is not in the model, or an index
            could be of several stacks.
    """
    rows = [_row(places, block, stack) for block in blocks]
    if not rows:
        msg = "no block in the placement"
        raise PlacementError(msg, expected=f"at least one: {_SPELLING}")
    _refuse_duplicates(places, rows)
    return tuple(sorted(rows))


def _row(places: Sequence[BlockPlace], block: int | PlacedBlock, stack: str | None) -> int:
    """Return the row of `block`; a bare index is one of `stack`, or of the only stack."""
    names = _stacks(places)
    if isinstance(block, PlacedBlock):
        stack, index = resolve_stack(places, block.stack), block.index
    elif stack is None and len(names) > 1:
        msg = "block index without its stack"
        expected = "STACK:INDEX, with a stack of " + ", ".join(names)
        raise PlacementError(msg, value=block, expected=expected, hint=f"{names[0]}:{block}")
    else:
        stack = names[0] if stack is None else resolve_stack(places, stack)
        try:
            index = operator.index(block)
        except TypeError:
            raise PlacementError(what="block", value=block, expected=_SPELLING) from None
    known = {place.index: row for row, place in enumerate(places) if place.stack == stack}
    if index not in known:
        msg = f"no such block in {stack}"
        raise PlacementError(msg, value=index, expected=f"{min(known)} to {max(known)}")
    return known[index]


def _refuse_duplicates(places: Sequence[BlockPlace], rows: Sequence[int]) -> None:
    for row in rows:
        if rows.count(row) > 1:
            msg = f"block of {places[row].stack} named twice"
            raise PlacementError(msg, value=places[row].index, expected="each block once")
