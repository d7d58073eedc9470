"""Pictures and sounds beside text: where a chat has them, what they hold, rows of a processor."""

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

import numpy as np

from layerwise.data.formats import Example, SourceRow, is_blank, is_list
from layerwise.data.sounds import Sound
from layerwise.errors import DataError, one_line
from layerwise.extras import require

#: Stand for a picture and for a sound among a turn's words; letters of no script.
PLACE, HEARD = "\ue0e1", "\ue0e2"
#: What LLaVA's and LLaMA-Factory's chats write in their stead.
WRITTEN = {PLACE: "<image>", HEARD: "<audio>"}
#: What each is in the parts of a turn, in words, and as the role of a column.
PARTS = {PLACE: "image", HEARD: "audio"}
NAMES = {PLACE: "picture", HEARD: "sound"}
ROLES = {PLACE: "pictures", HEARD: "sounds"}
_DATA = re.compile(r"data:(image|audio)/[\w.+-]+;base64,")
#: Keys under which `datasets`, OpenAI and chats hold one.
_NAMED = {
    PLACE: ("bytes", "path", "url", "image", "image_url", "base64"),
    HEARD: ("bytes", "path", "url", "audio", "audio_url", "input_audio", "data", "base64"),
}

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
    """Return `example` as a chat with its pictures and sounds in their places.

    They stand where its turns say so, each with its own or the row's next of its kind; where none
    of the turns does, as TRL has it, before the words of the first question.

    Args:
        example: As its format has it; `Example.pictures` are those of its turns, each as what
            stands for it there, `PLACE` or `HEARD`, and what it holds, None where it is the row's.
        row: What it was made of; its cells of pictures and of sounds hold one, or a list of them.
        folder: What names of files begin from.

    Raises:
        DataError: There are not as many as places, or one of them is none.
    """
    beside = {mark: [*_held(row.cells.get(role))] for mark, role in ROLES.items()}
    if not any(beside.values()) and not example.pictures:
        return example
    if example.ids is not None:
        mark = next(mark for mark in ROLES if beside[mark])
        raise row.fault(len(beside[mark]), ROLES[mark], "stands beside tokens", "texts or chats")
    turns = [dict(turn) for turn in example.messages or _exchange(example)]
    inside = {mark: [held for own, held in example.pictures if own == mark] for mark in ROLES}
    for mark, role in ROLES.items():
        count = len(beside[mark])
        if not inside[mark]:
            _put(turns, mark, count)
            inside[mark] = [None] * count
        if (wanted := sum(held is None for held in inside[mark])) != count:
            what = f"has not as many {role} as its chat has places for them"
            raise row.fault(count, _role(row, mark), what, f"{wanted}")
    own, rest = ({mark: iter(held) for mark, held in of.items()} for of in (inside, beside))
    found = []
    for mark in (c for turn in turns for c in str(turn.get("content") or "") if c in ROLES):
        held = next(own[mark])
        found.append(_read(next(rest[mark]) if held is None else held, mark, row, folder))
    return replace(example, prompt=None, messages=tuple(turns), pictures=tuple(found))


def _put(turns: Sequence[dict[str, Any]], mark: str, count: int) -> None:
    """Put `count` of `mark` where the turns write so, or before the words of the first question."""
    if count and sum(str(t.get("content") or "").count(WRITTEN[mark]) for t in turns) == count:
        for turn in turns:
            turn["content"] = (turn.get("content") or "").replace(WRITTEN[mark], mark)
    elif count:
        asked = next((turn for turn in turns if turn["role"] == "user"), turns[0])
        asked["content"] = mark * count + (asked.get("content") or "")


def _exchange(example: Example) -> Iterator[Mapping[str, Any]]:
    yield {"role": "user", "content": example.prompt or ""}
    yield {"role": "assistant", "content": example.text}


def _held(cell: Any) -> Sequence[Any]:
    """Return the pictures of a cell; one stands for itself."""
    if is_blank(cell):
        return ()
    is_several = is_list(cell) and not getattr(cell, "ndim", 1) > 1
    return [*cell] if is_several else [cell]


def _role(row: SourceRow, mark: str) -> str:
    """Return the role whose cell is at fault: that of its kind, or of the turns that hold it."""
    return ROLES[mark] if ROLES[mark] in row.columns else next(iter(row.columns))


