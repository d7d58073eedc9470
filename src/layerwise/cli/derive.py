"""A command from the declaration of its options: parameters, help, and a file in their place."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click

from layerwise.options.check import alternatives, bounds, value_of
from layerwise.options.config import read_options
from layerwise.options.declaration import Option, declared
from layerwise.options.signature import shown_default

_METAVARS = {int: "N", float: "X", str: "NAME", Path: "PATH"}


class _Value(click.ParamType):  # type: ignore[type-arg]  # Before click 8.2 it takes none.
    """The value of an option, checked as its declaration says."""

    name = "value"

    def __init__(self, option: Option) -> None:
        self.option = option

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ARG002  # as in click
        """Return `value` as the option takes it.

        Raises:
            BadInputError: It cannot be used.
        """
        hint = f"{ctx.command_path} --help" if ctx else ""
        return value_of(self.option, value, label=self.option.flags[-1], hint=hint)


def epilog(examples: Iterable[str], note: str = "") -> str:
    """Return what stands at the end of help: lines to type, and a note."""
    if not examples:
        return note
    lines = "".join(f"  {example}\n" for example in examples)
    return f"\b\nExamples:\n{lines}" + (f"\n{note}\n" if note else "")


def command(
    *groups: type,
    arguments: Mapping[str, str] | None = None,
    within: click.Group | None = None,
    name: str | None = None,
    beside: tuple[click.Parameter, ...] = (),
    names: Mapping[str, Iterable[str]] | None = None,
    examples: Iterable[str] = (),
    note: str = "",
    **texts: Any,
) -> Callable[[Callable[..., None]], click.Command]:
    """Return a decorator that makes a function, called with all options by name, a command.

    Args:
        groups: The groups of its options, in the order of help.
        arguments: Its arguments, the shown name by Python's; ``[NAME]`` may be left
            out, ``NAME...`` may be repeated.
        within: The group that it belongs to.
        name: What it is called; as the function, where None.
        beside: Parameters that are no options of a library function.
        names: The members of the registry that an option names one of, by the option.
        examples: Lines to type, at the end of help.
        note: What is said after them.
        texts: ``short_help``, and ``help`` where the docstring is not it.
    """
    options = {o.name: o for group in groups for o in declared(group).values()}
    given = [_argument(name, shown) for name, shown in (arguments or {}).items()]
    config = click.Option(
        ["--config"],
        type=click.Path(path_type=Path),
        metavar="FILE.yaml",
        is_eager=True,
        expose_value=False,
        callback=_reader(options, [*(arguments or {}), *(str(p.name) for p in beside)]),
        help="Options from a file, such as 'examples: 64'; those given here override it.",
    )

    def decorate(function: Callable[..., None]) -> click.Command:
        known = names or {}
        made = [_parameter(o, known.get(o.name, ())) for o in options.values()]
        parameters = [*given, *made, *beside, config]
        make = within.command if within is not None else click.command
        called: click.Command = make(
            name or function.__name__, epilog=epilog(examples, note), **texts
        )(function)
        called.params = parameters
        return called

    return decorate


def _argument(name: str, shown: str) -> click.Argument:
    several, optional = shown.endswith("..."), shown.startswith("[")
    return click.Argument([name], nargs=-1 if several else 1, required=not optional, metavar=shown)


def _reader(
    options: Mapping[str, Option], arguments: Iterable[str]
) -> Callable[[click.Context, click.Parameter, Path | None], None]:
    """Return what lets the values in a file stand where an option is not given."""
    names = {name.replace("_", "-"): name for name in arguments}

    def read(context: click.Context, _parameter: click.Parameter, file: Path | None) -> None:
        if file is not None:
            context.default_map = read_options(file, options, arguments=names)

    return read


def _parameter(option: Option, names: Iterable[str]) -> click.Option:
    """Return the parameter of an option."""
    is_flag, default = option.kind is bool, shown_default(option)
    limits = "" if option.once else bounds(option)
    told = "; ".join(filter(None, (f"default: {default}" if default else "", limits)))
    return click.Option(
        [*option.flags, option.name],
        type=click.BOOL if is_flag else click.STRING if option.repeat else _Value(option),
        is_flag=is_flag,
        default=None if option.repeat else option.default,
        multiple=option.repeat,
        metavar=None if is_flag else _metavar(option),
        help=f"{option.told(names)}  [{told}]" if told else option.told(names),
    )


def _metavar(option: Option) -> str:
    """Return what stands for a value in help."""
    kind = next(each for each in alternatives(option.kind) if each is not type(None))
    if get_origin(kind) is Literal:
        return f"[{'|'.join(get_args(kind))}]"
    return option.metavar or _METAVARS[kind]
