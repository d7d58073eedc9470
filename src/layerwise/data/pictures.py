"""Pictures beside text: where a chat shows them, what they hold, and rows that a processor read."""

import base64
import hashlib
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import partial
from pathlib import Path
from typing import Any

from layerwise.data.formats import Example, SourceRow, is_blank, is_list
from layerwise.errors import DataError, one_line
from layerwise.extras import require

#: Stands for a picture among a turn's words; a letter of no script.
PLACE = "\ue0e1"
#: What LLaVA's and LLaMA-Factory's chats write in its stead.
WRITTEN = "<image>"
_DATA = re.compile(r"data:image/[\w.+-]+;base64,")

#: What Pillow raises for damaged files; RuntimeError for those of AVIF and DDS.
_UNREADABLE = (OSError, ValueError, SyntaxError, RuntimeError)

_pillow = partial(require, "PIL.Image", extra="pictures", purpose="read pictures")


@dataclass(frozen=True)
class Picture:
    """A picture as the data holds it.

    Attributes:
        held: Its file, or the file's bytes; or a picture of Pillow's.
        told: Where it stands, for errors.
    """

    held: Any
    told: str

    def image(self) -> Any:
        """Return it as Pillow's, in red, green and blue.

        Raises:
            DataError: It cannot be read, or is too large to be a picture in good faith.
        """
        image = _pillow()
        try:
            if isinstance(self.held, image.Image):
                return self.held.convert("RGB")
            file = self.held if isinstance(self.held, Path) else io.BytesIO(self.held)
            with image.open(file) as opened:
                return opened.convert("RGB")
        except (*_UNREADABLE, image.DecompressionBombError) as error:
            what = f"{self.told} holds a picture that cannot be read ({one_line(error, limit=120)})"
            value = self.held if isinstance(self.held, Path) else type(self.held).__name__
            expected = "a whole PNG, JPEG or other picture"
            raise DataError(what, value=str(value), expected=expected) from error

    def digest(self) -> str:
        """Return the hash of its size and points."""
        image = self.image()
        return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()


def pictured(example: Example, row: SourceRow, folder: Path) -> Example:
    """Return `example` as a chat with its pictures in their places.

    Pictures stand where its turns say so, each with its own or the row's next; where none of them
    does, as TRL has it, before the words of the first question.

    Args:
        example: As its format has it; `Example.pictures` are those of its turns, None for each that
            is the row's.
        row: What it was made of; its cell of pictures holds one, or a list of them.
        folder: What names of files begin from.

    Raises:
        DataError: There are not as many pictures as places, or one of them is none.
    """
    beside = [*_held(row.cells.get("pictures"))]
    if not beside and not example.pictures:
        return example
    if example.ids is not None:
        raise row.fault(len(beside), "pictures", "stands beside tokens", "texts or chats")
    turns = [dict(turn) for turn in example.messages or _exchange(example)]
    inside = [*example.pictures]
    written = sum(str(turn.get("content") or "").count(WRITTEN) for turn in turns)
    if not inside and written == len(beside):
        for turn in turns:
            turn["content"] = (turn.get("content") or "").replace(WRITTEN, PLACE)
    elif not inside:
        asked = next((turn for turn in turns if turn["role"] == "user"), turns[0])
        asked["content"] = PLACE * len(beside) + (asked.get("content") or "")
    places = inside or [None] * len(beside)
    if (wanted := sum(place is None for place in places)) != len(beside):
        what = "has not as many pictures as its chat has places for them"
        raise row.fault(len(beside), _role(row), what, f"{wanted}")
    rest = iter(beside)
    found = tuple(_picture(next(rest) if p is None else p, row, folder) for p in places)
    return replace(example, prompt=None, messages=tuple(turns), pictures=found)


def _exchange(example: Example) -> Iterator[Mapping[str, Any]]:
    yield {"role": "user", "content": example.prompt or ""}
    yield {"role": "assistant", "content": example.text}


