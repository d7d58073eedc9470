"""What a policy is: a function that chooses blocks, and how many it takes by itself."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layerwise.errors import PlacementError

if TYPE_CHECKING:
    from layerwise.card.record import LayerCard


Choose = Callable[["LayerCard", int, Sequence[int], int], Iterable[int]]
Size = Callable[["LayerCard", Sequence[int]], int]


def default_size(rows: Sequence[int]) -> int:
    """Return a sixth of `rows`, rounded up (ours)."""
    return -(-len(rows) // 6)


@dataclass(frozen=True)
class Policy:
    """A way to choose blocks.

    Attributes:
        name: What a user types.
        meaning: What it chooses, in a line.
        choose: Takes a card, a number k, the rows to choose from (ascending positions in
            `card.layers`) and a seed; gives k of the rows, in any order.
        size: How many rows it takes where nobody says.
    """

    name: str
    meaning: str
    choose: Choose
    size: Size = lambda _card, rows: default_size(rows)

    def __call__(
        self, card: "LayerCard", k: int | None, *, rows: Sequence[int], seed: int = 0
    ) -> tuple[int, ...]:
        """Return `k` of `rows` (None: the policy's own number), ascending.

        Raises:
            PlacementError: There are no `k` rows, or the card lacks what the policy goes by.
        """
        if not rows:
            msg = "no block to choose from"
            raise PlacementError(msg, expected="a card with adapted modules")
        if k is not None and not 1 <= k <= len(rows):
            msg = "number of layers"
            raise PlacementError(
                msg,
                value=k,
                expected=f"1 to {len(rows)}, the blocks that can be adapted",
                hint=f"--layers {default_size(rows)}",
            )
        taken = self.size(card, rows) if k is None else k
        return tuple(sorted(int(row) for row in self.choose(card, taken, rows, seed)))
