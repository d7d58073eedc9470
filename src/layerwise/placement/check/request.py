"""What a trainer asks for, and how its config is known and read; a row a trainer in `trainers`."""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from layerwise.errors import BadInputError
from layerwise.models.stack import Stack
from layerwise.registry import Registry

#: What stands for a value that no default shows the kind of: names, or ranks by pattern.
NAMES: tuple[str, ...] = ()
#: PEFT's arguments that decide where adapters sit and how large they are.
ARGUMENTS = (
    "r", "lora_alpha", "target_modules", "target_parameters", "exclude_modules", "modules_to_save",
    "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", "use_dora", "bias",
    "ensure_weight_tying", "task_type", "lora_dropout",
)  # fmt: skip
_LISTS = ("target_parameters", "modules_to_save")
# A variable of the shell or of a template: its value is not in the file.
_VARIABLE = re.compile(r"\$[{(]?\w|\{\{")
#: What a value must be, by the kind of its default: in words, and whether it is.
_KINDS: Mapping[type, tuple[str, Callable[[Any], bool]]] = {
    bool: ("true or false", lambda v: isinstance(v, bool)),
    int: ("a whole number", lambda v: type(v) is int),
    float: ("a number", lambda v: type(v) in {int, float}),
    str: ("text", lambda v: isinstance(v, str)),
    tuple: ("a name or a list of names", lambda v: all(type(n) is str for n in _members(v))),
    list: ("a list of whole numbers", lambda v: all(type(n) is int for n in _members(v))),
    dict: ("numbers by pattern", lambda v: isinstance(v, Mapping) and all(map(_is_text, v))),
}


@dataclass(frozen=True)
class WeightRule:
    """A line of a list of weights: `value` under `key`; `blocks` are those that it names, if any.

    The parameters that it `hits` train, or are frozen where `trains` is false.
    """

    key: str
    value: str
    hits: Callable[[str], object]
    trains: bool = True
    blocks: frozenset[int] | None = None


@dataclass(frozen=True)
class Recipe:
    """The adapters and frozen weights that a trainer asks for.

    Attributes:
        lora: Arguments of PEFT's configuration; None where there are no adapters.
        rules: What is trained and frozen besides, the later over the earlier.
        trains: What holds for weights that no rule hits; None leaves them as they are.
        classifier: Whether the model gets a head for classes.
        ignored: Keys that have no effect, and why.
        notes: What was taken for granted.
        switch: The keys that turn adapters on, where others ask for them in vain.
    """

    lora: Mapping[str, Any] | None = None
    rules: tuple[WeightRule, ...] = ()
    trains: bool | None = None
    classifier: bool = False
    ignored: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    switch: Mapping[str, Any] = field(default_factory=dict)

    @property
    def inside(self) -> str:
        """Return what stands before a weight's name in the model that the rules are for."""
        return "" if self.lora is None else "base_model.model."


@dataclass(frozen=True)
class Dialect:
    """The config of a trainer.

    Attributes:
        name: As in `layerwise place --for`.
        title: What it is called.
        defaults: Its keys that decide what trains, by the trainer's own defaults.
        recipe: What it makes of them for a model with these stacks.
        marks: Keys that no other trainer has.
        prefix: What it puts before PEFT's names of arguments.
        keys: The keys of arguments that have another name.
    """

    name: str
    title: str
    defaults: Mapping[str, Any]
    recipe: Callable[[Any, Any, Sequence[Stack]], Recipe]
    marks: frozenset[str]
    prefix: str = ""
    keys: Mapping[str, str] = field(default_factory=dict)

    def key(self, argument: str) -> str:
        """Return what the config calls PEFT's `argument`."""
        named = argument if argument in self.defaults else f"{self.prefix}{argument}"
        return self.keys.get(argument, named)

    def read(self, values: Mapping[str, Any]) -> SimpleNamespace:
        """Return the settings in `values`, each of the kind of its default.

        Beside them ``values``, ``given``, the keys that have one there, and ``lora``, what they
        come to as PEFT's arguments where the trainer hands them on as they are.

        Raises:
            BadInputError: One is not.
        """
        given = {k: v for k, v in values.items() if k in self.defaults and v is not None}
        is_kept = self.name == "peft"  # Others make numbers of text, as on a command line.
        read = {k: _value(k, v, self.defaults[k], is_kept=is_kept) for k, v in given.items()}
        settings, lora = {**self.defaults, **read}, dict[str, Any]()
        for name in ARGUMENTS:
            key = self.key(name)
            if (value := settings.get(key)) or key in read:
                is_one = isinstance(value, str | int | float | Mapping)
                is_one = is_one and (is_kept or name not in _LISTS)
                lora[name] = value if is_one else listed(value)
        return SimpleNamespace(**settings, values=values, given=frozenset(read), lora=lora)


#: Whose configs are read; the rows are in `trainers` and `unsloth`.
DIALECTS = Registry[Dialect]("trainer")


def compiled(pattern: str, *, key: str) -> re.Pattern[str]:
    """Return a regular expression.

    Raises:
        BadInputError: It is none.
    """
    try:
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        what = f"pattern in {key} ({error})"
        raise BadInputError(what, value=pattern, expected="a regular expression") from error


def listed(names: Any, *, commas: bool = False) -> list[str]:
    """Return several names, which may be one, or stand in one text between commas."""
    if isinstance(names, str):
        return [part.strip() for part in names.split(",")] if commas else [names]
    return list(names or ())


def rules(
    key: str, values: Iterable[str], pattern: str = r"^{}(\.|$)", *, trains: bool = True
) -> list[WeightRule]:
    """Return a rule a value, of what stands in the pattern's braces; by default, of a module."""
    found = [(value, re.compile(pattern.format(re.escape(value)))) for value in values]
    return [WeightRule(key, value, hits.search, trains=trains) for value, hits in found]


def refuse_unread(what: str, value: object, known: Collection[str]) -> None:
    """Pass a value that is `known`.

    Raises:
        BadInputError: It is not.
    """
    if value not in known:
        msg = f"{what} that is not read"
        raise BadInputError(msg, value=value, expected=" or ".join(filter(None, known)))


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _members(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list | tuple | set | frozenset) else [value]


def _value(key: str, value: Any, default: Any, *, is_kept: bool) -> Any:
    """Return `value` as the kind of `default`; text stands for a number or flag, or `is_kept`."""
    kind = type(default)
    if not is_kept and isinstance(value, str) and kind in {bool, int, float}:
        with suppress(ValueError):
            value = json.loads(value.lower())
    expected, fits = _KINDS[kind]
    is_open = _VARIABLE.search(str(value))
    if is_open or not fits(value):
        what = f"value of {key}{', a variable' if is_open else ''}"
        shown = value if is_open or not isinstance(value, list | dict) else type(value).__name__
        raise BadInputError(what, value=shown, expected=expected)
    return value
