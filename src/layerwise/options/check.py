"""Values of options, checked against their declaration, whoever gave them."""

import types
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache, reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from layerwise.errors import BadInputError, UnknownNameError
from layerwise.options.declaration import Option, declared

if TYPE_CHECKING:
    from pydantic import TypeAdapter


def complete(group: type, given: Mapping[str, Any], *, command: str) -> dict[str, Any]:
    """Return every option of `group`: as `given`, else its default.

    Raises:
        UnknownNameError: An option does not exist.
        BadInputError: A value cannot be used.
    """
    options = declared(group)
    for name in given:
        known(name, options, what=f"option of {command}")
    return {
        name: value_of(option, given[name], label=name) if name in given else option.default
        for name, option in options.items()
    }


def known(name: str, options: Mapping[str, Option], *, what: str) -> Option:
    """Return the option called `name`.

    Raises:
        UnknownNameError: There is none.
    """
    if name not in options:
        raise UnknownNameError(what, value=name, known=options)
    return options[name]


def value_of(option: Option, value: Any, *, label: str, texts: bool = True, hint: str = "") -> Any:
    """Return `value` as the option takes it, which errors call `label`.

    A caller may give a number as text (`texts`), nothing for the default, and an object where the
    option takes one; in a study it is JSON of the very type.

    Raises:
        BadInputError: It is of another type, or out of bounds.
    """
    from pydantic import ValidationError

    if value is None and (texts or nullable(option.kind)):
        return None if nullable(option.kind) else option.default
    is_object = option.text is not None and not isinstance(value, str | bool | int | float)
    if is_object and texts:
        return value  # An object that Python alone can give.
    is_text, has_members = texts and isinstance(value, str), is_list(option.kind)
    with suppress(ValidationError):
        found = _adapter(option).validate_python(_plain(option, value), strict=not is_text)
        twice = option.once and len(set(found)) < len(found)
        if not has_members or ((found or option.repeat) and not twice):
            return found
    what = f"value of {label}"
    raise BadInputError(what, value=value, expected=expected(option), hint=hint)


def _plain(option: Option, value: Any) -> Any:
    """Return `value` with Python's own numbers for NumPy's, and a tuple for what has members."""
    if not is_list(option.kind):
        is_number = hasattr(value, "item") and getattr(value, "ndim", None) == 0
        return value.item() if is_number else value
    if isinstance(value, str):
        parts = [value] if option.repeat else value.split(",")
        return tuple(filter(None, (part.strip() for part in parts)))
    if isinstance(value, Mapping) or not isinstance(value, Iterable):
        return value
    return tuple(getattr(value, "tolist", lambda: value)())


# --- Types ------------------------------------------------------------------------------------


def alternatives(kind: Any) -> tuple[Any, ...]:
    """Return the types that are united in `kind`."""
    return get_args(kind) if get_origin(kind) in {Union, types.UnionType} else (kind,)


def nullable(kind: Any) -> bool:
    """Return whether None is a value of its own."""
    return type(None) in alternatives(kind)


def is_list(kind: Any) -> bool:
    """Return whether a value has members."""
    return any(get_origin(each) is Sequence for each in alternatives(kind))


def expected(option: Option) -> str:
    """Return what is expected of a value, in words."""
    kinds = [each for each in alternatives(option.kind) if each is not type(None)]
    words = " or ".join(dict.fromkeys(map(_words, kinds)))
    return ", ".join(filter(None, (words, bounds(option), "each once" if option.once else "")))


def bounds(option: Option) -> str:
    """Return the bounds of a number, in words."""
    told = {
        "{:g} or more": option.least,
        "above {:g}": option.above,
        "at most {:g}": option.most,
        "below {:g}": option.below,
    }
    return " and ".join(form.format(v) for form, v in told.items() if v is not None)


def _words(kind: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(get_args(kind))
    if get_origin(kind) is Sequence:
        lists = {int: "whole numbers, such as 0,1,2", float: "numbers, such as 1e-4,1e-3"}
        return lists.get(get_args(kind)[0], "a list of text, such as a,b")
    is_mapping = Mapping in (kind, get_origin(kind))
    return "a mapping" if is_mapping else names.get(kind, "text")


@cache
def _adapter(option: Option) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter

    return TypeAdapter(_checked(option.kind, option))


def _checked(kind: Any, option: Option) -> Any:
    """Return `kind` with the option's bounds on its numbers, as pydantic understands it."""
    from pydantic import Field

    if get_origin(kind) in {Union, types.UnionType}:
        return reduce(or_, (_checked(each, option) for each in get_args(kind)))
    if get_origin(kind) is Sequence:
        return tuple[_checked(get_args(kind)[0], option), ...]  # type: ignore[misc]
    if kind not in {int, float}:
        return Annotated[kind, Field(strict=False)] if kind is Path else kind
    finite: dict[str, Any] = {} if kind is int else {"allow_inf_nan": False}
    limits = Field(ge=option.least, gt=option.above, le=option.most, lt=option.below, **finite)
    return Annotated[kind, limits]


def schema(group: type) -> dict[str, Any]:
    """Return the JSON Schema of a mapping with options of `group`, without what no file may say."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            option.name: {
                "description": option.told(),
                **_adapter(option).json_schema(),
                **({} if option.default is None else {"default": option.default}),
            }
            for option in declared(group).values()
            if not option.call_only
        },
    }
