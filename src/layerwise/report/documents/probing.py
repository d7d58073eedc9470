"""What probes read at each depth."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from layerwise.probing.columns import PROBED
from layerwise.probing.record import ProbedDepth, Probing, TextInfo
from layerwise.report import blocks as b
from layerwise.report.documents import parts
from layerwise.report.numbers import interval, percent

_PROBES = {"linear": "A linear probe", "mlp": "An MLP"}


def document(probing: Probing) -> b.Document:
    """Return a line a depth, and where the classes can be read."""
    sides = [sum(getattr(c, side) for c in probing.classes) for side in ("train", "test")]
    told = f"{sides[0]:,} examples to train, {sides[1]:,} to judge, readout {probing.readout}"
    told += f", {probing.pooling} tokens" if probing.pooling else ""
    text, *reasons = _read(probing)
    chance = f"Always naming the commonest class is right in {percent(probing.majority)}."
    rows = [_row(depth) for depth in probing.depths]
    columns = {column.key: column for column in PROBED}
    linear, mlp = columns["linear"], columns["mlp"]
    classes = ((c.name, f"{c.train:,} to train, {c.test:,} to judge") for c in probing.classes)
    table = b.Table("depths", PROBED, rows, bar="linear")
    blocks: list[b.Block] = [
        b.Verdict(text, [*reasons, chance]),
        b.Heading("Accuracy by depth"),
        parts.side_by_side(
            "accuracy", {"linear": replace(linear, title="Accuracy"), "MLP": mlp}, rows,
            title="Accuracy of probes", percent=True, width="wide",
            rules=[b.Rule(probing.majority, text="the commonest class")],
            caption=f"Band: {linear.band}. Dashed: always naming the commonest class.",
        ),
        table,
        *parts.glossary(table),
        b.Heading("The classes", detail=True),
        parts.facts(classes),
        *parts.ending(
            probing,
            "How this was measured",
            ("Columns", ", ".join(f"{k}: {v}" for k, v in probing.data.columns.items())),
            ("Texts", text_size(probing.data)),
            ("Stack", probing.stack),
        ),
    ]  # fmt: skip
    subtitle = parts.on_data(probing.data, f"{len(probing.classes)} classes, {told}")
    return b.Document("Probes by depth", parts.model_name(probing.model), subtitle, blocks)


def _read(probing: Probing) -> Iterator[str]:
    """Yield, for each probe, where it reads best, and from where on it does about as well."""
    for name, title in _PROBES.items():
        best = max(probing.depths, key=lambda depth: float(getattr(depth, name).accuracy))
        found = getattr(best, name)
        first = next(d for d in probing.depths if getattr(d, name).accuracy >= found.low)
        early = f", and first within its interval at block {first.index}" if first != best else ""
        told = f"{title} is right in {percent(found.accuracy)} at block {best.index}{early}."
        if own := (probing.best or {}).get(name):
            share = interval(own.accuracy, own.low, own.high)
            told += f" The best depth, chosen on other examples, is right in a share of {share}."
        yield told


def _row(depth: ProbedDepth) -> dict[str, Any]:
    row = parts.spot(depth.index) | {"relative": depth.relative}
    for name in _PROBES:
        for key, value in asdict(getattr(depth, name)).items():
            row[name if key == "accuracy" else f"{name}_{key}"] = value
    return row


def text_size(data: TextInfo) -> str:
    """Return how much text was read."""
    return f"{data.texts:,}, {data.tokens:,} tokens, {data.max_length} each at most"
