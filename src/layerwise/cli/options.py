"""Options that commands share, and how a YAML file stands in for them."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from layerwise.errors import BadInputError, UnknownNameError

__all__ = [
    "Names",
    "charts",
    "choice",
    "common",
    "common_with",
    "count",
    "form",
    "objective",
    "output",
    "parts_of",
    "reading",
    "readout",
    "stacked",
]

#: Options that whoever types a command gives, and no file: it may be another's, and code would run.
CALL_ONLY = frozenset({"trust-remote-code"})

CONFIG = "YAML lines such as 'examples: 64'"

F = TypeVar("F", bound=Callable[..., Any])


def parts_of(value: Any) -> list[str]:
    """The parts of a text between commas, or of a YAML list, without blanks around them."""
    parts = value.split(",") if isinstance(value, str) else value
    return [str(part).strip() for part in (parts if isinstance(parts, list | tuple) else [parts])]


class Names(click.ParamType[tuple[str, ...]]):
    """Names separated by commas, or a YAML list of them, as a tuple of strings."""

    name = "names"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """`value` as a tuple, without blanks and empty names."""
        names = tuple(filter(None, parts_of(value)))
        if not names:
            self.fail("no name is given", param, ctx)
        return names


def count(name: str, *, default: int | None, told: str, least: int = 1) -> Callable[[F], F]:
    """An option that takes a whole number from `least` on; no default shows as "all"."""
    return click.option(
        name,
        type=click.IntRange(min=least),
        default=default,
        show_default="all" if default is None else True,
        metavar="N",
        help=told,
    )


def choice(name: str, *, of: Sequence[str], default: str, told: str) -> Callable[[F], F]:
    """An option that takes one of a few words."""
    return click.option(name, type=click.Choice(of), default=default, show_default=True, help=told)


def text(name: str, *, default: str, told: str) -> Callable[[F], F]:
    """An option that takes a name, which is looked up later on."""
    return click.option(name, default=default, show_default=True, metavar="NAME", help=told)


def readout(*, default: str, told: str) -> Callable[[F], F]:
    """Which tensor stands for a depth."""
    return choice("--readout", of=("hf", "residual", "normed"), default=default, told=told)


def _read_config(context: click.Context, _parameter: click.Parameter, file: Path | None) -> None:
    """Let the values in `file` stand where an option is not given.

    Raises:
        BadInputError: It cannot be read, is not a YAML mapping, or has what a file cannot give.
        UnknownNameError: It has a key that the command does not take.
    """
    if file is not None:
        context.default_map = _renamed(_mapping(file), context.command.params, file)


def _mapping(file: Path) -> Mapping[str, Any]:
    import yaml

    try:
        plain = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        msg = f"cannot read the config file ({reason})"
        raise BadInputError(msg, value=file, expected=CONFIG) from error
    if not isinstance(plain, Mapping):
        msg = "config file without options"
        raise BadInputError(msg, value=file, expected=CONFIG)
    return plain


def _renamed(
    plain: Mapping[str, Any], parameters: Sequence[click.Parameter], file: Path
) -> dict[str, Any]:
    """`plain` with click's names for the options that its keys spell as on the command line."""
    known = {_spelled(p): p for p in parameters if p.name not in {"config", "help"}}
    values: dict[str, Any] = {}
    for key, value in plain.items():
        parameter = known.get(str(key).replace("_", "-"))
        if parameter is None:
            msg = f"option in {file}"
            raise UnknownNameError(msg, value=str(key), known=known)
        if _spelled(parameter) in CALL_ONLY:
            msg = f"{key} in {file}, which a file cannot give"
            hint = f"--{_spelled(parameter)}, once you have read that code"
            raise BadInputError(msg, value=value, expected="a file without it", hint=hint)
        single = isinstance(parameter, click.Option) and parameter.multiple
        values[str(parameter.name)] = [value] if single and not isinstance(value, list) else value
    return {name: value for name, value in values.items() if value is not None}


def _spelled(parameter: click.Parameter) -> str:
    """A parameter as users write it, without dashes in front."""
    return max(parameter.opts, key=len).lstrip("-").lower()


def stacked(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """One decorator that adds options in the order in which they are listed."""
    return lambda function: functools.reduce(lambda f, add: add(f), reversed(decorators), function)


form = stacked(
    click.option(
        "--format",
        "form",
        type=click.Choice(["human", "json", "quiet"]),
        default="human",
        show_default=True,
        help="What goes to standard output.",
    ),
    click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE.yaml",
        is_eager=True,
        expose_value=False,
        callback=_read_config,
        help="Options from a file, such as 'examples: 64'; those given here override it.",
    ),
)

output = stacked(
    click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Output folder."),
    click.option("--overwrite", is_flag=True, help="Replace a result that the folder holds."),
    form,
)


def common_with(
    *, batch_size: int = 8, max_length: int = 128, examples: int | None = 64
) -> Callable[[F], F]:
    """The options of every command that runs a model, with these defaults.

    Args:
        batch_size: Examples in a batch.
        max_length: Tokens of an example that are kept.
        examples: Examples that are read; None reads all.
    """
    return stacked(
        output,
        click.option(
            "--seed", type=int, default=0, show_default=True, help="Fixes all randomness."
        ),
        text("--device", default="auto", told="auto, cpu, cuda or cuda:N."),
        text("--dtype", default="auto", told="auto, float32, bfloat16 or float16."),
        count("--batch-size", default=batch_size, told="Examples in a batch."),
        count(
            "--max-length", default=max_length, least=2, told="Tokens of an example that are kept."
        ),
        count("--examples", default=examples, told="Examples that are read."),
    )


common = common_with()

reading = stacked(
    click.option("--text-column", metavar="NAME", help="The text.  [default: found by its name]"),
    click.option("--prompt-column", metavar="NAME", help="What precedes it, outside the loss."),
    click.option("--label-column", metavar="NAME", help="The class."),
    click.option(
        "--where", multiple=True, metavar="COLUMN=VALUE", help="Only such rows; may be repeated."
    ),
    click.option(
        "--trust-remote-code", is_flag=True, help="Run code that the model's repository brings."
    ),
)

objective = text(
    "--objective",
    default="auto",
    told="The loss; auto takes what the model's head and the columns call for.",
)

charts = click.option("--charts", is_flag=True, help="Each chart as PNG and SVG too.")
