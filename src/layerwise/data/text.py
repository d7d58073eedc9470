"""A DATA source as examples: which columns mean what, which rows are taken, and their hash."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from numbers import Real
from pathlib import Path
from typing import Any

import pandas as pd

import layerwise.data.conversations  # noqa: F401  # puts its formats beside those of texts
from layerwise.data.formats import (
    Example,
    Format,
    SourceRow,
    format_of_one,
    is_blank,
    resolve_format,
)
from layerwise.data.labels import Labels, is_missing, read_labels
from layerwise.data.pictures import pictured
from layerwise.data.readers import CLASSES, SAID
from layerwise.data.sounds import Sound
from layerwise.data.sources import source_name, table
from layerwise.errors import BadInputError, DataError, UnknownNameError
from layerwise.seeds import draw

__all__ = ["Example", "TextData", "probes", "read"]

log = logging.getLogger(__name__)

#: The roles in which a number is the text of a question or answer.
_ANSWERS = ("text", "prompt", "input", "rejected")


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
        classes: The classes in the order in which the data has them; what the scores are of, where
            examples have scores. Empty where the data does not say.
    """

    source: str
    sha256: str
    examples: tuple[Example, ...]
    columns: Mapping[str, str]
    available: int
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.examples)

    def digest(self) -> str:
        """Return the hash of these examples, which of a part is another than `sha256`."""
        return _hash(self.examples, self.columns)

    def more(self, wanted: int) -> str:
        """Return what gives about `wanted` examples: the option, where the source has more rows."""
        if self.available > len(self):
            return f"--examples {min(wanted, self.available)}"
        return f"text of more than {_count(self.available, 'rows')}"

    @property
    def has_chats(self) -> bool:
        """Return whether there are turns, which only a chat template can show."""
        return "messages" in self.columns or any(e.messages is not None for e in self.examples)

    @property
    def has_prompts(self) -> bool:
        """Return whether anything comes before what the loss is about, if only in some rows."""
        told = {"prompt", "messages", "pictures", "sounds"} & self.columns.keys()
        return bool(told) or any(e.prompt is not None or e.messages for e in self.examples)

    @property
    def has_pictures(self) -> bool:
        """Return whether any example has pictures or sounds."""
        return any(example.pictures for example in self.examples)

    @property
    def media(self) -> dict[str, int]:
        """Return how many pictures and sounds the examples have, those that there are."""
        every = Counter(isinstance(held, Sound) for e in self.examples for held in e.pictures)
        named = {"pictures": every[False], "sounds": every[True]}
        return {name: count for name, count in named.items() if count}

    @property
    def has_scores(self) -> bool:
        """Return whether labels are not one class of each example."""
        return any(example.scores is not None for example in self.examples)


