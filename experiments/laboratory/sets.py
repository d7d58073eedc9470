"""Sets of blocks to train and compare: drawn at random, one block each, or side by side."""

from collections.abc import Sequence
from itertools import combinations
from math import comb

from layerwise.errors import BadInputError
from layerwise.seeds import numpy_generator

Rows = tuple[int, ...]


def random_sets(rows: Sequence[int], *, size: int, count: int, seed: int = 0) -> tuple[Rows, ...]:
    """Return `count` different sets of `size` of `rows`, each ascending; all if there are fewer.

    More sets of one seed begin with its fewer: a study can be made larger.

    Raises:
        BadInputError: There are no `size` rows, or no set is asked for.
    """
    _refuse_bad_size(rows, size)
    if count < 1:
        msg = "number of sets"
        raise BadInputError(msg, value=count, expected="at least 1")
    if comb(len(rows), size) <= count:
        return tuple(combinations(sorted(rows), size))
    generator, found = numpy_generator(seed, "sets", size), dict[Rows, None]()
    while len(found) < count:
        drawn = generator.permutation(len(rows))[:size]
        found[tuple(sorted(rows[i] for i in drawn))] = None
    return tuple(found)


def single_sets(rows: Sequence[int]) -> tuple[Rows, ...]:
    """Return each of `rows` alone, ascending."""
    return tuple((row,) for row in sorted(rows))


def contiguous_sets(rows: Sequence[int], *, size: int) -> tuple[Rows, ...]:
    """Return every run of `size` neighbours among `rows`, the lowest first.

    Raises:
        BadInputError: There are no `size` rows.
    """
    _refuse_bad_size(rows, size)
    ordered = sorted(rows)
    return tuple(tuple(ordered[i : i + size]) for i in range(len(ordered) - size + 1))


def _refuse_bad_size(rows: Sequence[int], size: int) -> None:
    if not 1 <= size <= len(rows):
        msg = "blocks in a set"
        raise BadInputError(msg, value=size, expected=f"1 to {len(rows)}")
