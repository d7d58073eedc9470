"""The progress of a run or a study: a live display on a terminal, lines elsewhere."""

import logging
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from layerwise.cli.output import Format

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from layerwise.report.renderers.terminal import Room

log = logging.getLogger(__name__)

Listener = Callable[[Mapping[str, Any]], None]

#: Seconds that lie at least between two lines, and at most while a run goes on.
SOONEST, LATEST = 5.0, 60.0

_LOSSES = 24


def live(form: Format, total_steps: int) -> AbstractContextManager[Listener]:
    """Return what gives a listener to each optimizer step, which shows it while inside.

    The listener takes a mapping with ``step`` (from 1), ``loss``, ``learning_rate``,
    ``grad_norm``, ``seconds``, ``step_ratio`` (||dW|| / ||W|| by layer group) and sometimes
    ``eval_loss``; what is missing is not shown. Only the form ``human`` shows anything.
    """
    return listening(form, _display(total_steps), step_lines(total_steps))


@contextmanager
def listening(
    form: Format,
    display: AbstractContextManager[Callable[[Any], None]],
    lines: Callable[[Any], None],
) -> Iterator[Callable[[Any], None]]:
    """Yield what shows all that it hears: on a terminal in a `display`, elsewhere by `lines`."""
    if form != "human":
        yield lambda _: None
    elif sys.stderr.isatty():
        with display as listener:
            yield listener
    else:
        yield lines


# --- Lines ------------------------------------------------------------------------------------


@dataclass
class SpacedLines:
    """Says the `line` of what it hears where its `mark` is another, and what `always` is.

    Lines come not too often, and not too seldom while anything is heard.
    """

    line: Callable[[Any], str]
    mark: Callable[[Any], object]
    always: Callable[[Any], bool] = lambda _: False
    clock: Callable[[], float] = time.monotonic
    said: float = -math.inf
    last: object = None

    def __call__(self, heard: Any) -> None:
        """Hear of a step or a change."""
        now, mark = self.clock(), self.mark(heard)
        waited = now - self.said
        changed = mark != self.last and waited >= SOONEST
        if changed or waited >= LATEST or self.always(heard):
            self.said, self.last = now, mark
            log.info("%s", self.line(heard))


def step_lines(total: int, *, clock: Callable[[], float] = time.monotonic) -> SpacedLines:
    """Return what says a line every tenth of a run of `total` steps, and each evaluation."""
    return SpacedLines(
        line=lambda entry: _line(entry, total),
        mark=lambda entry: 10 * entry["step"] // max(total, 1),
        always=lambda entry: entry["step"] >= total or "eval_loss" in entry,
        clock=clock,
    )


def _line(entry: Mapping[str, Any], total: int) -> str:
    """Return a step in one line."""
    parts = [f"step {entry['step']}/{total}", *_numbers(entry)]
    ratios = _known((entry.get("step_ratio") or {}).values())
    if ratios:
        middle = sorted(ratios)[len(ratios) // 2]
        ends = f"{min(ratios):.2g} to {max(ratios):.2g}"
        parts.append(f"step size {middle:.2g} ({ends})")
    return ", ".join(parts)


def _numbers(entry: Mapping[str, Any]) -> list[str]:
    """Return the figures of a step that it has."""
    titles = {
        "loss": "loss {:.4g}",
        "eval_loss": "eval loss {:.4g}",
        "eval_accuracy": "accuracy {:.3f}",
        "learning_rate": "learning rate {:.3g}",
        "grad_norm": "gradient norm {:.3g}",
    }
    return [title.format(entry[key]) for key, title in titles.items() if entry.get(key) is not None]


def _known(values: Any) -> list[float]:
    return [float(value) for value in values if value is not None and math.isfinite(value)]


# --- The display ------------------------------------------------------------------------------


@dataclass
class _RunHistory:
    """What has been heard of a run."""

    losses: list[float] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)

    def hear(self, entry: Mapping[str, Any]) -> None:
        """Take in one step; what it does not say stays as it was."""
        self.losses += _known([entry.get("loss")])
        self.last |= {key: value for key, value in entry.items() if value is not None}


@contextmanager
def _display(total: int) -> Iterator[Listener]:
    from rich.console import Console
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from layerwise.report.renderers.terminal import RoomRenderable

    bar = Progress("tuning", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    task, run = bar.add_task("tuning", total=total), _RunHistory()
    shown = RoomRenderable(lambda room: _parts(bar, run, room), None)

    def listener(entry: Mapping[str, Any]) -> None:
        run.hear(entry)
        bar.update(task, completed=entry["step"])

    with Live(shown, console=Console(stderr=True), transient=True, refresh_per_second=4):
        yield listener


def _parts(bar: "RenderableType", run: _RunHistory, room: "Room") -> Iterator["RenderableType"]:
    """Yield the bar, the figures with the course of the loss, and the step of each group."""
    from layerwise.report.renderers.terminal import sparkline

    yield bar
    if run.last:
        low, high = min(run.losses, default=0.0), max(run.losses, default=0.0)
        heights = [loss - low for loss in run.losses]
        course = sparkline(heights, _LOSSES, room, most=high - low)
        yield _join(room, course, ", ".join(_numbers(run.last)))
    ratios = run.last.get("step_ratio")
    if ratios:
        yield _steps(ratios, room)


def _join(room: "Room", drawn: "Text", told: str) -> "Text":
    """Return a drawing and its words on one line."""
    line = drawn + room.text(f" {told}")
    line.truncate(room.width)
    return line


def _steps(ratios: Mapping[str, float], room: "Room") -> "Text":
    """The step of each group from the input to the output, between its ends on a log scale."""
    from layerwise.report.renderers.terminal import sparkline

    known = [ratio for ratio in _known(ratios.values()) if ratio > 0]
    if not known:
        return room.text("no group has moved yet")
    low, high = min(known), max(known)
    heights = [math.log(max(ratio, low) / low) for ratio in _known(ratios.values())]
    told = f"step size by group, {low:.2g} to {high:.2g}, log scale"
    drawn = sparkline(heights, max(room.width - len(told) - 1, 8), room, most=math.log(high / low))
    return _join(room, drawn, told)
