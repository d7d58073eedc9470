"""The parts that documents share: names of models and blocks, charts over blocks, how made."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import PurePath
from typing import Any

from layerwise.card.record import LayerRow, ModelInfo
from layerwise.columns import Column
from layerwise.placement.record import PlacedBlock
from layerwise.provenance import Provenance
from layerwise.report import blocks as b
from layerwise.report.numbers import counted, quantity
from layerwise.report.words import ranges, shown


def model_name(model: ModelInfo, *, limit: int = 160) -> str:
    """Return what a model is called: a hub id whole, the last part of a path.

    With the part before it where the last says only that it is a model. The demo is called what its
    file is.
    """
    path = PurePath(model.source)
    name = model.source
    if name == "demo":
        name = next((file for file in model.files if file.endswith(".gguf")), name)
    elif path.is_absolute():
        name = "/".join(path.parts[-2:]) if path.name == "model" else (path.name or name)
    return shown(name, limit=limit)


def stack_labels(model: ModelInfo, *, limit: int = 40) -> Mapping[str, str]:
    """Return a short label for each stack's name, no two the same."""
    labels: dict[str, str] = {}
    for number, stack in enumerate(model.stacks, start=1):
        label = shown(stack.name, limit=limit)
        labels[stack.name] = f"{label} ({number})" if label in labels.values() else label
    return labels


def block_names(
    blocks: Iterable[PlacedBlock | LayerRow], labels: Mapping[str, str] | None = None
) -> str:
    """Return blocks as people write them: ``"blocks 4, 6–9"``, by stack where there are several.

    The `labels` are of the model's stacks by name; of those of `blocks` where None.
    """
    found: dict[str, list[int]] = {}
    for block in blocks:
        found.setdefault(block.stack, []).append(block.index)
    if labels is None:
        labels = {stack: shown(stack, limit=40) for stack in found}
    named = []
    for stack, label in labels.items():
        if own := set(found.get(stack, ())):
            told = f"{'block' if len(own) == 1 else 'blocks'} {ranges(own)}"
            named.append(f"{told} of {label}" if len(labels) > 1 else told)
    return " and ".join(named) or "no block"


def spots(model: ModelInfo) -> dict[tuple[str, int], dict[str, Any]]:
    """Return where each block of a model stands on a chart, a gap between stacks, and its name."""
    labels = stack_labels(model)
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for number, stack in enumerate(model.stacks):
        name = f"{labels[stack.name]} " if len(labels) > 1 else ""
        for index in range(stack.blocks):
            spot = {"x": len(found) + number, "index": index, "stack": labels[stack.name]}
            found[stack.name, index] = {**spot, "head": f"{name}block {index}"}
    return found


def spot(index: int) -> dict[str, Any]:
    """Return where the block `index` of one stack alone stands on a chart, and its name."""
    return {"x": index, "index": index, "head": f"block {index}"}


def by_block(
    name: str,
    column: Column,
    rows: b.Rows,
    *,
    kind: str = "blocks",
    title: str = "",
    scale: b.Scale | None = None,
    most: float = 0.0,
    percent: bool = False,
    **look: Any,
) -> b.Chart:
    """Return a chart of `column` over blocks, with the intervals that `rows` have."""
    scale = scale or ("zero" if kind == "bars" else "near")
    axis = b.Axis(column.key, unit=column.unit, scale=scale, most=most)
    if percent or column.form == "percent":
        axis = replace(axis, form="percent")
    if column.low and any(row.get(column.low) is not None for row in rows):
        look |= {"low": column.low, "high": column.high}
    look = {"tips": [column]} | look
    return b.Chart(name, title or column.title, kind, rows, b.Axis("x"), axis, **look)


def side_by_side(name: str, columns: Mapping[str, Column], rows: b.Rows, **look: Any) -> b.Chart:
    """Return a chart of several columns over blocks, by the name of their series."""
    first = next(iter(columns.values()))
    column = replace(first, key="value", low="low", high="high", error="", factor=1.0)
    drawn = []
    for row in rows:
        for series, own in columns.items():
            low, high = own.interval(row) or (None, None)
            told = {"value": own.value(row), "low": low, "high": high, "of": series}
            drawn.append({**row, **told, "head": f"{row['head']} · {series}"})
    return by_block(name, column, drawn, series="of", names=list(columns), **look)


def on_data(data: Any, about: str) -> str:
    """Return on what a record was made, with what there is to say `about` it."""
    return f"on {shown(data.source, limit=100)} ({about})"