def _read(held: Any, mark: str, row: SourceRow, folder: Path) -> Picture | Sound:
    """Return what a cell or a turn holds as a picture or sound: bytes, a file, or a library's."""
    role, name = _role(row, mark), NAMES[mark]
    told = f"row {row.number} of column {row.columns[role]!r}"
    if mark == HEARD and (samples := _samples(held)):
        return Sound(samples[0], told, samples[1])
    if isinstance(held, Mapping):
        return _read(_inner(held, mark), mark, row, folder)
    if isinstance(held, str) and (start := _DATA.match(held)):
        try:
            held = base64.b64decode(held[start.end() :], validate=True)
        except ValueError as error:
            raise row.fault(held[:40], role, f"holds a {name} that is no base64") from error
    if isinstance(held, str) and re.match(r"[a-z]+://", held):
        what = f"names a {name} elsewhere, which is not fetched"
        raise row.fault(held, role, what, f"a file, or the {name} itself")
    if isinstance(held, str | Path):
        held = folder / held
        # A pipe would be waited for; `Path.is_file` raises where a name is too long.
        if not os.path.isfile(held):  # noqa: PTH113
            expected = f"a {name}'s file, beside the data"
            raise row.fault(str(held)[:80], role, "names no file", expected)
    if isinstance(held, bytes | Path):
        return Sound(held, told) if mark == HEARD else Picture(held, told)
    if mark == PLACE and hasattr(held, "convert"):
        return Picture(held, told)
    beside = "a picture of Pillow's" if mark == PLACE else "its samples and sampling_rate"
    expected = f"a file, its bytes, or {beside}"
    raise row.fault(type(held).__name__, role, f"holds no {name}", expected)


def _samples(held: Any) -> tuple[Any, int] | None:
    """Return the samples and the rate of what `datasets` holds or decodes as a sound."""
    if hasattr(held, "get_all_samples"):
        read = held.get_all_samples()
        return np.asarray(read.data).T, int(read.sample_rate)
    if isinstance(held, Mapping) and held.get("array") is not None and held.get("sampling_rate"):
        return held["array"], int(held["sampling_rate"])
    return None


def _inner(held: Mapping[str, Any], mark: str) -> Any:
    """Return what a mapping of `datasets` or OpenAI holds: a file, bytes or a ``data:`` URI."""
    key = next((key for key in _NAMED[mark] if held.get(key) is not None), "")
    found = held.get(key)
    is_plain = key == "data" and isinstance(found, str) and not _DATA.match(found)
    return f"data:audio/wav;base64,{found}" if is_plain else found


# --- Rows that a processor read ---------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Sight:
    """What a row has beside its tokens: its text as the processor takes it, pictures and sounds."""

    processor: Any
    text: str
    pictures: tuple[Picture | Sound, ...]


def read_together(sights: Sequence[Sight], **options: Any) -> Any:
    """Return what the model's own processor makes of rows; one processor is for all.

    Raises:
        DataError: It takes no such text or pictures.
    """
    processor = sights[0].processor
    name = type(processor).__name__
    seen = [[p for p in sight.pictures if isinstance(p, Picture)] for sight in sights]
    heard = [p for sight in sights for p in sight.pictures if isinstance(p, Sound)]
    needed = {"image_processor": any(seen), "feature_extractor": bool(heard)}
    for part, is_needed in needed.items():
        if is_needed and getattr(processor, part, None) is None:
            kind = "pictures" if part == "image_processor" else "sounds"
            message, hint = f"{kind} for a model that takes none", f"rows without {kind}"
            raise DataError(message, value=name, expected="a model that takes them", hint=hint)
    more: dict[str, Any] = {}
    if any(seen):
        more["images"] = [[picture.image() for picture in own] for own in seen]
    if heard:
        rate = int(processor.feature_extractor.sampling_rate)
        more |= {"audio": [sound.wave(rate) for sound in heard], "sampling_rate": rate}
    texts = [sight.text for sight in sights]
    how = {"add_special_tokens": False, **options}
    if heard:  # Else what pads text would cut sounds.
        more["return_tensors"] = how.pop("return_tensors", None)
        how = {"text_kwargs": how}
    try:
        return processor(text=texts, **more, **how)
    except (ValueError, TypeError, IndexError) as error:
        kinds = " and ".join(k for k, own in (("pictures", any(seen)), ("sounds", heard)) if own)
        message = f"{kinds} that the model's processor does not take ({one_line(error)})"
        expected = f"text and {kinds} that it takes"
        raise DataError(message, value=name, expected=expected) from error


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
