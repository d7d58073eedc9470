"""Rows with an answer in them: chats, prompts with completions, instructions, preferences."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import takewhile
from typing import Any

import pandas as pd

from layerwise.data.formats import FORMATS, Example, Format, SourceRow, is_blank, is_list
from layerwise.data.turns import ASSISTANT, Turns, is_chat, plain, shown, turns_of, unfolded
from layerwise.errors import BadInputError

CHAT_NAMES = ("messages", "conversation", "conversations", "chat", "dialog", "dialogue")
#: Columns that a chat's template or turns take too, by their role.
_BESIDE = {
    "system": ("system", "system_prompt"),
    "tools": ("tools", "functions"),
    "template": ("chat_template_kwargs",),
}

Roles = dict[str, str] | None


def _beside(frame: pd.DataFrame) -> dict[str, str]:
    """Return the columns that stand beside a chat, by their role."""
    names = {role: [c for c in known if c in frame.columns] for role, known in _BESIDE.items()}
    return {role: found[0] for role, found in names.items() if found}


def _is_free(frame: pd.DataFrame, asked: Mapping[str, str], *columns: str) -> bool:
    """Return whether there are all of `columns`, and neither text nor prompt was asked for."""
    return {*columns} <= {*frame.columns} and not {"text", "prompt"} & asked.keys()


def _chat(turns: Turns, row: SourceRow) -> Example | str:
    """Return the chat of `turns`; one with nothing in the loss is left out."""
    if not turns.said:
        return "rows without an answer in the loss"
    told = shown(row)
    return Example(turns.said, messages=turns.turns, shown=told, untrained=turns.untrained)


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
        if is_usual and key == "role" and any(is_list(unfolded(value)) for value in held):
            return str(name)  # Chats that are none: the row at fault will be named.
    return None


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
    return {"messages": text, **_beside(frame), **more}


def _chat_example(row: SourceRow) -> Example | str:
    return _chat(turns_of(row, "messages"), row)


# --- Prompts with completions -----------------------------------------------------------------


def _completion_roles(frame: pd.DataFrame, asked: Mapping[str, str]) -> Roles:
    answers = [name for name in ("completion", "response") if name in frame.columns]
    if not answers or not _is_free(frame, asked, "prompt") or _has_chats(frame):
        return None
    beside = {role: column for role, column in _beside(frame).items() if role != "system"}
    return {"text": answers[0], "prompt": "prompt", **beside, **asked}


def _answered(row: SourceRow) -> Example | str:
    """Return what the text says after the prompt; either may be turns."""
    if not any(is_chat(row.cells[role], "role", "from") for role in ("prompt", "text")):
        prompt = row.string("prompt") if row.has("prompt") else ""
        return Example(row.string("text"), prompt=prompt)
    before, after = _turns(row, "prompt", "user"), _turns(row, "text", ASSISTANT)
    start = len(before.turns)
    untrained = tuple(start + i for i in after.untrained)
    return _answered_from(start, Turns((*before.turns, *after.turns), untrained), row)


def _answered_from(start: int, chat: Turns, row: SourceRow) -> Example | str:
    """Return `chat`, of which no answer before its turn `start` is in the loss."""
    early = [i for i, turn in enumerate(chat.turns[:start]) if turn["role"] == ASSISTANT]
    return _chat(Turns(chat.turns, tuple(sorted({*early, *chat.untrained}))), row)


def _turns(row: SourceRow, role: str, speaker: str) -> Turns:
    """Return the turns of a cell; a text is one of `speaker`'s."""
    if not row.has(role):
        return Turns(())
    if is_chat(row.cells[role], "role", "from"):
        return turns_of(row, role)
    return Turns(({"role": speaker, "content": row.string(role)},))


# --- Alpaca -----------------------------------------------------------------------------------


def _alpaca_roles(frame: pd.DataFrame, asked: Mapping[str, str]) -> Roles:
    if not _is_free(frame, asked, "instruction", "output") or _has_chats(frame):
        return None
    beside = {c: c for c in ("input", "history") if c in frame.columns}
    return {"text": "output", "prompt": "instruction", **beside, **_beside(frame), **asked}


def _alpaca_example(row: SourceRow) -> Example | str:
    """Return an instruction with its input and output; a chat where more was said before."""
    parts = [row.string(role) for role in ("prompt", "input") if row.has(role)]
    query, answer = "\n".join(parts), row.string("text")
    if not any(row.has(role) for role in ("system", "history", "tools", "template")):
        return Example(answer, prompt=query)
    turns = [("system", row.string("system"))] if row.has("system") else []
    history = plain(unfolded(row.cells["history"])) if row.has("history") else []
    for pair in history if isinstance(history, list) else [history]:
        if not isinstance(pair, list) or [type(said) for said in pair] != [str, str]:
            raise row.fault(pair, "history", "holds no history", "pairs of strings")
        turns += [("user", pair[0]), (ASSISTANT, pair[1])]
    turns += [("user", query), (ASSISTANT, answer)]
    return _chat(Turns(tuple({"role": role, "content": said} for role, said in turns)), row)


# --- Preferences ------------------------------------------------------------------------------


def _preference_roles(frame: pd.DataFrame, asked: Mapping[str, str]) -> Roles:
    if not _is_free(frame, asked, "chosen", "rejected"):
        return None
    prompts = [name for name in ("prompt", *CHAT_NAMES) if name in frame.columns]
    told = {"prompt": prompts[0]} if prompts else {}
    return {"text": "chosen", "rejected": "rejected", **told, **_beside(frame), **asked}


def _preference_example(row: SourceRow) -> Example | str:
    """Return the chosen answer after its prompt, which is what both answers share if not told."""
    is_turns = is_chat(row.cells["text"], "role", "from")
    chosen = turns_of(row, "text") if is_turns else Turns(())
    if row.has("prompt") and (not is_turns or chosen.turns[0]["role"] == ASSISTANT):
        return _answered(row)
    if is_turns:
        same = _shared(chosen.turns, _turns(row, "rejected", ASSISTANT).turns)
        return _answered_from(min(same, len(chosen.turns) - 1), chosen, row)
    text = row.string("text")
    same = _shared(text, row.string("rejected"))
    start = 0 if same == len(text) else text.rfind(" ", 0, same) + 1
    return Example(text[start:], prompt=text[:start])


def _shared(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Return how many members two sequences begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def _desirable_roles(frame: pd.DataFrame, asked: Mapping[str, str]) -> Roles:
    columns = _completion_roles(frame, asked)
    if columns is None or "label" not in frame.columns or "label" in asked:
        return None
    held = [value for value in frame["label"] if not is_blank(value)]
    is_told = held and all(str(value).lower() in _DESIRABLE for value in held)
    return {**columns, "desirable": "label"} if is_told else None


#: What a label of KTO is written as, in JSON, in tables and as a number.
_DESIRABLE = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}


def _desirable_example(row: SourceRow) -> Example | str:
    is_good = _DESIRABLE.get(str(row.cells["desirable"]).lower(), False)
    return _answered(row) if is_good else "rows not labelled true"


_LATER = "losses of preferences are for later"

for _format in (
    Format("chats", "turns {role, content}", partial(_chat_roles, key="role"), _chat_example),
    Format(
        "ShareGPT chats", "turns {from, value}", partial(_chat_roles, key="from"), _chat_example
    ),
    Format(
        "prompts with completions", "a completion, or turns, after its prompt", _completion_roles,
        _answered,
    ),
    Format(
        "Alpaca instructions", "instruction, input, output, maybe system and history",
        _alpaca_roles, _alpaca_example,
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
    FORMATS.add(_format)
