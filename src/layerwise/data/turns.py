"""A conversation's cell as turns that a chat template takes, whoever wrote it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerwise.data.formats import SourceRow, is_blank, is_list

ASSISTANT = "assistant"
#: What others call the speakers. Unknown names stay: the template knows them, or says so.
ROLES: Mapping[str, str] = {
    "human": "user", "user": "user", "prompter": "user",
    "gpt": ASSISTANT, "assistant": ASSISTANT, "chatgpt": ASSISTANT, "bot": ASSISTANT,
    "bing": ASSISTANT, "bard": ASSISTANT, "model": ASSISTANT, "ai": ASSISTANT,
    "system": "system", "function_call": "function_call", "tool_call": "function_call",
    "function": "tool",
    "observation": "tool", "tool": "tool", "tool_response": "tool", "function_response": "tool",
}  # fmt: skip
#: Keys of a turn that say whether it is in the loss.
_TRAINED = ("train", "training", "weight")
#: Options of `apply_chat_template` itself, which are not the data's to say.
_OURS = frozenset(
    {"conversation", "conversations", "chat_template", "tools", "add_generation_prompt", "tokenize"}
    | {"continue_final_message", "padding", "truncation", "max_length", "return_tensors"}
    | {"return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs", "messages"}
)


@dataclass(frozen=True)
class Turns:
    """The turns of a conversation, and the places of the assistant's that are in no loss."""

    turns: tuple[Mapping[str, Any], ...]
    untrained: tuple[int, ...] = ()

    @property
    def said(self) -> str:
        """Return what the assistant says in the loss, tool calls as JSON."""
        parts = [_said(t) for i, t in enumerate(self.turns) if i not in self.untrained]
        return "\n".join(part for part in parts if part.strip())


def _said(turn: Mapping[str, Any]) -> str:
    if turn["role"] != ASSISTANT:
        return ""
    calls = [json.dumps(call, sort_keys=True) for call in turn.get("tool_calls", ())]
    parts = (turn.get("reasoning_content"), turn.get("content"), *calls)
    return "\n".join(part for part in parts if part)


