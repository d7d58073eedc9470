"""What a study found, over its seeds, as a table for a terminal."""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType

    from layerwise.report.old.terminal import Room

__all__ = ["MOST", "summary_table"]

MOST = 48
"""Rows that are shown; the file has all."""

_NAMES = ("model", "objective", "condition", "placement")
_FIGURES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "eval_loss": "held-out loss",
    "slope": "slope",
}


def summary_table(summary: "pd.DataFrame", *, width: int | None = None) -> "RenderableType":
    """The table of `summary` for `rich`: a line for what differs in no more than the seed.

    Names that are the same in every line are left out.

    Args:
        summary: The study's table of that name.
        width: Characters a line, where fewer than the console's are wanted.
    """
    from layerwise.report.old.terminal import Sized

    return Sized(lambda room: _lines(summary, room), width)


def _lines(summary: "pd.DataFrame", room: "Room") -> Iterator["RenderableType"]:
    from layerwise.report.old.terminal import tabled
    from layerwise.report.old.text import shown

    told = [name for name in _NAMES if len(set(summary[name])) > 1] or ["model"]
    figures = {name: title for name, title in _FIGURES.items() if f"{name}_mean" in summary}
    rows = [
        [
            " ".join(shown(row[name], limit=30) for name in told),
            str(row["seeds"]),
            *(_spread(row, name) for name in figures),
        ]
        for row in summary.head(MOST).to_dict("records")
    ]
    yield tabled([", ".join(told), "seeds", *figures.values()], rows, room)
    if len(summary) > MOST:
        yield room.text(f"… and {len(summary) - MOST:,} more", style="dim")
    yield room.text("Mean and standard deviation over seeds.", style="dim")


def _spread(row: Mapping[Any, Any], name: str) -> str:
    """A mean with the standard deviation after it; the mean alone of one seed."""
    from layerwise.report.old.story import number

    mean, deviation = row[f"{name}_mean"], row[f"{name}_sd"]
    if math.isnan(mean):  # What is compared has no such figure.
        return number(None)
    return number(mean) if math.isnan(deviation) else f"{number(mean)} ({number(deviation)})"
