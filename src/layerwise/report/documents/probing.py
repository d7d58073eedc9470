"""What probes read at each depth."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from layerwise.probing.columns import PROBED
from layerwise.probing.record import ProbedDepth, Probing, TextInfo
from layerwise.report.blocks import Axis, Block, Chart, Document, Heading, Rule, Table, Verdict
from layerwise.report.documents.parts import ending, facts, glossary, model_name
from layerwise.report.numbers import interval, percent
from layerwise.report.words import shown

__all__ = ["document", "text_size"]

_PROBES = {"linear": "A linear probe", "mlp": "An MLP"}


def document(probing: Probing) -> Document:
    """Return a line a depth, and where the classes can be read."""
    sides = [sum(getattr(c, side) for c in probing.classes) for side in ("train", "test")]
    told = f"{sides[0]:,} examples to train, {sides[1]:,} to judge, readout {probing.readout}"
    classes = ((c.name, f"{c.train:,} to train, {c.test:,} to judge") for c in probing.classes)
    text, *reasons = _read(probing)
    chance = f"Always naming the commonest class is right in {percent(probing.majority)}."
    blocks: list[Block] = [
        Verdict(text, [*reasons, chance]),
        Heading("Accuracy by depth"),
        _chart(probing),
        Table("depths", PROBED, [_row(depth) for depth in probing.depths], bar="linear"),
        *glossary(PROBED),
        Heading("The classes", detail=True),
        facts(classes),
        *ending(
            probing,
            "How this was measured",
            ("Columns", ", ".join(f"{k}: {v}" for k, v in probing.data.columns.items())),
            ("Texts", text_size(probing.data)),
            ("Stack", probing.stack),
        ),
    ]
    about = f"{len(probing.classes)} classes, {told}"
    subtitle = f"on {shown(probing.data.source, limit=100)} ({about})"
    return Document("Probes by depth", model_name(probing.model), subtitle, blocks)


def _read(probing: Probing) -> Iterator[str]:
    """Yield, for each probe, where it reads best, and from where on it does about as well."""
    for name, title in _PROBES.items():
        best = max(probing.depths, key=lambda depth: float(getattr(depth, name).accuracy))
        found = getattr(best, name)
        first = next(d for d in probing.depths if getattr(d, name).accuracy >= found.low)
        early = f", and first within its interval at block {first.index}" if first != best else ""
        yield f"{title} is right in {percent(found.accuracy)} at block {best.index}{early}."


def _row(depth: ProbedDepth) -> dict[str, Any]:
    row: dict[str, Any] = {"index": depth.index, "relative": depth.relative}
    for name in _PROBES:
        for key, value in asdict(getattr(depth, name)).items():
            row[name if key == "accuracy" else f"{name}_{key}"] = value
    return row


def _chart(probing: Probing) -> Chart:
    names = {"linear": "linear", "mlp": "MLP"}
    rows = [
        {"x": depth.index, "index": depth.index, "head": f"block {depth.index} · {title}"}
        | {"accuracy": found.accuracy, "low": found.low, "high": found.high, "probe": title}
        | {"tip": interval(found.accuracy, found.low, found.high, digits=3)}
        for depth in probing.depths
        for name, title in names.items()
        for found in [getattr(depth, name)]
    ]
    return Chart(
        "accuracy",
        "Accuracy of probes",
        "blocks",
        rows,
        Axis("x"),
        Axis("accuracy", form="percent"),
        series="probe",
        names=list(names.values()),
        low="low",
        high="high",
        tips={"tip": "Accuracy"},
        rules=[Rule(probing.majority, text="the commonest class")],
        caption=f"Band: {PROBED[2].band}. Dashed: always naming the commonest class.",
        width="wide",
    )


def text_size(data: TextInfo) -> str:
    """Return how much text was read."""
    return f"{data.texts:,}, {data.tokens:,} tokens, {data.max_length} each at most"
