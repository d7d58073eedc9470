"""Rows as examples: which shape they have, which column plays which role, one example a row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from layerwise.errors import BadInputError, DataError
from layerwise.registry import Registry

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
class SourceRow:
    """A row of a source.

    Attributes:
        number: Its place in the source, from 1.
        cells: What it holds, by role.
        columns: The column behind each role.
    """

    number: int
    cells: Mapping[str, Any]
    columns: Mapping[str, str]

    def string(self, role: str) -> str:
        """Return the cell of `role`.

        Raises:
            DataError: It is no string.
        """
        value = self.cells[role]
        if isinstance(value, str):
            return value
        raise DataError(
            what=f"row {self.number} of column {self.columns[role]!r} is no text",
            value=value,
            expected="a string",
            hint="--text-column NAME",
        )


def is_blank(value: object) -> bool:
    """Return whether a cell holds nothing: missing, not a number, or no letter."""
    return value is None or value != value or (isinstance(value, str) and not value.strip())  # noqa: PLR0124  (NaN)


@dataclass(frozen=True)
class Format:
    """A shape that rows can have.

    Attributes:
        name: What it is called.
        meaning: What its rows hold, in a line.
        roles: Gives the column of each role, that of the content first, from the rows and the
            columns that the user named (``text``, ``prompt``, ``label``); None where the rows have
            another shape.
        example: Makes an example of one row; the label is put in afterwards.
        is_empty: Whether a cell of the content leaves nothing to learn.
    """

    name: str
    meaning: str
    roles: Callable[[pd.DataFrame, Mapping[str, str]], dict[str, str] | None]
    example: Callable[[SourceRow], Example]
    is_empty: Callable[[Any], bool] = is_blank


#: What rows are taken for; the one that was added last is asked first.
FORMATS = Registry[Format]("data format")


def resolve_format(frame: pd.DataFrame, asked: Mapping[str, str]) -> tuple[Format, dict[str, str]]:
    """Return the format of the rows of `frame`, and the column of each role.

    Raises:
        DataError: The text column is ambiguous.
        BadInputError: A column was asked for that has no meaning in that format.
    """
    claims = ((kind, kind.roles(frame, asked)) for kind in reversed([*FORMATS.values()]))
    return next((kind, columns) for kind, columns in claims if columns is not None)


def _text_column(frame: pd.DataFrame, asked: Mapping[str, str]) -> str:
    """Return the text: as asked; or a chat, the one of a usual name, or the only string one."""
    if "text" in asked:
        return asked["text"]
    free = [c for c in frame.columns if c not in asked.values()]
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


def _is_text(values: "pd.Series[Any]") -> bool:
    """Return whether all values are strings, and not all of them numbers written out."""
    if not values.map(lambda v: isinstance(v, str)).all():
        return False
    return bool(pd.to_numeric(values, errors="coerce").isna().any())


def _text_roles(frame: pd.DataFrame, asked: Mapping[str, str]) -> dict[str, str]:
    return {"text": _text_column(frame, asked), **asked}


def _text_example(row: SourceRow) -> Example:
    """Return a text; where a prompt was asked for, one is there, if empty."""
    text = row.string("text")
    if "prompt" not in row.cells:
        return Example(text)
    return Example(text, prompt="" if is_blank(row.cells["prompt"]) else row.string("prompt"))


TEXT = "a text, after a prompt where a column of those is named"
FORMATS.add(Format("text", TEXT, _text_roles, _text_example))


def _is_chat(values: "pd.Series[Any]") -> bool:
    """Return whether the first value is a list of turns."""
    first = values.iloc[0]
    return not isinstance(first, str | bytes | Mapping) and hasattr(first, "__len__")


def _chat_roles(frame: pd.DataFrame, asked: Mapping[str, str]) -> dict[str, str] | None:
    text = _text_column(frame, asked)
    if not _is_chat(frame[text]):
        return None
    if "prompt" in asked:
        raise BadInputError(
            what="prompt column beside a chat",
            value=asked["prompt"],
            expected=f"the turns in {text!r} alone",
            hint="drop --prompt-column, or name another --text-column",
        )
    return {"messages": text, **{role: c for role, c in asked.items() if role != "text"}}


def _chat_example(row: SourceRow) -> Example:
    turns = tuple(_turn(turn, row) for turn in row.cells["messages"])
    if not any(role == "assistant" and content.strip() for role, content in turns):
        raise DataError(
            what=f"row {row.number} of column {row.columns['messages']!r} has no assistant turn",
            value=[role for role, _ in turns],
            expected="at least one turn with role 'assistant'",
        )
    said = "\n".join(content for role, content in turns if role == "assistant")
    return Example(said, messages=turns)


def _turn(turn: object, row: SourceRow) -> tuple[str, str]:
    if isinstance(turn, Mapping):
        role, content = turn.get("role"), turn.get("content")
        if isinstance(role, str) and isinstance(content, str):
            return role, content
    raise DataError(
        what=f"row {row.number} of column {row.columns['messages']!r} is no chat",
        value=turn,
        expected="turns {role, content} of strings",
    )


def _no_turns(value: object) -> bool:
    return not (hasattr(value, "__len__") and len(value) > 0)


FORMATS.add(Format("chat", "turns of a conversation", _chat_roles, _chat_example, _no_turns))
