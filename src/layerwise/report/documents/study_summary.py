"""What a study found, over its seeds."""

import pandas as pd

from layerwise.columns import Column
from layerwise.report import blocks as b
from layerwise.report.numbers import counted
from layerwise.report.words import shown

MOST = 48
"""Rows that a terminal shows; the file has all."""

_NAMES = ("model", "objective", "condition", "placement")
_FIGURES = (
    ("accuracy", "Accuracy"),
    ("macro_f1", "Macro-F1"),
    ("eval_loss", "Held-out loss"),
    ("slope", "Slope"),
)


def document(summary: pd.DataFrame, *, title: str = "study") -> b.Document:
    """Return a line of `summary` for what differs in no more than the seed.

    Names that are the same in every line are left out; `title` is the study's name.
    """
    told = [name for name in _NAMES if len(set(summary[name])) > 1] or ["model"]
    plain = summary.astype(object).where(summary.notna(), None).to_dict("records")
    rows = [{**row, "name": " ".join(shown(row[name], limit=30) for name in told)} for row in plain]
    columns = [
        Column("name", ", ".join(told), form="text"),
        Column("seeds", "Seeds", form="count", importance=10),
    ]
    for place, (key, name) in enumerate(_FIGURES):
        columns += [
            Column(f"{key}_mean", name, importance=9 - place),
            Column(f"{key}_sd", f"{name}, sd", short="sd", importance=4 - place),
        ]
    blocks: list[b.Block] = [
        b.Heading("Results over seeds"),
        b.Table("summary", columns, rows, most=MOST),
        b.Text("Mean and standard deviation over seeds.", quiet=True),
    ]
    return b.Document("Study", shown(title, limit=160), counted(len(rows), "row"), blocks)