def plain(value: Any) -> Any:
    """Return `value` with Python's own lists and numbers, as templates and JSON take them."""
    if isinstance(value, Mapping):
        return {str(key): plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


def unfolded(value: Any) -> Any:
    """Return the JSON value that a string writes, where it begins as an object or a list does."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def is_chat(value: Any, *keys: str) -> bool:
    """Return whether a cell is turns that have one of `keys`, or one turn, maybe as JSON."""
    value = unfolded(value)
    if isinstance(value, Mapping):
        value = [value]
    if not is_list(value) or len(value) == 0:
        return False
    return all(isinstance(turn, Mapping) and any(key in turn for key in keys) for turn in value)


def turns_of(row: SourceRow, role: str) -> Turns:
    """Return the turns in the cell of `role`, after the system prompt where the row has one.

    Raises:
        DataError: It is no chat, or shows more than text.
    """
    cell = plain(unfolded(row.cells[role]))
    cell = [cell] if isinstance(cell, dict) else cell
    if not isinstance(cell, list) or not cell:
        raise _no_chat(row, role, cell)
    found = [_turn(turn, row, role) for turn in cell]
    if row.has("system") and found[0][0]["role"] != "system":
        found.insert(0, ({"role": "system", "content": row.string("system")}, True))
    untrained = [
        i for i, (turn, trains) in enumerate(found) if turn["role"] == ASSISTANT and not trains
    ]
    return Turns(tuple(turn for turn, _ in found), tuple(untrained))


def _no_chat(row: SourceRow, role: str, value: object) -> Exception:
    return row.fault(
        what="is no chat", role=role, value=value, expected="turns {role, content} or {from, value}"
    )


def _turn(turn: Any, row: SourceRow, role: str) -> tuple[dict[str, Any], bool]:
    """Return a turn as a template takes it, and whether it is in the loss."""
    if not isinstance(turn, dict):
        raise _no_chat(row, role, turn)
    given = {key: value for key, value in turn.items() if value is not None}
    speaker, call = given.pop("role", given.pop("from", None)), given.pop("function_call", None)
    calls = given.pop("tool_calls", call)  # The one call is how they were written before.
    is_said = any(key in turn for key in ("content", "value")) or calls
    if not isinstance(speaker, str) or not is_said:
        raise _no_chat(row, role, turn)
    speaker = ROLES.get(speaker.lower(), speaker)
    said = _text(given.pop("content", given.pop("value", None)), row, role)
    trains = _trains([given.pop(key) for key in _TRAINED if key in given], row, role)
    if speaker == "function_call":
        speaker, calls = ASSISTANT, unfolded(said)
        said = said if isinstance(calls, str) else None
    made: dict[str, Any] = {"role": speaker, "content": said or ""}
    calls = [] if isinstance(calls, str) and calls == said else _calls(calls, row, role)
    if calls:
        made |= {"content": said, "tool_calls": calls}
    return made | given, trains


def _text(said: Any, row: SourceRow, role: str) -> str | None:
    """Return what is said; parts of text as one.

    Raises:
        DataError: A part is a picture or a sound, or it is neither text nor parts.
    """
    if said is None or isinstance(said, str):
        return said if said is None or said.isascii() else row.written(said, role)
    if not isinstance(said, list):
        raise row.fault(
            what="has a turn that says no text", role=role, value=said, expected="a string or parts"
        )
    parts = [part if isinstance(part, str) else _part(part, row, role) for part in said]
    return "".join(parts)


def _part(part: Any, row: SourceRow, role: str) -> str:
    kind = part.get("type", "text") if isinstance(part, dict) else None
    found = part.get("text") if kind in ("text", "input_text", "output_text") else None
    if not isinstance(found, str):
        what = "shows more than text, which no objective hands to a model yet"
        raise row.fault(what=what, role=role, value=kind or part, expected="parts of type 'text'")
    return row.written(found, role)


def _trains(weights: list[Any], row: SourceRow, role: str) -> bool:
    if all(weight in (0, 1) for weight in weights):
        return all(weights)
    raise row.fault(
        what="weighs a turn",
        role=role,
        value=weights,
        expected="weight 0 or 1, train true or false",
    )


def _calls(calls: Any, row: SourceRow, role: str) -> list[dict[str, Any]]:
    """Return tool calls as templates take them: arguments as an object, not as JSON in a string."""
    calls = unfolded(calls) or []
    calls = [calls] if isinstance(calls, dict) else calls
    made = []
    for call in calls:
        own = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(own, dict) or not isinstance(own.get("name"), str):
            raise row.fault(
                what="has a tool call without a name",
                role=role,
                value=call,
                expected="{function: …}",
            )
        function = {**own, "arguments": unfolded(own.get("arguments", {}))}
        beside = {k: v for k, v in call.items() if v is not None} if own is not call else {}
        made.append({"type": "function", **beside, "function": function})
    return made


def shown(row: SourceRow) -> dict[str, Any]:
    """Return what the template gets beside the turns: tools, and the row's own options.

    Raises:
        DataError: It is no list of tools, or no mapping of options of a template.
    """
    found: dict[str, Any] = {}
    if row.has("template"):
        found = plain(unfolded(row.cells["template"]))
        if not isinstance(found, dict) or found.keys() & _OURS:
            expected = "a mapping of the template's own options, such as enable_thinking"
            raise row.fault(
                what="holds no options of a template",
                role="template",
                value=found,
                expected=expected,
            )
    if row.has("tools"):
        tools = plain(unfolded(row.cells["tools"]))
        tools = [tools] if isinstance(tools, dict) else tools
        tools = [unfolded(tool) for tool in tools] if isinstance(tools, list) else tools
        if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
            raise row.fault(
                what="holds no tools", role="tools", value=tools, expected="a list of objects"
            )
        found["tools"] = [
            {"type": "function", "function": tool} if _is_bare(tool) else tool for tool in tools
        ]
    return {key: value for key, value in found.items() if not is_blank(value)}


def _is_bare(tool: Mapping[str, Any]) -> bool:
    """Return whether a tool is the function itself, without what says that it is one."""
    return "name" in tool and "function" not in tool and tool.get("type", "object") == "object"
