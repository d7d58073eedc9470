"""A conversation's cell as turns that a chat template takes, whoever wrote it."""

import ast
import json
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from layerwise.data.formats import SourceRow, is_blank, is_list
from layerwise.data.pictures import HEARD, PLACE

ASSISTANT = "assistant"
#: Who speaks, by what others call them. Some roles are of a few templates, which know them.
ROLES: Mapping[str, str] = {
    called: role
    for role, names in (
        ("user", "user human prompter"),
        (ASSISTANT, "assistant gpt chatgpt chatbot bot bing bard model ai"),
        ("function_call", "function_call tool_call"),
        ("tool", "tool observation tool_response function_response function"),
        *((role, role) for role in ("system", "developer", "ipython", "environment", "document")),
    )
    for called in names.split()
}
#: Keys of a turn, and of a row beside its turns, that say whether it is in the loss.
TRAINED = ("train", "training", "weight", "loss")
#: What stands for a part of a turn, by its type.
_MARKS: Mapping[Any, str] = {
    **dict.fromkeys(("image", "image_url", "input_image"), PLACE),
    **dict.fromkeys(("audio", "audio_url", "input_audio"), HEARD),
}
#: Options of `apply_chat_template` itself, which are not the data's to say.
_OURS = frozenset(
    {"conversation", "conversations", "chat_template", "tools", "add_generation_prompt", "tokenize"}
    | {"continue_final_message", "padding", "truncation", "max_length", "return_tensors"}
    | {"return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs", "messages"}
)


@dataclass(frozen=True)
class Turns:
    """The turns of a conversation, and the places of the assistant's that are in no loss.

    Where it has pictures and sounds, these are they in their order, each as what stands for it in
    its turn and what it holds; None stands for one of the row's.
    """

    turns: tuple[Mapping[str, Any], ...]
    untrained: tuple[int, ...] = ()
    pictures: tuple[Any, ...] = ()

    def __add__(self, other: "Turns") -> "Turns":
        later = tuple(len(self.turns) + place for place in other.untrained)
        pictures = (*self.pictures, *other.pictures)
        return Turns((*self.turns, *other.turns), (*self.untrained, *later), pictures)

    def silenced(self, before: int | None = None) -> "Turns":
        """Return the same turns, with no answer `before` a place in the loss; none at all."""
        early = (i for i, turn in enumerate(self.turns[:before]) if turn["role"] == ASSISTANT)
        return replace(self, untrained=tuple(sorted({*early, *self.untrained})))

    @property
    def said(self) -> str:
        """Return what the assistant says in the loss, tool calls as JSON."""
        parts: list[str | None] = []
        for i, turn in enumerate(self.turns):
            if turn["role"] == ASSISTANT and i not in self.untrained:
                calls = [json.dumps(call, sort_keys=True) for call in turn.get("tool_calls", ())]
                parts += [turn.get("reasoning_content"), turn.get("content"), *calls]
        return "\n".join(part for part in parts if part and part.strip())


def plain(value: Any) -> Any:
    """Return `value` with Python's own lists and numbers, as templates and JSON take them."""
    if isinstance(value, Mapping):
        return {str(key): plain(v) for key, v in value.items()}
    if is_list(value):
        return [plain(v) for v in value]
    return value.item() if hasattr(value, "item") else value


def unfolded(value: Any) -> Any:
    """Return the value that a string writes, where it begins as an object or a list does.

    It is JSON, or how Python shows its own, as a table gets that is saved with lists in its cells.
    """
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        for reader in (json.loads, _literal):
            with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
                if isinstance(found := reader(value.strip()), list | dict):
                    return found
    return value


def _literal(written: str) -> Any:
    with warnings.catch_warnings(action="ignore"):  # Of backslashes, in what is no Python.
        return ast.literal_eval(written)


def listed(value: Any) -> Any:
    """Return `value` unfolded and plain, one object alone as a list."""
    found = plain(unfolded(value))
    return [found] if isinstance(found, dict) else found


def is_chat(value: Any, *keys: str) -> bool:
    """Return whether a cell is turns that have one of `keys`, or one turn, maybe as JSON."""
    value = unfolded(value)
    turns = [value] if isinstance(value, Mapping) else value
    if not is_list(turns) or len(turns) == 0:
        return False
    return all(isinstance(turn, Mapping) and any(key in turn for key in keys) for turn in turns)


