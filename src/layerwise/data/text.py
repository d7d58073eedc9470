"""A DATA source as examples: which columns mean what, which rows are taken, and their hash."""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files

import pandas as pd

from layerwise.data.formats import Example, Format, SourceRow, is_blank, resolve_format
from layerwise.data.sources import table
from layerwise.errors import BadInputError, DataError, UnknownNameError
from layerwise.seeds import draw

__all__ = ["Example", "TextData", "probes", "read"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextData:
    """Examples, and what was read to get them.

    Attributes:
        source: What the user named.
        sha256: Hash of the column names and of the examples' content, in order.
        examples: In the order of the source.
        columns: The column behind each role that is read (``text``, ``prompt``, ``label``,
            ``messages``).
        available: Usable rows that matched, before `examples` of them were drawn.
        notes: What was left out or assumed on the way, in words.
    """

    source: str
    sha256: str
    examples: tuple[Example, ...]
    columns: Mapping[str, str]
    available: int
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.examples)


def read(
    source: str,
    *,
    text_column: str | None = None,
    prompt_column: str | None = None,
    label_column: str | None = None,
    where: Sequence[str] = (),
    examples: int | None = None,
    seed: int = 0,
) -> TextData:
    """Return the examples of `source`: the same, in the same order, whenever the arguments agree.

    Args:
        source: ``demo``, a file, a folder or a hub data set id; see `layerwise.data.sources`.
        text_column: The text; found by its name, or because it is the only one, when None.
        prompt_column: What precedes the text, outside the loss.
        label_column: The class.
        where: ``COLUMN=VALUE`` conditions; rows that meet all of them are read.
        examples: How many to draw at random without replacement; None takes all.
        seed: Fixes the draw.

    Raises:
        DataError: `source` cannot be read, no row is left, or the text column is ambiguous.
        UnknownNameError: A column that the data does not have.
        BadInputError: A malformed condition, or fewer than one example asked for.
    """
    if examples is not None and examples < 1:
        raise BadInputError(what="number of examples", value=examples, expected="at least 1")
    frame = _matching(table(source), where)
    chosen = {"text": text_column, "prompt": prompt_column, "label": label_column}
    asked = {role: _known(frame, name) for role, name in chosen.items() if name is not None}
    if len(set(asked.values())) < len(asked):
        raise BadInputError(what="one column in two roles", value=asked, expected="two columns")
    kind, columns = resolve_format(frame, asked)
    usable, notes = _usable(frame, columns, kind)
    rows = usable
    if examples is not None and examples > len(usable):
        notes.append(f"{examples} examples were asked for, {len(usable)} are there")
    elif examples is not None:
        rows = usable.iloc[draw(len(usable), examples, seed, "examples")]
    for note in notes:
        log.warning("%s: %s", source, note)
    found = tuple(_examples(rows, columns, kind))
    return TextData(source, _hash(found, columns), found, columns, len(usable), tuple(notes))


def _matching(frame: pd.DataFrame, where: Sequence[str]) -> pd.DataFrame:
    """Return the rows that meet every ``COLUMN=VALUE``; values are compared as text."""
    for condition in where:
        column, equals, value = condition.partition("=")
        if not equals:
            raise BadInputError(what="condition", value=condition, expected="COLUMN=VALUE")
        _known(frame, column)
        kept = frame[frame[column].map(str) == value]
        if kept.empty:
            seen = dict.fromkeys(str(v)[:40] for v in frame[column].head(1000))
            raise DataError(
                what="no row matches",
                value=condition,
                expected=f"a value such as {', '.join([*seen][:5])}",
            )
        frame = kept
    return frame


def _known(frame: pd.DataFrame, column: str) -> str:
    """Return `column`, which `frame` has."""
    if column not in frame.columns:
        raise UnknownNameError(what="column", value=column, known=map(str, frame.columns))
    return column


def _usable(
    frame: pd.DataFrame, columns: Mapping[str, str], kind: Format
) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows that have something in them to learn, and how many had not."""
    content, notes = next(iter(columns.values())), list[str]()
    needed = {"text": (content, kind.is_empty)}
    if "label" in columns:
        needed["label"] = columns["label"], is_blank
    for what, (column, is_empty) in needed.items():
        blank = frame[column].map(is_empty)
        if blank.all():
            raise DataError(what=f"every row's {what} is empty", value=column)
        if blank.any():
            notes.append(f"{blank.sum()} rows with an empty {what} were left out")
        frame = frame[~blank]
    return frame, notes


def _examples(frame: pd.DataFrame, columns: Mapping[str, str], kind: Format) -> Iterable[Example]:
    """Return an example a row; errors count rows of the source from 1."""
    values = zip(*(frame[column] for column in columns.values()), strict=True)
    for place, cells in zip(frame.index, values, strict=True):
        row = SourceRow(int(str(place)) + 1, dict(zip(columns, cells, strict=True)), columns)
        label = str(row.cells["label"]) if "label" in columns else None
        yield replace(kind.example(row), label=label)


def _hash(examples: Iterable[Example], columns: Mapping[str, str]) -> str:
    """SHA-256 over the columns' names and each example's content."""
    digest = hashlib.sha256(json.dumps(dict(columns), sort_keys=True).encode())
    for e in examples:
        content = json.dumps([e.text, e.prompt, e.label, e.messages], ensure_ascii=True)
        digest.update(b"\n" + content.encode())
    return digest.hexdigest()


def probes() -> tuple[str, ...]:
    """Return 290 short true English statements, mathematical and relational, in a fixed order.

    Sums, comparisons, family, places, parts and wholes, causes: a model is shown them before and
    after, to see what moved. Their file has a heading, ``# kind``, over each group.
    """
    lines = files("layerwise.data").joinpath("probes.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))
