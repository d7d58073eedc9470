"""A DATA source as examples: which columns mean what, which rows are taken, and their hash."""

import hashlib
import json
import logging
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from layerwise.data.sources import table
from layerwise.errors import BadInputError, DataError, UnknownNameError
from layerwise.seeds import numpy_generator

__all__ = ["Example", "TextData", "read"]

log = logging.getLogger(__name__)

TEXT_NAMES = ("text", "content", "sentence", "review", "document", "article", "body", "passage")
CHAT_NAMES = ("messages", "conversation", "conversations")


@dataclass(frozen=True)
class Example:
    """One example as the user gave it.

    Attributes:
        text: What the loss is about; of a chat, what the assistant says.
        prompt: What comes before `text` and is in no loss and no statistic.
        label: The class, as a string.
        messages: A chat as (role, content) turns; then `prompt` is None.
    """

    text: str
    prompt: str | None = None
    label: str | None = None
    messages: tuple[tuple[str, str], ...] | None = None


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
    """The examples of `source`: the same ones, in the same order, whenever the arguments agree.

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
    frame = _matching(table(source), where)
    chosen = {"text": text_column, "prompt": prompt_column, "label": label_column}
    columns = _columns(frame, {role: name for role, name in chosen.items() if name is not None})
    usable, notes = _usable(frame, columns)
    rows, drawn = _draw(usable, examples, seed=seed)
    notes += drawn
    for note in notes:
        log.warning("%s: %s", source, note)
    found = tuple(_examples(rows, columns))
    return TextData(source, _hash(found, columns), found, columns, len(usable), notes)


def _matching(frame: pd.DataFrame, where: Sequence[str]) -> pd.DataFrame:
    """The rows that meet every ``COLUMN=VALUE``; values are compared as text."""
    for condition in where:
        column, equals, value = condition.partition("=")
        if not equals:
            raise BadInputError(what="condition", value=condition, expected="COLUMN=VALUE")
        _known(frame, column)
        kept = frame[frame[column].map(str) == value]
        if kept.empty:
            raise DataError(
                what="no row matches",
                value=condition,
                expected=f"a value such as {_seen(frame[column])}",
            )
        frame = kept
    return frame


def _seen(values: "pd.Series[Any]") -> str:
    """A few of the values of a column, for an error message."""
    return ", ".join(list(dict.fromkeys(str(v)[:40] for v in values.head(1000)))[:5])


def _known(frame: pd.DataFrame, column: str) -> str:
    """`column`, which `frame` has."""
    if column not in frame.columns:
        raise UnknownNameError(what="column", value=column, known=map(str, frame.columns))
    return column


def _columns(frame: pd.DataFrame, asked: Mapping[str, str]) -> dict[str, str]:
    """The column of each role, the text's found when it was not named."""
    for column in asked.values():
        _known(frame, column)
    if len(set(asked.values())) < len(asked):
        raise BadInputError(
            what="one column in two roles", value=dict(asked), expected="two columns"
        )
    text = asked.get("text") or _text_column(frame, taken=set(asked.values()))
    if not _is_chat(frame[text]):
        return {"text": text, **asked}
    if "prompt" in asked:
        raise BadInputError(
            what="prompt column beside a chat",
            value=asked["prompt"],
            expected=f"the turns in {text!r} alone",
            hint="drop --prompt-column, or name another --text-column",
        )
    return {"messages": text, **{role: c for role, c in asked.items() if role != "text"}}


def _text_column(frame: pd.DataFrame, *, taken: set[str]) -> str:
    """The column that must be the text: a chat, the one of a usual name, or the only string one."""
    free = [c for c in frame.columns if c not in taken]
    for column in free:
        if column in CHAT_NAMES and _is_chat(frame[column]):
            return str(column)
    named = [name for name in TEXT_NAMES if name in free]
    strings = named or [c for c in free if _is_text(frame[c])]
    if len(strings) == 1 or named[:1] == ["text"]:
        return str(strings[0])
    raise DataError(
        what="which column is the text?",
        value=", ".join(map(str, strings or free)),
        expected="one text column",
        hint="--text-column NAME",
    )


def _is_chat(values: "pd.Series[Any]") -> bool:
    """Whether the first value is a list of turns."""
    first = values.iloc[0]
    return not isinstance(first, str | bytes | Mapping) and hasattr(first, "__len__")


def _is_text(values: "pd.Series[Any]") -> bool:
    """Whether all values are strings, and not all of them numbers written out."""
    if not values.map(lambda v: isinstance(v, str)).all():
        return False
    return bool(pd.to_numeric(values, errors="coerce").isna().any())


