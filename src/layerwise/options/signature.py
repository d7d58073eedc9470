"""A function's options, from their declaration: checked, completed, and shown by ``help``."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args

from layerwise.options.check import complete
from layerwise.options.declaration import Option, declared
from layerwise.resources import gradients_on

F = TypeVar("F", bound=Callable[..., Any])

_PLACEHOLDER = "options: "


def takes_options(function: F) -> F:
    """Return `function` with its ``**options: Unpack[GROUP]`` checked and complete.

    It gets every option of the group: as given, else its default; and gradients, also where it is
    called under `torch.no_grad` or `torch.inference_mode`. The signature and the docstring
    that ``help`` shows name each with its type, default and meaning; what the docstring says of
    ``options`` itself stands for them.
    """
    group = group_of(function)
    signature = inspect.signature(function)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    names = {parameter.name for parameter in own}

    @functools.wraps(function)
    def checked(*args: Any, **given: Any) -> Any:
        beside = {name: given.pop(name) for name in names & given.keys()}
        with gradients_on():
            whole = complete(group, given, command=function.__name__)
            return function(*args, **beside, **whole)

    options = declared(group)
    checked.__doc__ = _documented(inspect.getdoc(function) or "", options)
    checked.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[
            *own,
            *(
                inspect.Parameter(
                    o.name, inspect.Parameter.KEYWORD_ONLY, default=o.default, annotation=o.hint
                )
                for o in options.values()
            ),
        ]
    )
    return checked  # type: ignore[return-value]


def group_of(function: Callable[..., Any]) -> type:
    """Return the group of options that `function` takes."""
    function = inspect.unwrap(function)
    (group,) = get_args(function.__annotations__["options"])
    return group


def shown_default(option: Option) -> str:
    """Return the default as people read it; empty where it is none or goes without saying."""
    if option.default is None or option.default == ():
        return option.unset
    if isinstance(option.default, bool):
        return ""
    if isinstance(option.default, tuple):
        return ",".join(f"{v:g}" if isinstance(v, float) else str(v) for v in option.default)
    return str(option.default)


def _documented(text: str, options: Mapping[str, Option]) -> str:
    """Return a docstring in which each of `options` stands in the place of the one for all."""
    lines = text.splitlines()
    at = next((i for i, line in enumerate(lines) if line.strip().startswith(_PLACEHOLDER)), None)
    if at is None:
        return text
    told = [
        f"    {o.name}: {o.told()}" + (f"  [default: {d}]" if (d := shown_default(o)) else "")
        for o in options.values()
    ]
    return "\n".join([*lines[:at], *told, *lines[at + 1 :]])
