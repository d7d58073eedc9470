"""What a study found, over its seeds."""

import pandas as pd

from layerwise.columns import Column
from layerwise.report.blocks import Document, Heading, Table, Text
from layerwise.report.numbers import counted
from layerwise.report.words import shown

__all__ = ["MOST", "document"]

MOST = 48
"""Rows that a terminal shows; the file has all."""

_NAMES = ("model", "objective", "condition", "placement")
_FIGURES = (
    ("accuracy", "Accuracy"),
    ("macro_f1", "Macro-F1"),
    ("eval_loss", "Held-out loss"),
    ("slope", "Slope"),
)


def document(summary: pd.DataFrame, *, title: str = "study") -> Document:
    """Return a line for what differs in no more than the seed.

    Names that are the same in every line are left out.

    Args:
        summary: The study's table of that name.
        title: The study's name.
    """
    told = [name for name in _NAMES if len(set(summary[name])) > 1] or ["model"]
    plain = summary.astype(object).where(summary.notna(), None).to_dict("records")
    rows = [{**row, "name": " ".join(shown(row[name], limit=30) for name in told)} for row in plain]
    columns = [
        Column("name", ", ".join(told), form="text"),
        Column("seeds", "Seeds", form="count", importance=10),
    ]
    for place, (key, name) in enumerate(_FIGURES):
        mean = Column(
            f"{key}_mean", name, importance=9 - place, meaning=f"{name}, mean over seeds."
        )
        columns += [mean, Column(f"{key}_sd", f"{name}, sd", short="sd", importance=4 - place)]
    return Document(
        "Study",
        shown(title, limit=160),
        counted(len(rows), "row"),
        [
            Heading("Results over seeds"),
            Table("summary", columns, rows, most=MOST),
            Text("Mean and standard deviation over seeds.", quiet=True),
        ],
    )