def _held(cell: Any) -> Sequence[Any]:
    """Return the pictures of a cell; one stands for itself."""
    if is_blank(cell):
        return ()
    is_several = is_list(cell) and not getattr(cell, "ndim", 1) > 1
    return [*cell] if is_several else [cell]


def _role(row: SourceRow) -> str:
    """Return the role whose cell is at fault: that of pictures, or of the turns that hold them."""
    return "pictures" if "pictures" in row.columns else next(iter(row.columns))


def _picture(held: Any, row: SourceRow, folder: Path) -> Picture:
    """Return what a cell or a turn holds as a picture: bytes, a file, or Pillow's."""
    role = _role(row)
    told = f"row {row.number} of column {row.columns[role]!r}"
    if isinstance(held, Mapping):  # As `datasets` and OpenAI have it.
        named = ("bytes", "path", "url", "image", "image_url", "base64")
        held = next((held[key] for key in named if held.get(key) is not None), None)
        if isinstance(held, Mapping):
            return _picture(held, row, folder)
    if isinstance(held, str) and (start := _DATA.match(held)):
        try:
            held = base64.b64decode(held[start.end() :], validate=True)
        except ValueError as error:
            raise row.fault(held[:40], role, "holds a picture that is no base64") from error
    if isinstance(held, str) and re.match(r"[a-z]+://", held):
        what = "names a picture elsewhere, which is not fetched"
        raise row.fault(held, role, what, "a file, or the picture itself")
    if isinstance(held, str | Path):
        held = folder / held
        # A pipe would be waited for; `Path.is_file` raises where a name is too long.
        if not os.path.isfile(held):  # noqa: PTH113
            raise row.fault(
                str(held)[:80], role, "names no file", "a picture's file, beside the data"
            )
    is_picture = isinstance(held, bytes | Path) or hasattr(held, "convert")
    if not is_picture:
        expected = "a file, its bytes, or a picture of Pillow's"
        raise row.fault(type(held).__name__, role, "holds no picture", expected)
    return Picture(held, told)


# --- Rows that a processor read ---------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Sight:
    """What a row shows beside its tokens: its text as the processor takes it, and its pictures."""

    processor: Any
    text: str
    pictures: tuple[Picture, ...]


def read_together(sights: Sequence[Sight], **options: Any) -> Any:
    """Return what the model's own processor makes of rows; one processor is for all.

    Raises:
        DataError: It takes no such text or pictures.
    """
    try:
        return sights[0].processor(
            text=[sight.text for sight in sights],
            images=[[picture.image() for picture in sight.pictures] for sight in sights],
            add_special_tokens=False,
            **options,
        )
    except (ValueError, TypeError, IndexError) as error:
        name = type(sights[0].processor).__name__
        message = f"pictures that the model's processor does not take ({one_line(error)})"
        raise DataError(message, value=name, expected="text and pictures that it takes") from error


def seen_tokens(
    sight: Sight, ids: Sequence[int], counted: Sequence[bool]
) -> tuple[list[int], list[bool]]:
    """Return the tokens of a row as the processor writes them, and which of them count.

    It puts tokens in the places of pictures, of which none counts, and leaves all others.

    Args:
        sight: The row.
        ids: The tokens of its text alone.
        counted: Which of these count.

    Raises:
        DataError: It changes tokens that count.
    """
    found = [int(token) for token in read_together([sight])["input_ids"][0]]
    marks = [False] * len(found)
    matcher = SequenceMatcher(None, ids, found, autojunk=False)
    for start, at, size in matcher.get_matching_blocks():
        marks[at : at + size] = counted[start : start + size]
    if sum(marks) != sum(counted):
        what = "processor writes an answer with other tokens than its tokenizer"
        name, expected = type(sight.processor).__name__, "tokens in the places of pictures alone"
        raise DataError(what, value=name, expected=expected)
    return found, marks
