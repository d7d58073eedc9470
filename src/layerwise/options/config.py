"""YAML that a user writes, and a file of options that stands in for the command line."""

import re
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from layerwise.errors import BadInputError, UnknownNameError, one_line
from layerwise.options.check import value_of
from layerwise.options.declaration import Option

_CONFIG = "YAML lines such as 'examples: 64'"


@cache
def _loader() -> Any:
    """Return YAML as people expect it: a key that stands twice is an error, 2e-5 is a number."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002  # as in PyYAML
            keys = Counter(k.value for k, _ in node.value if k.tag != "tag:yaml.org,2002:merge")
            for key, times in keys.items():
                if times > 1:
                    message = f"the key {key!r} stands twice"
                    raise yaml.constructor.ConstructorError(None, None, message, node.start_mark)
            return super().construct_mapping(node, deep=deep)

    number = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    return Loader


def read_yaml(file: Path, *, what: str, expected: str) -> tuple[Any, bytes]:
    """Return what `file` holds, and its own text; errors call it `what`, with what is `expected`.

    Raises:
        BadInputError: It cannot be read.
    """
    import yaml

    try:
        text = file.read_bytes()
        return yaml.load(text.decode("utf-8-sig"), Loader=_loader()), text  # noqa: S506  # a SafeLoader
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        message = f"cannot read the {what} ({reason(error)})"
        raise BadInputError(message, value=file, expected=expected) from error


def reason(error: Exception) -> str:
    """Return why a file cannot be read, in a few words with the line."""
    mark, problem = (getattr(error, name, None) for name in ("problem_mark", "problem"))
    line = mark.line + 1 if mark else getattr(error, "lineno", None)
    told = (problem, *(getattr(error, name, None) for name in ("strerror", "msg")), error)
    said = next((one_line(text, limit=120) for text in told if str(text or "")), None)
    return f"{said or type(error).__name__}{f', line {line}' if line else ''}"


def read_options(
    file: Path, options: Mapping[str, Option], *, arguments: Mapping[str, str]
) -> dict[str, Any]:
    """Return the values of `options` in the YAML file, by Python's names; paths are as on the line.

    Args:
        file: A mapping of options, spelled as on the command line or as in Python.
        options: Those of the command.
        arguments: What else may be given, as text: the name by its key.

    Raises:
        BadInputError: It cannot be read, has no options, or a value in it cannot be used; or it
            says what only a call may say.
        UnknownNameError: It has a key that the command does not take.
    """
    plain, _ = read_yaml(file, what="config file", expected=_CONFIG)
    if not isinstance(plain, Mapping):
        message = "config file without options"
        raise BadInputError(message, value=file, expected=_CONFIG)
    known = {option.key: option for option in options.values()}
    values: dict[str, Any] = {}
    for key, value in plain.items():
        spelled = str(key).replace("_", "-")
        if value is None:
            continue
        if spelled in arguments:
            values[arguments[spelled]] = value
        elif spelled not in known:
            what = f"option in {file}"
            raise UnknownNameError(what, value=str(key), known=[*arguments, *known])
        else:
            values[known[spelled].name] = _value(known[spelled], value, file)
    return values


def _value(option: Option, value: Any, file: Path) -> Any:
    """Return the value of an option in a file; numbers may stand where text is meant."""
    if option.call_only:
        message = f"{option.key} in {file}, which a file may not say"
        raise BadInputError(message, value=value, hint=f"{option.flags[-1]} on the command line")
    if isinstance(value, list) and option.text is not None:
        value = ",".join(map(str, value))
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    label = f"{option.key} in {file}"
    return value_of(option, str(value) if is_number else value, label=label)
