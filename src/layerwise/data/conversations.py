"""Rows with an answer in them: chats, prompts with completions, instructions, preferences."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import takewhile
from typing import Any

import pandas as pd

from layerwise.data.formats import FORMATS, Example, Format, SourceRow, is_blank, is_list
from layerwise.data.labels import meant
from layerwise.data.turns import (
    ASSISTANT,
    TRAINED,
    Turns,
    is_chat,
    plain,
    shown,
    turns_of,
    unfolded,
)
from layerwise.errors import BadInputError

CHAT_NAMES = ("messages", "conversation", "conversations", "chat", "dialog", "dialogue")
#: What prompts and answers are called, the surest first.
PROMPT_NAMES = ("prompt", "instruction", "question", "query", "input")
ANSWER_NAMES = ("completion", "response", "output", "answer")
#: Columns that a chat's template or turns take too, by their role.
_BESIDE = {
    "system": ("system", "system_prompt"),
    "history": ("history",),
    "tools": ("tools", "functions"),
    "template": ("chat_template_kwargs",),
}
#: What true and false are written as, in JSON, in tables and as numbers.
_TOLD = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}

Roles = dict[str, str] | None


def _beside(frame: pd.DataFrame, asked: Mapping[str, str], *but: str) -> dict[str, str]:
    """Return the columns that stand beside turns, by their role, and those asked for."""
    names = {role: [c for c in known if c in frame.columns] for role, known in _BESIDE.items()}
    held = {role: found[0] for role, found in names.items() if found and role not in but}
    free = [name for name in TRAINED if name in frame.columns and name not in asked.values()]
    return {**held, **{name: name for name in free if _tells(frame, name)}, **asked}


def _tells(frame: pd.DataFrame, column: str) -> bool:
    """Return whether a column holds true and false, however they are written, and nothing else."""
    held = [value for value in frame[column] if not is_blank(value)]
    return bool(held) and all(str(value).lower() in _TOLD for value in held)


def _trained(row: SourceRow, make: Callable[[SourceRow], Example | str]) -> Example | str:
    """Return what `make` makes of `row`, unless a column of the row keeps it out of the loss."""
    if all(_TOLD[str(row.cells[key]).lower()] for key in TRAINED if row.has(key)):
        return make(row)
    return "rows that the data keeps out of the loss"


def _chat(chat: Turns, row: SourceRow) -> Example | str:
    """Return `chat`, after the row's system prompt; one with nothing in the loss is left out."""
    if row.has("system") and chat.turns[0]["role"] != "system":
        chat = Turns(({"role": "system", "content": row.string("system")},)) + chat
    if not chat.said:
        return "rows without an answer in the loss"
    return Example(
        chat.said,
        messages=chat.turns,
        shown=shown(row),
        untrained=chat.untrained,
        pictures=chat.pictures,
    )


def _is_turns(row: SourceRow, role: str) -> bool:
    return role in row.cells and is_chat(row.cells[role], "role", "from")


# --- Chats ------------------------------------------------------------------------------------


def _chat_column(frame: pd.DataFrame, asked: Mapping[str, str], key: str) -> str | None:
    """Return the column of chats: as asked, one of a usual name, or one that holds nothing else."""
    if "text" in asked:
        names = [asked["text"]]
    else:
        names = sorted(frame.columns, key=lambda c: c not in CHAT_NAMES)
    for name in names:
        held = [value for value in frame[name] if not is_blank(value)]
        found = (is_chat(value, key) for value in held)
        is_usual = name in CHAT_NAMES
        if held and (any(found) if is_usual or "text" in asked else all(found)):
            return str(name)
        if is_usual and key == "role" and any(map(_is_meant, held)):
            return str(name)  # Chats that are none: the row at fault will be named.
    return None


def _is_meant(value: object) -> bool:
    """Return whether a cell is a list, or is written as one of objects is."""
    return is_list(unfolded(value)) or "".join(str(value)[:9].split()).startswith(("[{", "{'"))


def _has_chats(frame: pd.DataFrame) -> bool:
    """Return whether a column that is called as chats are holds some."""
    usual = [name for name in CHAT_NAMES if name in frame.columns]
    return any(is_chat(value, "role", "from") for name in usual for value in frame[name])


def _chat_roles(frame: pd.DataFrame, asked: Mapping[str, str], *, key: str) -> Roles:
    """Return the columns of chats whose turns have `key`."""
    text = _chat_column(frame, asked, key)
    if text is None:
        return None
    if "prompt" in asked:
        raise BadInputError(
            what="prompt column beside a chat",
            value=asked["prompt"],
            expected=f"the turns in {text!r} alone",
            hint="drop --prompt-column, or name another --text-column",
        )
    more = {role: column for role, column in asked.items() if role != "text"}
    return {"messages": text, **_beside(frame, more, "history")}


def _chat_example(row: SourceRow) -> Example | str:
    return _chat(turns_of(row, "messages"), row)


# --- Answers after a prompt -------------------------------------------------------------------


