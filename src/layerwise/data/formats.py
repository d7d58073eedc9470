"""Rows as examples: which shape they have, which column plays which role, one example a row."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from layerwise.errors import BadInputError, DataError
from layerwise.registry import Registry

TEXT_NAMES = ("text", "content", "sentence", "review", "document", "article", "body", "passage")
#: Columns of pictures, sounds and videos by their names; by what they hold, see `_media`.
PICTURE_NAMES = ("image", "images", "picture", "pictures")
SOUND_NAMES = ("audio", "audios", "sound", "sounds")
VIDEO_NAMES = ("video", "videos")


@dataclass(frozen=True)
class Example:
    """One example as the user gave it.

    Attributes:
        text: What the loss is about; of a chat, what the assistant says.
        prompt: What comes before `text` and is in no loss and no statistic.
        label: The class, as a string.
        messages: A chat, its turns as a template takes them (``role``, ``content``, …); then
            `prompt` is None.
        shown: What the template gets beside the turns: ``tools``, and options of its own.
        untrained: Places of the assistant's turns that are in no loss.
        scores: What a head with several outputs is to say: one number a class, or one alone.
        ids: Its tokens, where it came as tokens; then `text` is empty.
        counted: Which of `ids` the loss counts; all where None.
        pictures: The pictures and sounds of its turns, in the order of their places there.
    """

    text: str
    prompt: str | None = None
    label: str | None = None
    messages: tuple[Mapping[str, Any], ...] | None = field(default=None, hash=False)
    shown: Mapping[str, Any] = field(default_factory=dict, hash=False)
    untrained: tuple[int, ...] = ()
    scores: tuple[float, ...] | None = None
    ids: tuple[int, ...] | None = None
    counted: tuple[bool, ...] | None = None
    pictures: tuple[Any, ...] = field(default=(), hash=False)

    def content(self) -> list[Any]:
        """Return what tells it from other examples, as JSON; a plain turn is a pair."""
        plain = {"role", "content"}
        turns = self.messages and [
            [turn["role"], turn["content"]] if turn.keys() == plain else dict(turn)
            for turn in self.messages
        ]
        more: list[Any] = [dict(self.shown), self.untrained, self.scores, self.ids, self.counted]
        more += [[picture.digest() for picture in self.pictures]] if self.pictures else []
        return [self.text, self.prompt, self.label, turns, *(more if any(more) else ())]


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

    def string(self, role: str, part: object = None) -> str:
        """Return the cell of `role`, or a `part` of it.

        Raises:
            DataError: It is no string, or has half a character, as a cut JSON escape leaves.
        """
        value = self.cells[role] if part is None else part
        if not isinstance(value, str):
            raise self.fault(value, role, "is no text", "a string", hint="--text-column NAME")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            what = f"holds half a character (at {error.start})"
            raise self.fault(ascii(value), role, what, "text of Unicode") from error
        return value

    def has(self, role: str) -> bool:
        """Return whether there is something in the cell of `role`."""
        return role in self.cells and not is_blank(self.cells[role])

    def fault(
        self, value: object, role: str, what: str, expected: str = "", *, hint: str = ""
    ) -> DataError:
        """Return the error that `value`, in the cell of `role`, is at fault."""
        message = f"row {self.number} of column {self.columns[role]!r} {what}"
        return DataError(message, value=value, expected=expected, hint=hint)


def is_blank(value: object) -> bool:
    """Return whether a cell holds nothing: missing, not a number, no letter or no member."""
    if is_list(value) or isinstance(value, Mapping):
        return len(value) == 0  # type: ignore[arg-type]  # a list, mapping or array
    return value is None or value != value or (isinstance(value, str) and not value.strip())  # noqa: PLR0124  (NaN)


def is_list(value: object) -> bool:
    """Return whether a cell holds members in an order, be it an array or a tensor."""
    return isinstance(value, list | tuple) or bool(getattr(value, "ndim", 0))


@dataclass(frozen=True)
class Format:
    """A shape that rows can have.

    Attributes:
        name: What such rows are called, after "read 12 rows as".
        meaning: What its rows hold, in a line.
        roles: Gives the column of each role, that of the content first, from the rows and the
            columns that the user named (``text``, ``prompt``, ``label``); None where the rows have
            another shape.
        example: Makes an example of one row; the label is put in afterwards. Or says why the row
            is left out: what such rows are called, as in "rows without an answer".
        note: What else is to be said of such rows.
    """

    name: str
    meaning: str
    roles: Callable[[pd.DataFrame, Mapping[str, str]], dict[str, str] | None]
    example: Callable[[SourceRow], Example | str]
    note: str = ""


#: What rows are taken for; the one that was added last is asked first.
FORMATS = Registry[Format]("data format")


def resolve_format(frame: pd.DataFrame, asked: Mapping[str, str]) -> tuple[Format, dict[str, str]]:
    """Return the format of the rows of `frame`, and the column of each role.

    Names of columns in capitals are known too. Where no text column is named, a column of pictures
    has the role ``pictures``, one of sounds ``sounds``.

    Raises:
        DataError: The text column is ambiguous, or there are videos beside the text, or pictures or
            sounds in several columns.
        BadInputError: A column was asked for that has no meaning in that format.
    """
    plain = _in_small_letters(frame)
    try:
        small = {role: plain[name] for role, name in asked.items()}
        kind, found = _claimed(frame.rename(columns=plain), small)
        names = {small: name for name, small in plain.items()}
        columns = {role: names[name] for role, name in found.items()}
    except BadInputError:  # It shall name columns as they are.
        kind, columns = _claimed(frame, asked)
    if "text" in asked:
        return kind, columns
    media = {c: _media(frame[c]) for c in frame.columns if c not in columns.values()}
    if films := [c for c, held in media.items() if held == "videos"]:
        what = "videos beside the text, which no objective hands to a model"
        raise _leave_out(what, films, columns)
    for role in ("pictures", "sounds"):
        own = [c for c, held in media.items() if held == role]
        if len(own) > 1:
            what = f"{role} in several columns"
            raise _leave_out(what, own, columns)
        columns |= {role: own[0]} if own else {}
    return kind, columns


def _leave_out(what: str, found: Sequence[str], columns: Mapping[str, str]) -> DataError:
    return DataError(
        what=what,
        value=", ".join(found),
        expected="text, and pictures or sounds in one column each",
        hint=f"--text-column {next(iter(columns.values()))}, to leave them out",
    )


def _claimed(frame: pd.DataFrame, asked: Mapping[str, str]) -> tuple[Format, dict[str, str]]:
    """Return the format that claims the rows; where most of them hold another, that one."""
    claims = ((kind, kind.roles(frame, asked)) for kind in reversed([*FORMATS.values()]))
    kind, columns = next((kind, columns) for kind, columns in claims if columns is not None)
    if {"text", "prompt"} & asked.keys():
        return kind, columns
    is_held = _is_held(frame, columns)
    rest = frame[~is_held].drop(columns=[next(iter(columns.values()))])
    named = [c for c in rest if c in asked.values() or not rest[c].map(is_blank).all()]
    other = _by_names(rest[named], asked) if len(rest) > is_held.sum() else None
    is_more = other and _is_held(rest, other[1]).sum() > is_held.sum()
    return other if other and is_more else (kind, columns)


def _is_held(frame: pd.DataFrame, columns: Mapping[str, str]) -> "pd.Series[bool]":
    """Return which rows have something in the first of `columns`, that of the content."""
    return ~frame[next(iter(columns.values()))].map(is_blank).astype(bool)


def _in_small_letters(frame: pd.DataFrame) -> dict[str, str]:
    """Return the columns' names in small letters, but where two would be called alike."""
    times = Counter(map(str.lower, frame.columns))
    return {c: c.lower() if times[c.lower()] == 1 else c for c in frame.columns}


