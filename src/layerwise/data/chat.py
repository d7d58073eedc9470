"""Chats as token rows, through the tokenizer's own template, with the answers' tokens marked.

A chat is trained as one text: the template's rendering of all its turns. What each answer is in
that text is read off it, for a template may show an earlier turn otherwise than it did when that
was the last one (thinking removed, turns merged, a date, content cut), and an answer may stand
there twice. So another text takes the turn's place: where the rendering changes is what the turn
says. Around that, what the template puts there before a turn is generated is its opening, which is
in no loss, and what it ends a turn with is in the loss.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import accumulate
from typing import Any

from layerwise.data.batches import Row, Rows, cut
from layerwise.data.pictures import PARTS, Sight, seen_tokens
from layerwise.data.sounds import Sound
from layerwise.data.text import TextData
from layerwise.data.turns import ASSISTANT
from layerwise.errors import DataError

GENERATION = re.compile(r"\{%-?\s*generation\b")

Turn = Mapping[str, Any]
Span = tuple[int, int]

#: What takes the place of a turn's words: letters of no script, which no text is likely to have.
_THIS, _BEFORE = "\ue0c1\ue0c2\ue0c3", "\ue0d1\ue0d2\ue0d3"
#: A special token of which only the beginning is there.
_UNFINISHED = re.compile(r"[<\[][^>\]]*$")
#: What any two special tokens begin with.
_BRACKET = re.compile(r"[<\[][^\w>\]]*$")
#: What a turn has beside what it says.
_BESIDE = frozenset({"role", "content", "name", "id", "tool_call_id"})


def chat_rows(tokenizer: Any, data: TextData, *, max_length: int, processor: Any = None) -> Rows:
    """Return each example as the chat it is, or of which it is one exchange; only answers counted.

    Args:
        tokenizer: One with a chat template. Where it marks what is generated, that is counted; else
            every answer, with what ends it, but for those that the data keeps out of the loss.
        data: Examples with a prompt, or chats.
        max_length: The most tokens of a row. One that shows pictures is left out where it has more.
        processor: What reads the pictures of examples that show some.

    Raises:
        DataError: The template refuses a chat, or does not show an answer; or nothing is left to
            predict.
    """
    rows, unseen = [], Counter[str]()
    asked = [{"role": "user", "content": _THIS}]
    whole, split = _Chat(tokenizer, (), {}), _Chat(tokenizer, (), {}, in_parts=True)
    # Where the template shows no plain question, its content comes in parts.
    in_parts = _THIS not in whole.tried(asked) and _THIS in split.tried(asked)
    for i, example in enumerate(data.examples):
        pair = (("user", example.prompt or ""), (ASSISTANT, example.text))
        turns = example.messages or tuple({"role": role, "content": text} for role, text in pair)
        shows = bool(example.pictures)
        chat = _written(_Chat(tokenizer, turns, example.shown, in_parts or shows))
        text = chat.text
        read = _tokens(tokenizer, text, _counted(chat, example.untrained, unseen))
        sight = Sight(processor, text, example.pictures) if shows else None
        rows.append(Row(i, *(seen_tokens(sight, *read) if sight else read), sight=sight))
        unseen.update(chat.unseen())
        unseen["answers out of the loss, as the data says"] += len(example.untrained)
    left = sum(row.sight is not None and len(row.ids) > max_length for row in rows)
    if heard := [s for e in data.examples for s in e.pictures if isinstance(s, Sound)]:
        rate = int(getattr(getattr(processor, "feature_extractor", None), "sampling_rate", 0))
        resampled = sum(not sound.has_rate(rate) for sound in heard)
        unseen[f"sounds resampled to {rate:,} samples a second"] = resampled
    kinds = " or ".join(data.media) or "pictures"
    unseen[f"examples with {kinds} that are longer than the limit, left out"] = left
    notes = tuple(f"{what}: {count:,}" for what, count in unseen.items() if count)
    found = cut(rows, max_length=max_length)
    return replace(found, truncated=found.truncated - left, notes=notes)


def _written(chat: "_Chat") -> "_Chat":
    """Return `chat` as its template takes it: silence and calls of tools are written in two ways.

    A turn that only calls a tool says nothing or "", and what the tool is given is an object or
    JSON text; the first way that the template takes is taken.
    """
    if not any(turn.get("tool_calls") for turn in chat.turns):
        return chat
    told = tuple({**turn, "content": turn.get("content") or ""} for turn in chat.turns)
    ways = (chat.turns, told, _in_json(chat.turns), _in_json(told))
    made = (replace(chat, turns=turns) for turns in ways)
    return next((found for found in made if found.tried(found.turns)), chat)


def _in_json(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """Return `turns` with what their tools are given as JSON text."""
    return tuple(
        {**turn, "tool_calls": [_called(call, json.dumps) for call in turn["tool_calls"]]}
        if turn.get("tool_calls")
        else turn
        for turn in turns
    )


def _counted(chat: "_Chat", untrained: Sequence[int], unseen: Counter[str]) -> list[Span]:
    """Return which parts of the rendered chat are in the loss."""
    answers = [i for i, turn in enumerate(chat.turns) if turn["role"] == ASSISTANT]
    if (marks := chat.marks(chat.turns)) is not None:
        hidden = max(0, len(answers) - len(marks))
        unseen["answers outside the marks of the chat template"] += hidden
        own = {i: chat.marks_of(i, marks) for i in answers} if untrained else {}
        silent = {mark for i in untrained for mark in own.pop(i)}
        if silent.intersection(mark for found in own.values() for mark in found):
            what = "chat template marks several answers as one, of which some are in no loss"
            raise chat.fault(what, chat.turns[untrained[0]])
        return [mark for mark in marks if mark not in silent]
    spans = {i: chat.answer(i) for i in answers if i not in untrained}
    chat.check(spans)
    return [*spans.values()]


@dataclass(frozen=True)
class _Chat:
    """A chat, the tokenizer whose template shows it, and what the template gets beside it.

    Where the template takes content `in_parts`, as those of models that see do, it gets it so.
    """

    tokenizer: Any
    turns: tuple[Turn, ...]
    shown: Mapping[str, Any]
    in_parts: bool = False

    @cached_property
    def text(self) -> str:
        """Return the chat as the template shows it."""
        return self._rendered(self.turns, {})

    def fault(self, what: str, turn: Turn) -> DataError:
        """Return the error that the template shows `turn` so that it can be in no loss."""
        expected = "a template that shows every answer once, or {% generation %} marks in it"
        hint = "chats of one exchange"
        return DataError(what=what, value=turn.get("content"), expected=expected, hint=hint)

    def _rendered(self, turns: Sequence[Turn], options: Mapping[str, Any]) -> str:
        from jinja2 import TemplateError

        try:
            found: str = self.tokenizer.apply_chat_template(
                self._given(turns), tokenize=False, **self.shown, **options
            )
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise DataError(
                what=f"chat template refuses a chat ({error})",
                value=_outline(turns),
                expected="turns that the model's template allows",
            ) from error
        return found

    def _given(self, turns: Sequence[Turn]) -> list[dict[str, Any]]:
        """Return `turns` as the template takes them."""
        given = [{k: v for k, v in turn.items() if v is not None} for turn in turns]
        for turn in given if self.in_parts else ():
            turn["content"] = _parts(turn.get("content") or "")
        return given

    def tried(self, turns: Sequence[Turn], *, opens: bool = False) -> str:
        """Return the rendering of turns that nobody wrote; empty where the template refuses."""
        try:
            found = self._rendered(turns, {"add_generation_prompt": True} if opens else {})
        except DataError:
            return ""
        return found + self._unprompted if opens else found

    @cached_property
    def _unprompted(self) -> str:
        """Return what opens an answer, where the template knows no generation prompt; else ""."""
        asked = [{"role": "user", "content": _BEFORE}]
        closed = self.tried(asked)
        told = self.tried([*asked, {"role": ASSISTANT, "content": _THIS}])
        opening, said, _ = told.removeprefix(closed).partition(_THIS)
        with suppress(DataError):  # A blank alone is rather the beginning of the first word.
            if said and opening.strip() and told.startswith(closed):
                is_silent = self._rendered(asked, {"add_generation_prompt": True}) == closed
                return opening if is_silent else ""
        return ""

    def marks(self, turns: Sequence[Turn]) -> list[Span] | None:
        """Return what the template marks as generated; None where it marks nothing ever."""
        from transformers.utils.chat_template_utils import render_jinja_template

        tools = self.shown.get("tools")
        template = self.tokenizer.get_chat_template(tools=tools)
        if not GENERATION.search(template):
            return None
        (text,), (marks,) = render_jinja_template(
            conversations=[self._given(turns)],
            chat_template=template,
            return_assistant_tokens_mask=True,
            **{**self.tokenizer.special_tokens_map, **self.shown},
        )
        if text != self._rendered(turns, {}):
            what = "chat template that shows a chat otherwise when it marks answers"
            raise self.fault(what, turns[-1])
        return [(start, end) for start, end in marks]

    def marks_of(self, place: int, marks: Sequence[Span]) -> set[Span]:
        """Return those of `marks` that say otherwise where the turn at `place` does.

        Raises:
            DataError: That cannot be told.
        """
        is_told = False
        for turns, other in self._otherwise(place):
            found = self.marks(turns) or []
            if len(found) == len(marks):
                is_told = True
                both = zip(marks, found, strict=True)
                own = {a for a, b in both if self.text[slice(*a)] != other[slice(*b)]}
                if own:
                    return own
        if is_told:
            return set()
        what = "chat template does not tell which of its marks is an answer's that is in no loss"
        raise self.fault(what, self.turns[place])

    def _otherwise(self, place: int) -> Iterator[tuple[tuple[Turn, ...], str]]:
        """Yield the turns with other words at `place`, and how they show, where that differs."""
        for turn in _in_place_of(self.turns[place]):
            turns = (*self.turns[:place], turn, *self.turns[place + 1 :])
            other = self.tried(turns)
            if other and other != self.text:
                yield turns, other

    def check(self, spans: Mapping[int, Span]) -> None:
        """Raise where what counts of the answers at some places may be another turn's.

        Raises:
            DataError: An answer is shown twice, in another order, or around what others say.
        """
        for place, turn in enumerate(self.turns):
            said = str(turn.get("content") or "").strip()
            at = self.text.find(said)
            is_once = bool(said) and self.text.count(said) == 1
            words: Span | None = (at, at + len(said))
            if place in spans:
                words, changed = spans[place], {**turn, "content": _THIS}
                turns = (*self.turns[:place], changed, *self.turns[place + 1 :])
                if said and not is_once and self.tried(turns).count(_THIS) > 1:
                    what = "chat template shows an answer more than once"
                    raise self.fault(what, turn)
            elif not is_once or turn.get("tool_calls") or self._mixed(place, words, spans):
                words = self._words(place)  # What stands there once is rather found than rendered.
            for mixed in self._mixed(place, words, spans):
                what = f"chat template shows what {turn['role']} says in or before an answer"
                raise self.fault(what, mixed)

    def _mixed(self, place: int, words: Span | None, spans: Mapping[int, Span]) -> list[Turn]:
        """Return the answers that are in, or on the wrong side of, `words` of the turn there."""
        is_placed = self.turns[place]["role"] in (ASSISTANT, "user", "tool")
        first, last = words or (0, 0)
        found = []
        for i, (start, end) in spans.items() if words else ():
            is_apart = [last <= start, first >= end]
            if i != place and not (is_apart[place > i] if is_placed else any(is_apart)):
                found.append(self.turns[i])
        return found

    def _words(self, place: int) -> Span | None:
        """Return where the words of the turn at `place` stand; None where they are not shown."""
        for _, other in self._otherwise(place):
            start, end = _changed(self.text, other)
            first, last = other.find(_THIS), other.rfind(_THIS) + len(_THIS)
            if first == start:
                return start, end
            # Something else changed too, as where a template looks for a word in a turn.
            return (end, end) if len(other) - last == len(self.text) - end else None
        return None

    def unseen(self) -> Iterator[str]:
        """Yield what the chat has and the template does not show, in words."""
        if "tools" in self.shown:
            bare = replace(self, shown={k: v for k, v in self.shown.items() if k != "tools"})
            if bare.text == self.text:
                yield "chats whose tools the chat template does not show"
        for key in dict.fromkeys(key for turn in self.turns for key in turn if key not in _BESIDE):
            turns = tuple({k: v for k, v in turn.items() if k != key} for turn in self.turns)
            if turns != self.turns and self.tried(turns) == self.text:
                name = key.replace("_", " ")
                yield f"chats whose {name} the chat template does not show"

    def answer(self, place: int) -> Span:
        """Return where the turn at `place` stands in the text, without its opening, with its end.

        Raises:
            DataError: The template does not show it.
        """
        opened = self.tried(self.turns[:place], opens=True) if place else ""
        closed = self.tried(self.turns[: place + 1])
        if opened and closed and closed.startswith(opened) and self.text.startswith(closed):
            said = str(self.turns[place].get("content") or "").strip().splitlines()
            if not said or said[-1].strip() in closed[len(opened) :]:
                return len(opened), len(closed)
        for turns, other in self._otherwise(place):
            closed = self.tried(turns[: place + 1])
            # Where more of it shows than it says itself, another turn repeats something of it.
            if not closed or other.count(_THIS) <= closed.count(_THIS):
                return self._around(place, turns[place], other)
        what = "chat template does not show an answer, so it can be in no loss"
        raise self.fault(what, self.turns[place])

    def _around(self, place: int, turn: Turn, other: str) -> Span:
        """Return where the turn at `place` stands, from the rendering with another `turn` there."""
        start, end = _changed(self.text, other)
        beyond = len(other) - (len(self.text) - end) - other.rfind(_THIS) - len(_THIS)
        fixed = self._fixed(place, turn, start, max(0, other.find(_THIS) - start))
        return start - fixed, end + self._ending(place, turn, self.text[end:], beyond)

    def _ending(self, place: int, turn: Turn, behind: str, beyond: int) -> int:
        """Return how much of what is `behind` the words of the turn at `place` ends it.

        It is what ends the turn where it is the last, or where another answer follows; `beyond` so
        much of what stands there behind other words.
        """
        opening = self._opening
        closed = self.tried((*self.turns[:place], turn))
        tail = closed.rpartition(_THIS)[2][beyond:] if _THIS in closed else ""
        if behind.startswith(tail):
            return len(tail)
        follows = {"role": ASSISTANT, "content": _BEFORE}
        again = self.tried((*self.turns[:place], turn, follows)).rpartition(_THIS)[2][beyond:]
        if opening and opening in again and behind.startswith(again.partition(opening)[0]):
            return len(again.partition(opening)[0])
        return len(_UNFINISHED.sub("", tail[: _alike(tail, behind)]))

    def _fixed(self, place: int, turn: Turn, start: int, ahead: int) -> int:
        """Return how much before `start` is the turn's own whatever it says, its opening apart.

        So much as is `ahead` stands there only before other words.
        """
        if place:
            earlier = next(_in_place_of(self.turns[place - 1], _BEFORE))
            turns = (*self.turns[: place - 1], earlier, turn, *self.turns[place + 1 :])
            both, opened = self.tried(turns), self.tried(turns[:place], opens=True)
            if _BEFORE in opened and _BEFORE in both.partition(_THIS)[0]:
                between = both.partition(_THIS)[0].rpartition(_BEFORE)[2]
                between = between[: max(0, len(between) - ahead)]
                if self.text[:start].endswith(between):
                    return len(between) - self._opened(between, opened, self.tried(turns[:place]))
        opening = self._opening
        at = self.text.rfind(opening, 0, start) if opening else -1
        return start - at - len(opening) if at >= 0 else 0

    def _opened(self, between: str, opened: str, closed: str) -> int:
        """Return how much of what stands `between` two turns ends the one and opens the other.

        It is up to as much of the generation prompt, which `opened` has and `closed` has not, as
        stands there; and no less than what both begin with.
        """
        prompt = opened[_alike(opened, closed) :]
        size = next(n for n in range(len(prompt), -1, -1) if prompt[:n] in between)
        shared = _alike(between, opened.rpartition(_BEFORE)[2])
        most = max(shared, between.rindex(prompt[:size]) + size) if size else shared
        return most if size == len(prompt) else len(_BRACKET.sub("", between[:most]))

    @cached_property
    def _opening(self) -> str:
        """Return what opens an answer to a single question; empty where that cannot be told."""
        asked = [{"role": "user", "content": _BEFORE}]
        closed, opened = self.tried(asked), self.tried(asked, opens=True)
        return opened[len(closed) :] if closed and opened.startswith(closed) else ""


def _outline(turns: Sequence[Turn]) -> str:
    """Return who speaks in a chat, and how it begins, by which it is found in the data."""
    begins = next((str(turn["content"]) for turn in turns if turn.get("content")), "")
    return f"{', '.join(turn['role'] for turn in turns)}, from {begins[:60]!r}"


def _parts(said: str) -> list[dict[str, str]]:
    """Return what a turn says as parts of text, and of pictures and sounds in their places."""
    pieces = [piece for piece in re.split(f"([{''.join(PARTS)}])", said) if piece] or [said]
    return [
        {"type": PARTS[piece]} if piece in PARTS else {"type": "text", "text": piece}
        for piece in pieces
    ]


def _in_place_of(turn: Turn, words: str = _THIS) -> Iterator[dict[str, Any]]:
    """Yield turns that say `words` where `turn` says something: in all its parts, and plainly.

    The name of what it calls is changed last, for other turns may show it too.
    """
    is_silent = turn.get("tool_calls") and not turn.get("content")
    made = {**turn, "content": turn.get("content") if is_silent else words}
    if turn.get("reasoning_content"):
        made["reasoning_content"] = words
    if turn.get("tool_calls"):
        spoken = partial(_asked, words=words)
        for name in (None, words):
            yield {
                **made,
                "tool_calls": [_called(c, spoken, name=name) for c in turn["tool_calls"]],
            }
    else:
        yield made
    yield {"role": turn["role"], "content": words}


def _called(
    call: Mapping[str, Any], change: Callable[[Any], Any], *, name: str | None = None
) -> dict[str, Any]:
    """Return a call of a tool with what it is given changed, and maybe with another name."""
    own = call["function"]
    changed = {"name": name or own["name"], "arguments": change(own["arguments"])}
    return {**call, "function": {**own, **changed}}


def _asked(given: Any, *, words: str) -> Any:
    """Return what a tool is `given` with `words` in it, if only under a new name."""
    made = _spoken(given, words=words)
    return {**made, words: words} if made == given and isinstance(made, Mapping) else made


def _spoken(value: Any, *, words: str) -> Any:
    """Return `value` with `words` for every string in it."""
    if isinstance(value, Mapping):
        return {key: _spoken(v, words=words) for key, v in value.items()}
    if isinstance(value, list):
        return [_spoken(v, words=words) for v in value]
    return words if isinstance(value, str) else value


def _changed(text: str, other: str) -> Span:
    """Return the part of `text` in which it differs from another."""
    start = _alike(text, other)
    return start, len(text) - _alike(text[start:][::-1], other[start:][::-1])


def _alike(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Return how many leading letters, or tokens, two texts share."""
    low, high = 0, min(len(a), len(b))
    while low < high:  # Comparing halves is quicker than comparing letters.
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle - 1)
    return low


def _tokens(tokenizer: Any, text: str, spans: Sequence[Span]) -> tuple[list[int], list[bool]]:
    """Return the tokens of `text`, and which have something of `spans`."""
    is_fast = bool(getattr(tokenizer, "is_fast", False))
    told = partial(tokenizer, add_special_tokens=False, verbose=False)
    found = told(text, return_offsets_mapping=is_fast)
    ids = list(found["input_ids"])
    inside = bytearray(len(text) if is_fast else len(ids))
    for part in spans:
        # Where a tokenizer does not say it: the tokens that stay if the text ends there.
        at = part if is_fast else [_alike(told(text[:end])["input_ids"], ids) for end in part]
        inside[at[0] : at[1]] = b"\1" * (at[1] - at[0])
    if not is_fast:
        return ids, list(map(bool, inside))
    before = [0, *accumulate(inside)]
    return ids, [before[end] > before[start] for start, end in found["offset_mapping"]]