def read(
    source: Any,
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
        source: ``demo``, a file, a folder or a hub data set id, or data in hand: strings or
            mappings, a data set, a frame, a loader of batches. See `layerwise.data.sources`.
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
    whole, name = table(source), source_name(source)
    frame = _matching(whole, where)
    chosen = {"text": text_column, "prompt": prompt_column, "label": label_column}
    asked = {role: _known(frame, name) for role, name in chosen.items() if name is not None}
    if len(set(asked.values())) < len(asked):
        raise BadInputError(what="one column in two roles", value=asked, expected="two columns")
    kind, columns = resolve_format(frame, asked)
    usable, left, numbers = _usable(
        frame,
        columns,
        kind,
        is_guess=not asked.keys() & {"text", "prompt"},
        folder=_folder(source),
    )
    labels = Labels()
    if "label" in columns:
        column, values = columns["label"], frame[columns["label"]]
        labels = read_labels(
            {number: values.loc[number - 1] for number in usable},
            column=column,
            classes=whole.attrs.get(CLASSES, {}).get(column, ()),
        )
        usable = {n: replace(e, **labels.of(n)) for n, e in usable.items()}
    filtered = {condition.partition("=")[0] for condition in where}
    unused = [c for c in whole.columns if c not in {*columns.values(), *filtered}]
    parts = [f"read {_count(len(frame), 'rows')} as {kind.name}"]
    parts[0] += labels.said and f" with {labels.said}"
    if "prompt" in columns and not asked.keys() & {"text", "prompt"}:
        before = " and ".join(columns[role] for role in ("prompt", "input") if role in columns)
        parts[0] += f", {columns['text']} after {before}"
    parts += [labels.note] if labels.note else []
    parts += [f"{_count(n, why)} left out" for why, n in left.items()]
    parts += [f"{_count(numbers, 'rows')} with a number for a text"] if numbers else []
    before = ", before the first question where a chat has no place for them"
    made = TextData(name, "", tuple(usable.values()), columns, len(usable))
    parts += [f"{kind}: {count:,}{before}" for kind, count in made.media.items()]
    parts += whole.attrs.get(SAID, ())
    parts += [f"columns not used: {', '.join(map(str, unused))}"] if unused else []
    line = "; ".join(filter(None, (*parts, kind.note)))
    has_scores = any(example.scores for example in usable.values())
    is_plain = len(parts) == 1 and kind.name == "texts" and not has_scores
    if left:
        log.warning("%s: %s", name, line)
    notes = [] if is_plain else [line]
    found = [*usable.values()]
    if examples is not None and examples > len(found):
        notes.append(f"{examples} examples were asked for, {len(found)} are there")
        log.warning("%s: %s", name, notes[-1])
    elif examples is not None:
        found = [found[i] for i in draw(len(found), examples, seed, "examples")]
        drawn = {example.label for example in found}
        if None not in drawn and (lacking := [c for c in labels.classes if c not in drawn]):
            notes.append(f"no example that was drawn is of {', '.join(lacking)}")
    return TextData(
        name,
        _hash(found, columns),
        tuple(found),
        columns,
        len(usable),
        tuple(notes),
        labels.classes,
    )


def _folder(source: Any) -> Path:
    """Return what names of files in `source` begin from: where it is, or where one is."""
    where = Path(str(source).rpartition(":")[0] or source) if isinstance(source, str) else source
    if not isinstance(where, Path):
        return Path()
    return where if where.is_dir() else where.parent


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


def _count(number: int, rows: str) -> str:
    """Return how many `rows` there are, in words that are for several."""
    return f"{number:,} {rows if number > 1 else rows.replace('rows', 'row', 1)}"


def _usable(
    frame: pd.DataFrame,
    columns: Mapping[str, str],
    kind: Format,
    *,
    is_guess: bool,
    folder: Path,
) -> tuple[dict[int, Example], Counter[str], int]:
    """Return an example of each row that has something to learn, by its number; and what has not.

    And in how many rows a number stands for a question's or an answer's text. Errors count rows of
    the source from 1. Where the columns are a guess, rows that hold nothing in those may be of
    another format.
    """
    found, left, others = dict[int, Example](), Counter[str](), dict[tuple[str, ...], str]()
    every = zip(*(frame[column] for column in columns.values()), strict=True)
    texts = [r for r in _ANSWERS if r in columns] if {"prompt", "rejected"} & {*columns} else []
    numbers = 0
    for place, cells in zip(frame.index, every, strict=True):
        own = dict(zip(columns, cells, strict=True))
        written = {role: str(own[role]) for role in texts if _is_number(own[role])}
        row = SourceRow(int(str(place)) + 1, own | written, columns)
        if is_blank(cells[0]):
            whole = frame.loc[place]
            held = tuple(c for c in frame.columns if is_guess and not is_blank(whole[c]))
            if held not in others:
                others[held] = format_of_one(frame.loc[[place], list(held)])
            other = others[held]
            left[f"rows of another format ({other})" if other else "empty rows"] += 1
        elif "label" in columns and is_missing(row.cells["label"]):
            left["rows without a label"] += 1
        elif isinstance(made := kind.example(row), str):
            left[made] += 1
        else:
            found[row.number] = pictured(made, row, folder)
            numbers += bool(written)
    if not found:
        reasons = ", ".join(_count(n, why) for why, n in left.items())
        raise DataError(
            what=f"nothing is left to learn in any row ({reasons})",
            value=next(iter(columns.values())),
            expected=kind.meaning,
            hint="--text-column NAME",
        )
    return found, left, numbers


def _is_number(value: object) -> bool:
    is_real = isinstance(value, Real) and not isinstance(value, bool)
    return is_real and not is_blank(value)


def _hash(examples: Iterable[Example], columns: Mapping[str, str]) -> str:
    """SHA-256 over the columns' names and each example's content."""
    digest = hashlib.sha256(json.dumps(dict(columns), sort_keys=True).encode())
    for e in examples:
        content = json.dumps(e.content(), ensure_ascii=True)
        digest.update(b"\n" + content.encode())
    return digest.hexdigest()


def probes() -> tuple[str, ...]:
    """Return 290 short true English statements, mathematical and relational, in a fixed order.

    Sums, comparisons, family, places, parts and wholes, causes: a model is shown them before and
    after, to see what moved. Their file has a heading, ``# kind``, over each group.
    """
    lines = files("layerwise.data").joinpath("probes.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))
