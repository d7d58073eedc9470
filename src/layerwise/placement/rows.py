"""Which rows of a card a user means: blocks by stack and index, or those that can be adapted."""

import operator
import re
from collections.abc import Iterable, Mapping, Sequence

from layerwise.card.record import LayerCard
from layerwise.errors import PlacementError, UnknownNameError
from layerwise.placement.record import PlacedBlock

__all__ = [
    "Ranks",
    "adaptable_rows",
    "parse_ranks",
    "parse_rows",
    "resolve_ranks",
    "resolve_rows",
    "resolve_stack",
]

#: LoRA ranks by block, or as a user writes them.
Ranks = str | Mapping[int | PlacedBlock, int]

_SPELLING = "block indices such as 3,7,11 or STACK:3,7,11"


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
            msg = "block"
            raise PlacementError(msg, value=part, expected=_SPELLING)
        blocks.append(int(index) if stack is None else PlacedBlock(stack, int(index)))
    if not blocks:
        msg = "no block in the placement"
        raise PlacementError(msg, value=text, expected=_SPELLING)
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
    by_block = parse_ranks(ranks) if isinstance(ranks, str) else ranks
    by_row: dict[int, int] = {}
    for block, rank in by_block.items():
        (row,) = resolve_rows(card, [block], stack=stack)
        _refuse_rank(card, row, rank, within=within)
        _refuse_duplicates(card, [*by_row, row])
        by_row[row] = rank
    return by_row


def _refuse_rank(card: LayerCard, row: int, rank: int, *, within: Sequence[int]) -> None:
    if row not in within:
        msg = "rank of a block that gets no adapter"
        placed = ", ".join(card.layers[r].name for r in within)
        raise PlacementError(msg, value=card.layers[row].name, expected=f"one of {placed}")
    if operator.index(rank) < 1:
        msg = f"LoRA rank of {card.layers[row].name}"
        raise PlacementError(msg, value=rank, expected="a whole number of at least 1")


def resolve_stack(card: LayerCard, name: str) -> str:
    """The card's stack called `name`, which may be a part of its name that no other stack has.

    Raises:
        UnknownNameError: The model has no such stack.
        PlacementError: Several stacks have that part.
    """
    known = _stacks(card)
    if name in known:
        return name
    found = [k for k in known if f".{name}." in f".{k}."]
    if not found:
        kind = "stack"
        raise UnknownNameError(kind, value=name, known=known)
    if len(found) > 1:
        msg = "stack"
        raise PlacementError(msg, value=name, expected="one of " + ", ".join(found))
    return found[0]


def _stacks(card: LayerCard) -> tuple[str, ...]:
    """Return the stacks that were measured: one that no text runs through has no rows."""
    return tuple(dict.fromkeys(layer.stack for layer in card.layers))


def adaptable_rows(card: LayerCard, *, stack: str | None = None) -> tuple[int, ...]:
    """Return the rows that have modules to adapt, in `stack` where one is named.

    Raises:
        UnknownNameError: The model has no such stack.
        PlacementError: No row is left.
    """
    wanted = None if stack is None else resolve_stack(card, stack)
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
    """Return the rows of `blocks`, ascending; bare indices are of `stack`, or of the only stack.

    Raises:
        UnknownNameError: The model has no such stack.
        PlacementError: There is no block, one is named twice, is not in the model or has no
            module to adapt, or an index could be of several stacks.
    """
    rows = [_row(card, _located(card, block, stack)) for block in blocks]
    if not rows:
        msg = "no block in the placement"
        raise PlacementError(msg, expected=f"at least one: {_SPELLING}")
    _refuse_duplicates(card, rows)
    return tuple(sorted(rows))


def _located(card: LayerCard, block: int | PlacedBlock, stack: str | None) -> PlacedBlock:
    """Return `block` with the full name of its stack."""
    if isinstance(block, PlacedBlock):
        return PlacedBlock(resolve_stack(card, block.stack), block.index)
    names = _stacks(card)
    if stack is None and len(names) > 1:
        msg = "block index without its stack"
        raise PlacementError(
            msg,
            value=block,
            expected="STACK:INDEX, with a stack of " + ", ".join(names),
            hint=f"{names[0]}:{block}",
        )
    return PlacedBlock(names[0] if stack is None else resolve_stack(card, stack), _index(block))


def _index(block: object) -> int:
    try:
        return operator.index(block)  # type: ignore[arg-type]  # What is no integer is refused.
    except TypeError:
        msg = "block"
        raise PlacementError(msg, value=block, expected=_SPELLING) from None


def _row(card: LayerCard, block: PlacedBlock) -> int:
    known = {x.index: r for r, x in enumerate(card.layers) if x.stack == block.stack}
    row = known.get(block.index)
    if row is None:
        msg = f"no such block in {block.stack}"
        raise PlacementError(msg, value=block.index, expected=f"{min(known)} to {max(known)}")
    if not card.layers[row].modules:
        msg = f"block of {block.stack} without a module to adapt"
        raise PlacementError(msg, value=block.index, expected="a card made with other --targets")
    return row


def _refuse_duplicates(card: LayerCard, rows: Sequence[int]) -> None:
    for row in rows:
        if rows.count(row) > 1:
            msg = f"block of {card.layers[row].stack} named twice"
            raise PlacementError(msg, value=card.layers[row].index, expected="each block once")