def _usable(
    frame: pd.DataFrame, columns: Mapping[str, str]
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The rows that have something in them to learn, and how many had not."""
    if "messages" in columns:
        blank = frame[columns["messages"]].map(lambda turns: not _has_length(turns))
    else:
        blank = frame[columns["text"]].map(_is_blank)
    kept, notes = _without(frame, blank, what="text", column=next(iter(columns.values())))
    if "label" not in columns:
        return kept, notes
    unlabelled = kept[columns["label"]].map(_is_blank)
    kept, more = _without(kept, unlabelled, what="label", column=columns["label"])
    return kept, notes + more


def _without(
    frame: pd.DataFrame, blank: "pd.Series[bool]", *, what: str, column: str
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """`frame` without the rows whose `what` is `blank`, and how many they were."""
    if blank.all():
        raise DataError(what=f"every row's {what} is empty", value=column)
    notes = (f"{blank.sum()} rows with an empty {what} were left out",) if blank.any() else ()
    return frame[~blank], notes


def _has_length(value: object) -> bool:
    return hasattr(value, "__len__") and len(value) > 0


def _is_blank(value: object) -> bool:
    return value is None or value != value or (isinstance(value, str) and not value.strip())  # noqa: PLR0124  (NaN)


def _draw(
    frame: pd.DataFrame, examples: int | None, *, seed: int
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """`examples` rows drawn without replacement, in their own order; all where there are fewer."""
    if examples is None:
        return frame, ()
    if examples < 1:
        raise BadInputError(what="number of examples", value=examples, expected="at least 1")
    if examples > len(frame):
        return frame, (f"{examples} examples were asked for, {len(frame)} are there",)
    order = numpy_generator(seed, "examples").permutation(len(frame))
    return frame.iloc[sorted(order[:examples])], ()


def _examples(frame: pd.DataFrame, columns: Mapping[str, str]) -> Iterable[Example]:
    """An example a row; errors count rows of the source from 1."""
    roles = list(columns)
    values = zip(*(frame[columns[role]] for role in roles), strict=True)
    for row, cells in zip(frame.index, values, strict=True):
        yield _example(dict(zip(roles, cells, strict=True)), row=row, columns=columns)


def _example(cells: Mapping[str, Any], *, row: Hashable, columns: Mapping[str, str]) -> Example:
    """The example that one row's cells make."""
    label = None if "label" not in cells else str(cells["label"])
    if "messages" in cells:
        turns = _turns(cells["messages"], row=row, column=columns["messages"])
        said = "\n".join(content for role, content in turns if role == "assistant")
        return Example(said, label=label, messages=turns)
    text = _string(cells["text"], row=row, column=columns["text"])
    prompt = cells.get("prompt")
    if "prompt" in cells:
        prompt = "" if _is_blank(prompt) else _string(prompt, row=row, column=columns["prompt"])
    return Example(text, prompt=prompt, label=label)


def _string(value: object, *, row: Hashable, column: str) -> str:
    if isinstance(value, str):
        return value
    raise DataError(
        what=f"row {_number(row)} of column {column!r} is no text",
        value=value,
        expected="a string",
        hint="--text-column NAME",
    )


def _number(row: Hashable) -> int:
    """A row's label in the frame as a count from 1."""
    return int(str(row)) + 1


def _turns(value: Iterable[Any], *, row: Hashable, column: str) -> tuple[tuple[str, str], ...]:
    """A chat as (role, content) pairs, with something in it that the assistant says."""
    turns = tuple(_turn(turn, row=row, column=column) for turn in value)
    if not any(role == "assistant" and content.strip() for role, content in turns):
        raise DataError(
            what=f"row {_number(row)} of column {column!r} has no assistant turn",
            value=[role for role, _ in turns],
            expected="at least one turn with role 'assistant'",
        )
    return turns


def _turn(turn: object, *, row: Hashable, column: str) -> tuple[str, str]:
    if isinstance(turn, Mapping):
        role, content = turn.get("role"), turn.get("content")
        if isinstance(role, str) and isinstance(content, str):
            return role, content
    raise DataError(
        what=f"row {_number(row)} of column {column!r} is no chat",
        value=turn,
        expected="turns {role, content} of strings",
    )


def _hash(examples: Iterable[Example], columns: Mapping[str, str]) -> str:
    """SHA-256 over the columns' names and each example's content."""
    digest = hashlib.sha256(json.dumps(dict(columns), sort_keys=True).encode())
    for e in examples:
        content = json.dumps([e.text, e.prompt, e.label, e.messages], ensure_ascii=True)
        digest.update(b"\n" + content.encode())
    return digest.hexdigest()