def gained(quality: str) -> str:
    """Return what an improvement of `quality` is called."""
    return "Fall of loss" if quality == "loss" else f"Gain of {shown(quality)}"


def facts(pairs: Iterable[tuple[str, object]], *, title: str = "") -> b.Facts:
    """Return the `pairs` that there are, each on a line."""
    told = [(label, shown(value, limit=400)) for label, value in pairs if value not in (None, "")]
    return b.Facts(told, title)


def facts_under(heading: str, pairs: Iterable[tuple[str, object]]) -> list[b.Block]:
    """Return the `pairs` that there are under a heading; nothing where there is none."""
    told = facts(pairs)
    return [b.Heading(heading), told] if told.pairs else []


def glossary(*blocks: b.Block) -> list[b.Block]:
    """Return what the columns of tables mean, how they are read, and when not to trust them."""
    columns = (column for block in blocks if isinstance(block, b.Table) for column in block.drawn)
    pairs = {column.title: column.explained for column in columns if column.explained}
    return [b.Heading("What the columns mean", detail=True), b.Facts([*pairs.items()])]


def model_facts(model: ModelInfo, *, title: str = "") -> b.Facts:
    """Return what is known of a model, by label."""
    shapes = (f"{s.blocks} blocks of {s.block_class} in {s.name}" for s in model.stacks)
    told = [
        ("Source", model.source),
        ("Revision", model.revision),
        ("Base model", model.base),
        ("Architecture", model.architecture),
        ("Parameters", f"{model.parameters:,}"),
        ("Stacks", "; ".join(shapes)),
    ]
    return facts(told, title=title)


def untrained(names: Sequence[str]) -> list[b.Block]:
    """Return a warning of the modules whose adapters never trained; nothing where all did."""
    if not names:
        return []
    text = f"{counted(len(names), 'module')} never trained (adapter B all zero)"
    reason = "Their adapters are still what they were at the start, so they change nothing."
    shortened = [shown(name, limit=120) for name in names]
    return [b.Verdict(text, reasons=[reason], names=shortened, tone="warning")]


def noted(notes: Iterable[str]) -> list[b.Block]:
    """Return what was done otherwise than asked, under a heading."""
    told = [b.Note(shown(note, limit=600)) for note in notes]
    return [b.Heading("Notes"), *told] if told else []


def made(
    heading: str,
    by: Provenance,
    pairs: Iterable[tuple[str, object]],
    *,
    files: Mapping[str, str] | None = None,
) -> Iterator[b.Block]:
    """Yield how a record was made: what was typed, the `pairs` of its own, versions, files read.

    The `files` are the SHA-256 of what was read, by name.
    """
    libraries = f"torch {by.torch}, transformers {by.transformers}, peft {by.peft}"
    versions = [
        ("layerwise", f"{by.layerwise}" + (f" ({by.git})" if by.git else "")),
        ("Libraries", libraries),
        ("Python", by.python),
        ("Device", by.device),
        ("Created", by.created),
    ]
    yield from (b.Heading(heading, detail=True), b.Heading("Command", 3), b.Code(by.command))
    yield from (b.Heading("Provenance", 3), facts([*pairs, *versions]))
    if files:
        digests = [(shown(name, limit=120), shown(digest)) for name, digest in files.items()]
        yield from (b.Heading("Files, by SHA-256", 3), b.Facts(digests))


def chosen(settings: Any) -> list[tuple[str, object]]:
    """Return what was chosen, by label: every setting that has a value."""
    told: list[tuple[str, object]] = []
    for key, value in asdict(settings).items():
        label = key.removesuffix("_bytes").replace("_", " ").capitalize()
        if key == "seconds" or key.endswith("_bytes"):
            told.append((label, quantity(value, "s" if key == "seconds" else "B")))
        else:
            pairs = isinstance(value, tuple)
            told.append((label, "; ".join(map(" and ".join, value)) if pairs else value))
    return told


def ending(record: Any, heading: str, *pairs: tuple[str, object]) -> Iterator[b.Block]:
    """Yield what most documents end with: the model, notes, settings, how the record was made."""
    data, model = record.data, record.model
    yield from (b.Heading("The model", detail=True), model_facts(model), *noted(record.notes))
    read = [("Data", data.source), ("Data SHA-256", data.sha256)]
    told = [*read, *pairs, *chosen(record.settings)]
    yield from made(heading, record.provenance, told, files=model.files)