def format_of_one(row: pd.DataFrame) -> str:
    """Return what `row`, one alone, is called by its columns' names; nothing where by none."""
    found = _by_names(row.rename(columns=_in_small_letters(row)), {})
    return found[0].name if found else ""


def _by_names(
    frame: pd.DataFrame, asked: Mapping[str, str]
) -> tuple[Format, dict[str, str]] | None:
    """Return the format that the columns' names tell, and the column of each role."""
    for kind in reversed([*FORMATS.values()]):
        is_told = kind.name != "texts" or {*TEXT_NAMES} & {*frame.columns}
        if is_told and (columns := kind.roles(frame, asked)) is not None:
            return kind, columns
    return None


def _media(values: "pd.Series[Any]") -> str:
    """Return ``pictures``, ``sounds`` or ``videos`` for a column of those, however held."""
    first: Any = next((v for v in values if not is_blank(v)), None)
    name = str(values.name).lower()
    first = first[0] if is_list(first) and not getattr(first, "ndim", 1) > 1 else first
    if first is None:
        return ""
    keys = first.keys() if isinstance(first, Mapping) else ()
    if name in VIDEO_NAMES:
        return "videos"
    is_sound = {"array", "sampling_rate"} <= {*keys} or hasattr(first, "get_all_samples")
    if name in SOUND_NAMES or is_sound:
        return "sounds"
    is_picture = type(first).__module__.startswith("PIL.") or isinstance(first, bytes)
    is_named = name in PICTURE_NAMES and isinstance(first, str | Mapping)
    return "pictures" if is_picture or is_named or "bytes" in keys else ""