def turns_of(row: SourceRow, role: str) -> Turns:
    """Return the turns in the cell of `role`.

    Raises:
        DataError: It is no chat, or shows more than text.
    """
    cell = listed(row.cells[role])
    if not isinstance(cell, list) or not cell:
        raise _no_chat(row, role, cell)
    pictures = list[Any]()
    found = [_turn(turn, row, role, pictures) for turn in cell]
    places = range(len(found))
    untrained = [i for i in places if found[i][0]["role"] == ASSISTANT and not found[i][1]]
    return Turns(tuple(turn for turn, _ in found), tuple(untrained), tuple(pictures))


def _no_chat(row: SourceRow, role: str, value: object) -> Exception:
    return row.fault(value, role, "is no chat", "turns {role, content} or {from, value}")


def _turn(turn: Any, row: SourceRow, role: str, pictures: list[Any]) -> tuple[dict[str, Any], bool]:
    """Return a turn as a template takes it, and whether it is in the loss.

    What it shows is put behind `pictures`.
    """
    if not isinstance(turn, dict):
        raise _no_chat(row, role, turn)
    given = {key: value for key, value in turn.items() if value is not None}
    speaker, call = given.pop("role", given.pop("from", None)), given.pop("function_call", None)
    calls = given.pop("tool_calls", call)  # The one call is how they were written before.
    is_said = any(key in turn for key in ("content", "value")) or calls
    if not isinstance(speaker, str) or not is_said:
        raise _no_chat(row, role, turn)
    if (speaker := ROLES.get(speaker.strip().lower(), "")) == "":
        expected = "user, assistant, system or tool"
        raise row.fault(turn.get("role", turn.get("from")), role, "has an unknown role", expected)
    said = _text(given.pop("content", given.pop("value", None)), row, role, pictures)
    weights = [given.pop(key) for key in TRAINED if key in given]
    if not all(weight in (0, 1) for weight in weights):
        expected = "weight 0 or 1, train or loss true or false"
        raise row.fault(weights, role, "weighs a turn", expected)
    if speaker == "function_call":
        speaker, calls = ASSISTANT, unfolded(said)
        said, calls = (said, None) if isinstance(calls, str) else (None, calls)
    made: dict[str, Any] = {"role": speaker, "content": said or ""}
    if calls := _calls(calls, row, role):
        made |= {"content": said, "tool_calls": calls}
    return made | given, all(weights)


def _text(said: Any, row: SourceRow, role: str, pictures: list[Any]) -> str | None:
    """Return what is said; parts as one text, with a mark in each place of a picture."""
    if said is None or isinstance(said, str):
        return said and row.string(role, said)
    if not isinstance(said, list):
        raise row.fault(said, role, "has a turn that says no text", "a string or parts")
    parts = []
    for part in said:
        kind = part.get("type", "text") if isinstance(part, dict) else None
        if mark := _MARKS.get(kind, ""):
            shown = {key: value for key, value in part.items() if key != "type" and value}
            pictures.append((mark, shown or None))
            parts.append(mark)
            continue
        is_text = kind in ("text", "input_text", "output_text")
        found = part.get("text") if is_text else part
        if not isinstance(found, str):
            what = "shows more than text, which no objective hands to a model yet"
            raise row.fault(kind or part, role, what, "parts of type text, image or audio")
        parts.append(row.string(role, found))
    return "".join(parts)


def _calls(calls: Any, row: SourceRow, role: str) -> list[dict[str, Any]]:
    """Return tool calls as templates take them: arguments as an object, not as JSON in a string."""
    found, made = listed(calls) or [], []
    for call in found if isinstance(found, list) else [found]:
        own = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(own, dict) or not isinstance(own.get("name"), str):
            raise row.fault(call, role, "has a tool call without a name", "{function: …}")
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
            raise row.fault(found, "template", "holds no options of a template", expected)
    if row.has("tools"):
        tools = listed(row.cells["tools"])
        tools = [unfolded(tool) for tool in tools] if isinstance(tools, list) else tools
        if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
            raise row.fault(tools, "tools", "holds no tools", "a list of objects")
        found["tools"] = [  # A tool may be the function itself, without what says that it is one.
            {"type": "function", "function": tool}
            if "name" in tool and "function" not in tool and tool.get("type", "object") == "object"
            else tool
            for tool in tools
        ]
    return {key: value for key, value in found.items() if not is_blank(value)}