def _answer_roles(
    frame: pd.DataFrame,
    asked: Mapping[str, str],
    *,
    prompts: Sequence[str] = PROMPT_NAMES,
    answers: Sequence[str] = ANSWER_NAMES,
) -> Roles:
    """Return the columns of a prompt and of its answer, and what stands beside both.

    Where neither is called as nothing else is, a column ``text`` is rather read.
    """
    free = [name for name in frame.columns if name not in asked.values()]
    pair = [next((name for name in names if name in free), "") for names in (prompts, answers)]
    is_guess = prompts is PROMPT_NAMES and pair[0] != "prompt" and "text" in free
    if not all(pair) or is_guess or {"text", "prompt"} & asked.keys() or _has_chats(frame):
        return None
    found = {"text": pair[1], "prompt": pair[0]}
    inputs = [name for name in ("input", "context") if name in free and name not in pair]
    found |= {"input": inputs[0]} if inputs else {}
    return found | _beside(frame, asked)


def _answered(row: SourceRow) -> Example | str:
    """Return the answer after the prompt and its input; a chat where more is told than texts."""
    if _is_turns(row, "prompt"):
        if row.has("input"):
            raise row.fault(row.cells["input"], "input", "stands beside a prompt of turns")
        asked = turns_of(row, "prompt").silenced()
    else:
        prompt = "\n".join(row.string(role) for role in ("prompt", "input") if row.has(role))
        if not _is_turns(row, "text") and not any(map(row.has, _BESIDE)):
            return Example(row.string("text"), prompt=prompt)
        asked = Turns(({"role": "user", "content": prompt},) if prompt else ())
    return _chat(_history(row) + asked + _turns(row, "text", ASSISTANT), row)


def _history(row: SourceRow) -> Turns:
    """Return what was said before, as pairs of a question and an answer."""
    found = plain(unfolded(row.cells["history"])) if row.has("history") else []
    turns = list[tuple[str, str]]()
    for pair in found if isinstance(found, list) else [found]:
        if not isinstance(pair, list) or [type(said) for said in pair] != [str, str]:
            raise row.fault(pair, "history", "holds no history", "pairs of strings")
        turns += [("user", pair[0]), (ASSISTANT, pair[1])]
    return Turns(tuple({"role": role, "content": said} for role, said in turns))


def _turns(row: SourceRow, role: str, speaker: str) -> Turns:
    """Return the turns of a cell; a text is one of `speaker`'s."""
    if not row.has(role):
        return Turns(())
    if _is_turns(row, role):
        return turns_of(row, role)
    return Turns(({"role": speaker, "content": row.string(role)},))


# --- Preferences ------------------------------------------------------------------------------


def _preference_roles(frame: pd.DataFrame, asked: Mapping[str, str]) -> Roles:
    if not {"chosen", "rejected"} <= {*frame.columns} or {"text", "prompt"} & asked.keys():
        return None
    prompts = [name for name in (*PROMPT_NAMES, *CHAT_NAMES) if name in frame.columns]
    told = {"prompt": prompts[0]} if prompts else {}
    return {"text": "chosen", "rejected": "rejected", **told, **_beside(frame, asked)}


def _preference_example(row: SourceRow) -> Example | str:
    """Return the chosen answer after its prompt, which is what both answers share if not told."""
    chosen = _turns(row, "text", ASSISTANT)
    if row.has("prompt") and chosen.turns[0]["role"] == ASSISTANT:
        return _answered(row)
    if _is_turns(row, "text"):
        same = _shared(chosen.turns, _turns(row, "rejected", ASSISTANT).turns)
        return _chat(chosen.silenced(min(same, len(chosen.turns) - 1)), row)
    text = row.string("text")
    same = _shared(text, row.string("rejected"))
    start = 0 if same == len(text) else text.rfind(" ", 0, same) + 1
    return Example(text[start:], prompt=text[:start])


def _shared(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Return how many members two sequences begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def _desirable_roles(frame: pd.DataFrame, asked: Mapping[str, str]) -> Roles:
    columns = _answer_roles(frame, asked, prompts=("prompt",), answers=("completion", "response"))
    if columns is None or "label" not in frame.columns or "label" in asked:
        return None
    held = [value for value in frame["label"] if not is_blank(value)]
    is_told = held and not any(isinstance(meant(str(value)), str) for value in held)
    return {**columns, "desirable": "label"} if is_told else None


def _desirable_example(row: SourceRow) -> Example | str:
    """Return an answer that is labelled true, or by a number above 0."""
    told = meant(str(row.cells["desirable"]))
    is_good = not isinstance(told, str) and told > 0
    return _answered(row) if is_good else "rows not labelled true"


_LATER = "losses of preferences are for later"
_alpaca_roles = partial(_answer_roles, prompts=("instruction",), answers=("output",))

for _format in (
    Format("chats", "turns {role, content}", partial(_chat_roles, key="role"), _chat_example),
    Format(
        "ShareGPT chats", "turns {from, value}", partial(_chat_roles, key="from"), _chat_example
    ),
    Format(
        "prompts with completions", "a completion, or turns, after its prompt", _answer_roles,
        _answered,
    ),
    Format(
        "Alpaca instructions", "instruction, input, output, maybe system and history",
        _alpaca_roles, _answered,
    ),
    Format(
        "preference pairs", "a chosen and a rejected answer", _preference_roles,
        _preference_example,
        note=f"the chosen answers are in the loss, the rejected are not: {_LATER}",
    ),
    Format(
        "answers labelled desirable or not", "a completion after its prompt, and whether it is "
        "good (KTO)", _desirable_roles, _desirable_example,
        note=f"those labelled true are in the loss: {_LATER}",
    ),
):  # fmt: skip
    FORMATS.add(replace(_format, example=partial(_trained, make=_format.example)))
