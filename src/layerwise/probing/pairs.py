"""Minimal pairs: two texts that differ in the concept and in as little else as can be."""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from layerwise.errors import DataError
from layerwise.seeds import draw

log = logging.getLogger(__name__)

#: Pairs below this many leave nothing to judge by.
FEWEST = 10

_SHAPE = '{"a": TEXT, "b": TEXT}'


@dataclass(frozen=True)
class MinimalPair:
    """Two texts that differ in the concept: `a` without it, say, and `b` with it."""

    a: str
    b: str


@dataclass(frozen=True)
class PairSet:
    """Minimal pairs, and where they came from.

    Attributes:
        source: What the user named.
        sha256: Of the pairs' content, in order.
        pairs: In the order of the source.
        groups: For each pair, the number of the set of pairs that it shares texts with.
        notes: What was left out on the way.
    """

    source: str
    sha256: str
    pairs: tuple[MinimalPair, ...]
    groups: tuple[int, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pairs)


def read_pairs(source: str, *, examples: int | None = None, seed: int = 0) -> PairSet:
    """Return the pairs in the JSON Lines file `source`, an object with ``a`` and ``b`` a line.

    Args:
        source: The file; ``demo`` for the pairs that ship with the package, an unfavourable and a
            favourable remark on a film each.
        examples: The most to draw at random; None takes all.
        seed: Fixes the draw.

    Raises:
        DataError: It cannot be read, a pair lacks a member or has the same one twice, or there are
            too few.
    """
    try:
        at = files("layerwise.probing") / "pairs.jsonl" if source == "demo" else Path(source)
        lines = at.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        msg = "no such file of pairs"
        expected = f"JSON Lines, {_SHAPE} on each, or demo"
        raise DataError(msg, value=source, expected=expected) from None
    except (OSError, UnicodeDecodeError) as error:
        msg = f"unreadable file of pairs ({getattr(error, 'strerror', None) or 'not UTF-8'})"
        raise DataError(msg, value=source, expected="JSON Lines in UTF-8") from error
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            msg = f"line {number} of the pairs is not JSON"
            raise DataError(msg, value=source, expected=_SHAPE) from error
        found.append(_pair(row, number))
    if examples is not None and examples < len(found):
        found = [found[i] for i in draw(len(found), examples, seed, "pairs")]
    return pair_set(found, source=source)


def given_pairs(given: Iterable[Sequence[str] | Mapping[str, str]]) -> PairSet:
    """Return pairs of texts in hand, each the member ``a``, then ``b``, or a mapping with both.

    Raises:
        DataError: They are no rows, or one is no pair; it is named by its number, from 1.
    """
    held: Any = given.to_dict("records") if isinstance(given, pd.DataFrame) else given
    if not isinstance(held, Iterable):
        raise DataError(what="no pairs", value=type(held).__name__, expected=f"(a, b) or {_SHAPE}")
    rows = [
        dict(zip("ab", pair, strict=True)) if isinstance(pair, list | tuple) and len(pair) == 2
        else pair
        for pair in held
    ]  # fmt: skip
    return pair_set([_pair(row, number) for number, row in enumerate(rows, 1)], source="given")


def pair_set(pairs: Sequence[MinimalPair], *, source: str) -> PairSet:
    """Return `pairs`, each once, with their hash and the groups that share texts.

    Raises:
        DataError: There are too few, or too few that share no text.
    """
    kept = tuple(dict.fromkeys(pairs))
    groups = _groups(kept)
    apart = len(set(groups))
    if apart < FEWEST:
        msg = "too few pairs that share no text" if len(kept) >= FEWEST else "too few pairs"
        raise DataError(msg, value=apart, expected=f"at least {FEWEST}")
    notes = []
    if len(kept) < len(pairs):
        notes.append(f"{len(pairs) - len(kept)} pairs that stand there twice were left out")
    if apart < len(kept):
        notes.append(f"pairs that share a text stay on one side of a split: {apart} groups")
    for note in notes:
        log.warning("%s: %s", source, note)
    content = json.dumps([[pair.a, pair.b] for pair in kept], ensure_ascii=True)
    return PairSet(source, hashlib.sha256(content.encode()).hexdigest(), kept, groups, tuple(notes))


def _pair(row: object, number: int) -> MinimalPair:
    a, b = (row.get(key) if isinstance(row, Mapping) else None for key in ("a", "b"))
    if not (isinstance(a, str) and isinstance(b, str) and a.strip() and b.strip()):
        msg = f"pair on line {number} without both members"
        raise DataError(
            msg, value=json.dumps(row, ensure_ascii=False, default=str), expected=_SHAPE
        )
    if a == b:
        msg = f"pair on line {number} whose members are the same"
        raise DataError(msg, value=a, expected="two texts that differ in the concept")
    return MinimalPair(a, b)


def _groups(pairs: Sequence[MinimalPair]) -> tuple[int, ...]:
    """Return the number of each pair's set: pairs that share a text, in steps too, are in one."""
    parent = list(range(len(pairs)))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    first: dict[str, int] = {}
    for i, pair in enumerate(pairs):
        for text in (pair.a, pair.b):
            parent[root(i)] = root(first.setdefault(text, i))
    _, numbers = np.unique([root(i) for i in range(len(pairs))], return_inverse=True)
    return tuple(int(number) for number in numbers)
