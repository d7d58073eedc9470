"""A config file as plain values: JSON, YAML, a command line, or a script that is never run."""

import ast
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from layerwise.errors import BadInputError
from layerwise.options.config import read_yaml, reason
from layerwise.placement.check.script import called
from layerwise.placement.check.shell import OPEN, commands

_EXPECTED = (
    "an adapter_config.json, a YAML or command line (.sh) of Axolotl, LLaMA-Factory, ms-swift or "
    "TRL, or a Python script or notebook that calls LoraConfig or get_peft_model"
)
#: What a file is by its suffix, else YAML; and the bytes of the largest that is read.
_FORMS = {".json": "json", ".py": "python", ".ipynb": "notebook", ".sh": "shell"}
_LARGEST = {"json": 16_000_000, "notebook": 64_000_000}
_MOST = 1_000_000  # PyYAML takes seconds for as much.
#: Values that aliases may unfold to.
_UNFOLDED = 200_000
#: What trains: a trainer's own command, or else a script or module of it that Python runs.
_OWN = re.compile(r"swift (sft|pt|rlhf)|llamafactory-cli train|axolotl train|trl \w+")
_LAUNCHERS = re.compile(r"python[\d.]*|accelerate|torchrun|deepspeed|uv")


@dataclass(frozen=True)
class ConfigFile:
    """The keys and values of a config file.

    Attributes:
        name: Its path, or what stands for an object in hand.
        form: How it is written: ``json``, ``yaml``, ``shell``, ``python``, ``notebook`` or
            ``object``.
        values: Its keys and values.
        text: Its own text.
        caller: In a script, what is called with these arguments, such as ``LoraConfig``.
        unknown: The arguments of a script that are not known before it runs, and why.
        classifier: Whether a script loads a model that tells classes apart.
        notes: What of it could not be read.
    """

    name: str
    form: str
    values: Mapping[str, Any]
    text: str = ""
    caller: str = ""
    unknown: Mapping[str, str] = field(default_factory=dict)
    classifier: bool = False
    notes: tuple[str, ...] = ()


def read_config_file(path: Path) -> ConfigFile:
    """Return what the file, or the folder with an ``adapter_config.json``, says; nothing is run.

    Raises:
        BadInputError: It is too large, malformed, or holds no keys and values.
    """
    file = path / "adapter_config.json" if path.is_dir() else path
    form = _FORMS.get(file.suffix.lower(), "yaml")
    try:
        size, most = file.stat().st_size, _LARGEST.get(form, _MOST)
        if size > most:
            msg = f"config file of {size:,} bytes"
            raise BadInputError(msg, value=path, expected=f"at most {most:,}")
        text = file.read_text(encoding="utf-8-sig")
        fields = _read(file, form, text)
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError) as error:
        msg = f"cannot read the config ({reason(error)})"
        raise BadInputError(msg, value=file, expected=_EXPECTED) from error
    values = fields["values"]
    if not isinstance(values, Mapping) or not all(isinstance(k, str) for k in values):
        msg = "config without keys and values"
        raise BadInputError(msg, value=path, expected=_EXPECTED)
    todo, seen = list[Any]([values]), 0
    while todo:  # Each alias counts where it stands.
        value = todo.pop()
        inner = value.values() if isinstance(value, Mapping) else value
        todo += inner if isinstance(value, Mapping | list | tuple | set) else ()
        seen += 1
        if seen + len(todo) > _UNFOLDED:
            msg = "config whose aliases unfold to too many values"
            raise BadInputError(msg, value=path, expected=f"at most {_UNFOLDED:,}")
    return ConfigFile(str(file), form, text=text, **fields)


def _read(file: Path, form: str, text: str) -> dict[str, Any]:
    """Return what the text says, as fields of a `ConfigFile`."""
    if form == "json":
        return {"values": json.loads(text)}
    if form == "yaml":
        return {"values": read_yaml(file, what="config", expected=_EXPECTED)[0]}
    if form == "shell":
        return _command(file, text)
    if form == "python":
        _compile(text)
        return called(text)
    return _notebook(text)


