"""Chats as token rows, through the tokenizer's own template, with the assistant's tokens marked."""

import re
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from layerwise.data.batches import Row, Rows, cut
from layerwise.data.text import Example, TextData
from layerwise.errors import DataError

GENERATION = re.compile(r"\{%-?\s*generation\b")

Turns = list[dict[str, str]]


def chat_rows(tokenizer: Any, data: TextData, *, max_length: int) -> Rows:
    """Return each example as the chat it is, or of which it is one exchange; only answers counted.

    Args:
        tokenizer: One with a chat template. An answer is what an assistant turn adds to the chat
            before it; where the template marks what is generated, as much of it as is marked.
        data: Examples with a prompt, or chats.
        max_length: The most tokens of a row.

    Raises:
        DataError: The template refuses a chat, or rewrites earlier turns so that no turn can be
            told from the others; or nothing is left to predict.
    """
    marks = GENERATION.search(tokenizer.get_chat_template()) is not None
    encode = _marked if marks else _by_difference
    rows = []
    for i, example in enumerate(data.examples):
        ids, counted = encode(tokenizer, _turns(example))
        rows.append(Row(i, ids, counted))
    return cut(rows, max_length=max_length)


def _turns(example: Example) -> Turns:
    """Return the example as turns: its own, or prompt and text as user and assistant."""
    pairs = example.messages or (("user", example.prompt or ""), ("assistant", example.text))
    return [{"role": role, "content": content} for role, content in pairs]


def _marked(tokenizer: Any, turns: Turns) -> tuple[list[int], list[bool]]:
    """Return the chat's tokens, and which of them the template marks as generated."""
    encoded = _apply(tokenizer, turns, return_assistant_tokens_mask=True)
    ids, marked = list(encoded["input_ids"]), [bool(m) for m in encoded["assistant_masks"]]
    try:
        _, added = _by_difference(tokenizer, turns)
    except DataError:  # Earlier turns are rewritten: here the marks alone can tell.
        return ids, marked
    # transformers runs a mark that ends in a blank on to the end of the chat, over later prompts,
    # where the tokenizer drops blanks. What no assistant turn adds is no answer.
    return ids, [a and b for a, b in zip(marked, added, strict=True)]


def _by_difference(tokenizer: Any, turns: Turns) -> tuple[list[int], list[bool]]:
    """The chat's tokens, and which of them its assistant turns add to what stands before them.

    What the assistant says before anyone else has spoken answers nothing and is not counted.
    """
    ids = _tokens(tokenizer, turns)
    counted = [False] * len(ids)
    for i, turn in enumerate(turns):
        if i > 0 and turn["role"] == "assistant":
            start, end = _start(tokenizer, turns[:i], ids), len(ids)
            if i + 1 < len(turns):
                end = _shared(_tokens(tokenizer, turns[: i + 1]), ids)
            counted[start:end] = [True] * (end - start)
    return ids, counted


def _start(tokenizer: Any, before: Turns, ids: Sequence[int]) -> int:
    """Return where in `ids` the answer to the turns `before` begins."""
    opened = _tokens(tokenizer, before, add_generation_prompt=True)
    shared = _shared(opened, ids)
    # A template may open a finished turn otherwise than one to be generated, and a tokenizer may
    # merge over the boundary; what came before the turn's opening must be the same.
    if shared < len(_tokens(tokenizer, before)) - 1:
        raise DataError(
            what="chat template changes earlier turns, so answers cannot be told from prompts",
            value=before[-1]["content"],
            expected="a template with {% generation %} marks",
            hint="chats of one exchange",
        )
    return shared


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many leading tokens two sequences share."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def _tokens(tokenizer: Any, turns: Turns, **options: Any) -> list[int]:
    return list(_apply(tokenizer, turns, **options)["input_ids"])


def _apply(tokenizer: Any, turns: Turns, **options: Any) -> Any:
    """Return what the tokenizer's chat template makes of `turns`."""
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True, **options)
    except TemplateError as error:
        raise DataError(
            what=f"chat template refuses a chat ({error})",
            value=[turn["role"] for turn in turns],
            expected="turns that the model's template allows",
        ) from error
