"""A config file as plain values: JSON, YAML, a command line, or a script that is never run."""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layerwise.errors import BadInputError
from layerwise.options.config import read_yaml, reason
from layerwise.placement.check.script import called

_EXPECTED = (
    "an adapter_config.json, a YAML or command line (.sh) of Axolotl, LLaMA-Factory, ms-swift or "
    "TRL, or a Python script or notebook that calls LoraConfig or get_peft_model"
)
#: Bytes of the largest file that is read, by its suffix. PyYAML takes seconds for a megabyte.
_LARGEST = {".json": 16_000_000, ".ipynb": 64_000_000}
_MOST = 1_000_000
#: Values that aliases may unfold to.
_UNFOLDED = 200_000
_COMMAND = re.compile(r"(^|\s)(swift\s+(sft|pt|rlhf)|llamafactory-cli\s+train|trl\s+\w+)\s")


@dataclass(frozen=True)
class ConfigFile:
    """What a file says.

    Attributes:
        name: Its path, or what stands for an object in hand.
        form: How it is written: ``json``, ``yaml``, ``shell``, ``python`` or ``object``.
        values: Its keys and values.
        text: Its own text.
        caller: In a script, what is called with these arguments, such as ``LoraConfig``.
        notes: What of it could not be read.
    """

    name: str
    form: str
    values: Mapping[str, Any]
    text: str = ""
    caller: str = ""
    notes: tuple[str, ...] = field(default=())


def read_config_file(path: Path) -> ConfigFile:
    """Return what the file, or the folder with an ``adapter_config.json``, says; nothing is run.

    Raises:
        BadInputError: It is too large, malformed, or holds no keys and values.
    """
    file = path / "adapter_config.json" if path.is_dir() else path
    suffix = file.suffix.lower()
    try:
        size = file.stat().st_size
        if size > _LARGEST.get(suffix, _MOST):
            msg = f"config file of {size:,} bytes"
            raise BadInputError(msg, value=path, expected=f"at most {_MOST:,}")
        text = file.read_text(encoding="utf-8-sig")
        read = _READERS[suffix if suffix in _READERS else ".yaml"](file, text)
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError) as error:
        msg = f"cannot read the config ({reason(error)})"
        raise BadInputError(msg, value=path, expected=_EXPECTED) from error
    if not isinstance(read.values, Mapping) or not all(isinstance(k, str) for k in read.values):
        msg = "config without keys and values"
        raise BadInputError(msg, value=path, expected=_EXPECTED)
    _refuse_unfolding(read.values, path)
    return read


def _refuse_unfolding(values: object, path: Path) -> None:
    """Pass values of which there are not too many, each alias counted where it stands."""
    todo, seen = [values], 0
    while todo:
        value = todo.pop()
        seen += 1
        if isinstance(value, Mapping):
            todo += value.values()
        elif isinstance(value, list | tuple | set):
            todo += value
        if seen + len(todo) > _UNFOLDED:
            msg = "config whose aliases unfold to too many values"
            raise BadInputError(msg, value=path, expected=f"at most {_UNFOLDED:,}")


def _json(file: Path, text: str) -> ConfigFile:
    return ConfigFile(str(file), "json", json.loads(text), text)


def _yaml(file: Path, text: str) -> ConfigFile:
    values, _ = read_yaml(file, what="config", expected=_EXPECTED)
    return ConfigFile(str(file), "yaml", values, text)


def _python(file: Path, text: str) -> ConfigFile:
    caller, values, notes = called(text)
    return ConfigFile(str(file), "python", values, text, caller, notes)


def _notebook(file: Path, text: str) -> ConfigFile:
    """Read the code of a notebook without lines for the shell and magics."""
    try:
        cells = [c["source"] for c in json.loads(text)["cells"] if c["cell_type"] == "code"]
    except (LookupError, TypeError) as error:
        msg = "no cells"
        raise ValueError(msg) from error
    lines = "\n".join(c if isinstance(c, str) else "".join(c) for c in cells)
    caller, values, notes = called(re.sub(r"(?m)^(\s*)[%!?].*$", r"\1pass", lines))
    return ConfigFile(str(file), "notebook", values, text, caller, notes)


def _shell(file: Path, text: str) -> ConfigFile:
    """Read the options of the first training command: ``--key value``, several values a list."""
    joined = re.sub(r"\\\r?\n", " ", text)
    line = next((each for each in joined.splitlines() if _COMMAND.search(f"{each} ")), None)
    if line is None:
        msg = "shell script without a training command"
        raise BadInputError(msg, value=file, expected="swift sft, llamafactory-cli train or trl")
    values: dict[str, list[str]] = {}
    for word in shlex.split(line, comments=True):
        key, equals, value = word.partition("=")
        if word.startswith("--"):
            values[key.lstrip("-").replace("-", "_")] = [value] if equals else []
        elif values:
            values[list(values)[-1]].append(word)
    plain = {key: found[0] if len(found) == 1 else found or True for key, found in values.items()}
    command = _COMMAND.search(f"{line} ")
    return ConfigFile(str(file), "shell", plain, text, command[2].split()[0] if command else "")


_READERS = {
    ".json": _json, ".yaml": _yaml, ".yml": _yaml, ".py": _python, ".ipynb": _notebook,
    ".sh": _shell,
}  # fmt: skip


def in_hand(config: Any) -> ConfigFile:
    """Return what a configuration of PEFT, or a mapping of a trainer's keys, says.

    Raises:
        BadInputError: It is neither.
    """
    is_peft = hasattr(config, "peft_type") and hasattr(config, "to_dict")
    values = config.to_dict() if is_peft else config
    if not isinstance(values, Mapping):
        msg = "config"
        raise BadInputError(
            msg, value=type(config).__name__, expected=f"a LoraConfig, or {_EXPECTED}"
        )
    plain = {str(k): sorted(v) if isinstance(v, set) else v for k, v in values.items()}
    plain = {k: getattr(v, "value", v) for k, v in plain.items() if v is not None}
    return ConfigFile(type(config).__name__, "object" if is_peft else "json", plain)