# --- Texts ------------------------------------------------------------------------------------


def _text_roles(frame: pd.DataFrame, asked: Mapping[str, str]) -> dict[str, str]:
    """Return the text: as asked, the one of a usual name, or the only column of strings."""
    if "text" in asked:
        return dict(asked)
    free = [c for c in frame.columns if c not in asked.values()]
    named = [name for name in TEXT_NAMES if name in free]
    strings = named or [c for c in free if _is_text(frame[c])]
    if len(strings) == 1 or named[:1] == ["text"]:
        return {"text": str(strings[0]), **asked}
    raise DataError(
        what="which column is the text?",
        value=", ".join(map(str, strings or free)),
        expected="one text column",
        hint="--text-column NAME",
    )


def _is_text(values: "pd.Series[Any]") -> bool:
    """Return whether what is there is strings, and not all of them numbers written out."""
    held = values[~values.map(is_blank).astype(bool)]
    if held.empty or not held.map(lambda v: isinstance(v, str)).all():
        return False
    return bool(pd.to_numeric(held, errors="coerce").isna().any())


def _text_example(row: SourceRow) -> Example:
    """Return a text; where a prompt was asked for, one is there, if empty."""
    prompt = row.string("prompt") if row.has("prompt") else ""
    return Example(row.string("text"), prompt=prompt if "prompt" in row.cells else None)


TEXT = "a text, after a prompt where a column of those is named"
FORMATS.add(Format("texts", TEXT, _text_roles, _text_example))


# --- Tokens -----------------------------------------------------------------------------------


def _token_roles(frame: pd.DataFrame, asked: Mapping[str, str]) -> dict[str, str] | None:
    if "input_ids" not in frame.columns or {"text", "prompt"} & asked.keys():
        return None
    beside = {"counted": "labels", "attended": "attention_mask"}
    found = {role: column for role, column in beside.items() if column in frame.columns}
    return {"tokens": "input_ids", **found, **asked}


def _token_example(row: SourceRow) -> Example | str:
    """Return tokens without those that pad; a label of -100 is in no loss."""
    ids = _whole_numbers(row, "tokens")
    attended = _whole_numbers(row, "attended") if row.has("attended") else [1] * len(ids)
    labels = _whole_numbers(row, "counted") if row.has("counted") else ids
    if not len(ids) == len(attended) == len(labels):
        sizes = f"{len(ids)}, {len(labels)}, {len(attended)}"
        raise row.fault(sizes, "tokens", "has different numbers of tokens, labels, mask")
    told = [(i, label) for i, label, a in zip(ids, labels, attended, strict=True) if a]
    for place, (token, label) in enumerate(told, 1):
        if label not in (-100, token):
            what = f"labels token {place} as no token of its place"
            raise row.fault(label, "counted", what, f"{token}, the token itself, or -100")
    kept = [(token, label != -100) for token, label in told]
    if not any(counts for _, counts in kept):
        return "rows with nothing in the loss"
    counted = tuple(counts for _, counts in kept)
    return Example("", ids=tuple(i for i, _ in kept), counted=None if all(counted) else counted)


def _whole_numbers(row: SourceRow, role: str) -> list[int]:
    value = row.cells[role]
    found = value.tolist() if hasattr(value, "tolist") else value
    members = found if is_list(found) else [found]
    odd = [i for i in members if type(i) is not int or i < (-100 if role == "counted" else 0)]
    if odd or members is not found:
        raise row.fault((odd or members)[0], role, "holds no tokens", "a list of whole numbers")
    return list(found)


TOKENS = "tokens that another tokenizer call made, and which of them the loss counts"
FORMATS.add(Format("tokens", TOKENS, _token_roles, _token_example))
