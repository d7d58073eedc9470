"""What a trainer asks for, and how its config is known and read; a row a trainer in `trainers`."""

import re
from collections.abc import Callable, Mapping, Sequence
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
    "ensure_weight_tying", "task_type",
)  # fmt: skip
_LISTS = ("target_parameters", "modules_to_save")
_WORDS = {
    bool: "true or false", int: "a whole number", float: "a number", str: "text",
    tuple: "a name or a list of names", dict: "numbers by pattern", list: "a list of whole numbers",
}  # fmt: skip


@dataclass(frozen=True)
class WeightRule:
    """A line of a list of weights: `value` under `key`; `blocks` are those that it names, if any.

    The parameters that it `hits` train, or are frozen where `trains` is false.
    """

    key: str
    value: str
    hits: Callable[[str], bool]
    trains: bool = True
    blocks: frozenset[int] | None = None


@dataclass(frozen=True)
class Recipe:
    """What a trainer asks for.

    Attributes:
        lora: Arguments of PEFT's configuration; None where there are no adapters.
        rules: What is trained and frozen besides, the later over the earlier.
        trains: What holds for weights that no rule hits; None leaves them as they are.
        classifier: Whether the model gets a head for classes.
        ignored: Keys that have no effect, and why.
        notes: What was taken for granted.
    """

    lora: Mapping[str, Any] | None = None
    rules: tuple[WeightRule, ...] = ()
    trains: bool | None = None
    classifier: bool = False
    ignored: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

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

        Beside them ``given``, the keys that have a value there, and ``lora``, what they come to as
        PEFT's arguments where the trainer hands them on as they are.

        Raises:
            BadInputError: One is not.
        """
        given = {k: v for k, v in values.items() if k in self.defaults and v is not None}
        read = {key: _value(key, value, self.defaults[key]) for key, value in given.items()}
        settings = {**self.defaults, **read}
        lora = {name: settings.get(self.key(name)) for name in ARGUMENTS}
        kept = {n: v for n, v in lora.items() if v or (v is not None and self.key(n) in read)}
        lists = {n: listed(v) if n in _LISTS else v for n, v in kept.items()}
        lora = {
            n: list(v) if isinstance(v, tuple | set | frozenset) else v for n, v in lists.items()
        }
        return SimpleNamespace(**settings, given=frozenset(read), lora=lora)


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


def _value(key: str, value: Any, default: Any) -> Any:
    """Return `value` as the kind that `default` is of; text may stand for a number or a flag."""
    kind = type(default)
    if isinstance(value, str) and kind in {bool, int, float}:
        number = int(value) if value.lstrip("-").isdecimal() else value
        value = {"true": True, "false": False}.get(value.lower(), number)
    whole = isinstance(value, int) and not isinstance(value, bool)
    members = value if isinstance(value, list | tuple | set | frozenset) else None
    fits = {
        bool: isinstance(value, bool),
        int: whole,
        float: whole or isinstance(value, float),
        str: isinstance(value, str),
        tuple: isinstance(value, str) or all(isinstance(m, str) for m in members or [0]),
        list: whole or (members is not None and all(type(m) is int for m in members)),
        dict: isinstance(value, Mapping) and all(isinstance(k, str) for k in value),
    }[kind]
    if not fits:
        what = f"value of {key}"
        shown = value if isinstance(value, str | int | float) else type(value).__name__
        raise BadInputError(what, value=shown, expected=_WORDS[kind])
    return value
