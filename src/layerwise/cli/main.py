"""`layerwise`: the commands together, and what becomes of their errors."""

import os
import sys
from collections.abc import Sequence

import click

from layerwise import __version__
from layerwise.cli.check import check
from layerwise.cli.compare import compare
from layerwise.cli.control import control
from layerwise.cli.measure import measure
from layerwise.cli.output import complain, quiet_libraries
from layerwise.cli.place import place
from layerwise.cli.produce import MESSAGE
from layerwise.cli.records import COMMANDS
from layerwise.cli.study import study
from layerwise.cli.tune import tune
from layerwise.errors import LayerwiseError
from layerwise.interrupts import INTERRUPTED, interruptible

EPILOG = """\b
Examples:
  layerwise card demo demo                  a real model on real text, nothing to prepare
  layerwise card org/model reviews.csv      yours
  layerwise place model-card --layers 5     a placement of adapters from that card

Exit status: 0 done, 1 failed, 2 usage or bad input, 3 a study
with failed runs, 130 interrupted.
"""


@click.group(
    "layerwise",
    epilog=EPILOG,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def commands() -> None:
    """Find where in depth to adapt a model, what it costs, and why."""


for _command in (*COMMANDS, place, check, measure, tune, control, study, compare):
    commands.add_command(_command)


def main(args: Sequence[str] | None = None) -> int:
    """Return the exit status of the command line `args` (default: this process's own).

    What a user can cause ends in one line on standard error. Anything else is a fault of the
    program and keeps its traceback.
    """
    given = list(sys.argv[1:] if args is None else args)
    with interruptible() as interrupted, quiet_libraries():
        try:
            with commands.make_context("layerwise", given) as context:
                commands.invoke(context)
            sys.stdout.flush()
        except BaseException as error:  # noqa: BLE001  # an interrupt may come out as any error
            if not interrupted():
                return _end(error)
            complain(MESSAGE)
            return INTERRUPTED
    return 0


def _end(error: BaseException) -> int:
    """Return the exit status for `error`, after its one line is said; a fault goes on its way."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        # The reader left. What Python flushes at exit would fail again, so it goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "layerwise"
        complain(f"{error.format_message().rstrip('.')}; try: {path} --help")
        return 2
    if isinstance(error, LayerwiseError):
        complain(str(error))
        return error.exit_code
    raise error
