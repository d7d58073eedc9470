"""What several records say alike: names of models and blocks, notes, and how a record was made."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import PurePath
from typing import Any

from layerwise.card.record import LayerRow, ModelInfo
from layerwise.columns import Column
from layerwise.placement.record import PlacedBlock
from layerwise.provenance import Provenance
from layerwise.report.blocks import Block, Code, Facts, Heading, Note, Verdict
from layerwise.report.numbers import counted, plural, quantity
from layerwise.report.words import ranges, shown

__all__ = [
    "block_names",
    "chosen",
    "ending",
    "facts",
    "glossary",
    "made",
    "model_facts",
    "model_name",
    "noted",
    "spots",
    "stack_labels",
    "untrained",
]


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

    Args:
        blocks: What is named.
        labels: The model's stacks by name; those of `blocks` where None.
    """
    found: dict[str, list[int]] = {}
    for block in blocks:
        found.setdefault(block.stack, []).append(block.index)
    if labels is None:
        labels = {stack: shown(stack, limit=40) for stack in found}
    parts = [
        f"{plural('block', len(set(found[stack])))} {ranges(found[stack])}"
        + (f" of {label}" if len(labels) > 1 else "")
        for stack, label in labels.items()
        if stack in found
    ]
    return " and ".join(parts) or "no block"


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


def facts(pairs: Iterable[tuple[str, object]], *, title: str = "") -> Facts:
    """Return the `pairs` that there are, each on a line."""
    told = [(label, shown(value, limit=400)) for label, value in pairs if value not in (None, "")]
    return Facts(told, title)


def glossary(columns: Iterable[Column]) -> list[Block]:
    """Return what the `columns` mean, how they are read, and when not to trust them."""
    pairs = [(column.title, column.explained) for column in columns if column.explained]
    return [Heading("What the columns mean", detail=True), Facts(pairs)]


def model_facts(model: ModelInfo, *, title: str = "") -> Facts:
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


def untrained(names: Sequence[str]) -> list[Block]:
    """Return a warning of the modules whose adapters never trained; nothing where all did."""
    if not names:
        return []
    text = f"{counted(len(names), 'module')} never trained (adapter B all zero)"
    reason = "Their adapters are still what they were at the start, so they change nothing."
    shortened = [shown(name, limit=120) for name in names]
    return [Verdict(text, reasons=[reason], names=shortened, tone="warning")]


def noted(notes: Iterable[str]) -> list[Block]:
    """Return what was done otherwise than asked, under a heading."""
    told = [Note(shown(note, limit=600)) for note in notes]
    return [Heading("Notes"), *told] if told else []


def made(
    heading: str,
    by: Provenance,
    pairs: Iterable[tuple[str, object]],
    *,
    files: Mapping[str, str] | None = None,
) -> Iterator[Block]:
    """Yield how a record was made: what was typed, what was read, with which versions.

    Args:
        heading: What this is called.
        by: Who made it.
        pairs: What there is to say of this record, by label.
        files: SHA-256 of the files that were read, by name.
    """
    libraries = f"torch {by.torch}, transformers {by.transformers}, peft {by.peft}"
    versions = [
        ("layerwise", f"{by.layerwise}" + (f" ({by.git})" if by.git else "")),
        ("Libraries", libraries),
        ("Python", by.python),
        ("Device", by.device),
        ("Created", by.created),
    ]
    yield from (Heading(heading, detail=True), Heading("Command", 3), Code(by.command))
    yield from (Heading("Provenance", 3), facts([*pairs, *versions]))
    if files:
        digests = [(shown(name, limit=120), shown(digest)) for name, digest in files.items()]
        yield from (Heading("Files, by SHA-256", 3), Facts(digests))


def chosen(settings: Any) -> list[tuple[str, object]]:
    """Return what was chosen, by label: every setting that has a value."""
    return [
        (key.removesuffix("_bytes").replace("_", " ").capitalize(), _setting(key, value))
        for key, value in asdict(settings).items()
    ]


def _setting(key: str, value: Any) -> object:
    if key == "seconds" or key.endswith("_bytes"):
        return quantity(value, "s" if key == "seconds" else "B")
    return "; ".join(map(" and ".join, value)) if isinstance(value, tuple) else value


def ending(record: Any, heading: str, *pairs: tuple[str, object]) -> Iterator[Block]:
    """Yield what most documents end with: the model, notes, settings, how the record was made."""
    data, model = record.data, record.model
    yield from (Heading("The model", detail=True), model_facts(model), *noted(record.notes))
    read = [("Data", data.source), ("Data SHA-256", data.sha256)]
    told = [*read, *pairs, *chosen(record.settings)]
    yield from made(heading, record.provenance, told, files=model.files)