def _compile(text: str) -> None:
    """Pass Python, of which nothing is run.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: It is none.
    """
    with warnings.catch_warnings(action="ignore"):
        compile(text, "<config>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


def _notebook(text: str) -> dict[str, Any]:
    """Return what the cells say, without lines for the shell, and magics; a note on each left out.

    Raises:
        ValueError: There are no cells.
        SyntaxError: A cell that makes adapters is no Python.
    """
    try:
        cells = [c["source"] for c in json.loads(text)["cells"] if c["cell_type"] == "code"]
        sources = [c if isinstance(c, str) else "".join(c) for c in cells]
    except (LookupError, TypeError) as error:
        msg = "no cells"
        raise ValueError(msg) from error
    kept, notes = list[str](), list[str]()
    for number, source in enumerate(sources, start=1):
        plain = re.sub(r"(?m)^(\s*)((?:\w+ *= *)?[%!?](?:.*\\\n)*.*|\S*\?)$", r"\1pass", source)
        try:
            _compile(plain)
            kept.append(plain)
        except SyntaxError as error:
            if re.search(r"Config\(|get_peft_model", source):
                raise
            notes.append(f"code cell {number} is left out: {reason(error)}")
    fields = called("\n".join(kept))
    return {**fields, "notes": (*notes, *fields["notes"])}


def _command(file: Path, text: str) -> dict[str, Any]:
    """Return the first training command and its options; several values are a list."""
    every = commands(text)
    found = [(each, start) for each in every if (start := _start(each))]
    if not found:
        msg = "shell script without a training command"
        expected = "swift sft, llamafactory-cli train, trl or a script of theirs that python runs"
        raise BadInputError(msg, value=file, expected=expected)
    found.sort(key=lambda pair: not _OWN.fullmatch(pair[1][1]))
    (words, (place, name)), *more = found
    notes = [f"a further command, {other}, is not checked" for _, (_, other) in more]
    lost = [each[0] for each in every if each[0].startswith("--")]
    notes += [f"{word} stands in a line of its own: no command gets it" for word in lost]
    values: dict[str, list[str]] = {}
    for word in words[place:]:  # Options before are not the trainer's.
        key, equals, value = word.partition("=")
        last = values[[*values][-1]] if values else None
        if word.startswith("--"):
            values[key.lstrip("-").replace("-", "_")] = [value] if equals else []
        elif last != [] and OPEN.fullmatch(word):
            msg, expected = "variable that may hold options", "them, or a variable that is set once"
            raise BadInputError(msg, value=word, expected=expected)
        elif "config" in values and last and equals and key.isidentifier():
            values[key] = [value]
        elif last is not None and word not in {"$@", "$*"}:  # What the script itself is given.
            last.append(word)
        elif word.endswith((".yaml", ".yml", ".json")):
            values["config"] = [word]
    plain = {key: told[0] if len(told) == 1 else told or True for key, told in values.items()}
    if beside := str(plain.pop("config", "")):
        notes.append(f"{beside} is read too, under what the command line says")
        plain = {**_beside(file, beside), **plain}
    return {"caller": "swift" if "swift" in name else "", "values": plain, "notes": (*notes,)}


def _start(words: list[str]) -> tuple[int, str] | None:
    """Return where the options of a training command begin, and what it is called; else None."""
    tools = [word.rpartition("/")[2] for word in words]
    if tools[0] in {"echo", "printf"}:
        return None
    for place, (before, word) in enumerate(pairwise(words), 2):
        pair = " ".join(tools[place - 2 : place])
        if _OWN.fullmatch(pair):
            return place, pair
        is_run = any(map(_LAUNCHERS.fullmatch, tools[: place - 1]))
        if is_run and (word.endswith(".py") or before == "-m"):
            return place, word
    return None


def _beside(file: Path, name: str) -> Mapping[str, Any]:
    """Return the keys and values of the file of options that a script names.

    Raises:
        BadInputError: There is none, beside the script or here; or it cannot be read.
    """
    paths = [path for path in (file.parent / name, Path(name)) if path.is_file()]
    if not paths or _FORMS.get(paths[0].suffix.lower(), "json") != "json":
        msg = "command line whose options are in a file of their own"
        raise BadInputError(msg, value=file, expected=f"that file: {name}")
    return read_config_file(paths[0]).values


def in_hand(config: Any) -> ConfigFile:
    """Return what a configuration of PEFT, or a mapping of a trainer's keys, says.

    Raises:
        BadInputError: It is neither.
    """
    is_peft = hasattr(config, "peft_type") and hasattr(config, "to_dict")
    values = config.to_dict() if is_peft else config
    if not isinstance(values, Mapping):
        msg, kind = "config", type(config).__name__
        raise BadInputError(msg, value=kind, expected=f"a LoraConfig, or {_EXPECTED}")
    plain = {str(k): sorted(v) if isinstance(v, set) else v for k, v in values.items()}
    plain = {k: getattr(v, "value", v) for k, v in plain.items() if v is not None}
    return ConfigFile(type(config).__name__, "object" if is_peft else "json", plain)
