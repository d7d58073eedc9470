"""A check: what a config trains of a model, and what of it does nothing or too much."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from layerwise.columns import Column
from layerwise.placement.check.record import Check, KindCoverage
from layerwise.report import blocks as b
from layerwise.report.documents import parts
from layerwise.report.numbers import counted, percent
from layerwise.report.words import ranges, shown

KINDS = (
    Column("kind", "Module", form="text"),
    Column("trained", "Trained", form="text", importance=30,
           meaning="How many modules of the kind train, of how many there are."),
    Column("blocks", "In blocks", form="text", importance=40,
           meaning="The blocks in which one of the kind trains."),
    Column("missed", "Not in", form="text", importance=10,
           meaning="The blocks that have one, but none that trains."),
    Column("ranks", "Rank", form="text", importance=15),
    Column("parameters", "Parameters", form="quantity", importance=20),
)  # fmt: skip
_OUTSIDE = (
    Column("name", "Module", form="text"),
    Column("how", "How", form="text", importance=10),
    Column("parameters", "Parameters", form="quantity", importance=20),
)


def document(check: Check) -> b.Document:
    """Return what trains, block by kind, and a sentence on each finding."""
    labels, kinds = parts.stack_labels(check.model), check.kinds
    starts = {kind.stack: n for n, kind in reversed(list(enumerate(kinds)))}
    groups = {n: labels[stack] for stack, n in starts.items() if len(starts) > 1}
    trained = frozenset(n for n, kind in enumerate(kinds) if kind.trained)
    rows = [_row(kind) for kind in kinds]
    table = b.Table("kinds", KINDS, rows, trained, "trains", groups)
    heading = b.Heading("What trains, by kind and block")
    blocks: list[b.Block] = [_verdict(check), heading, table]
    if check.outside:
        outside = [asdict(module) for module in check.outside]
        blocks += [b.Heading("Outside the blocks"), b.Table("outside", _OUTSIDE, outside)]
    blocks += [b.Heading("Every block", detail=True), *_every_block(check, labels)]
    blocks += [b.Heading("What it costs"), parts.facts(_costs(check))]
    if check.fixed is not None:
        blocks += [b.Heading("Corrected"), b.Code(check.fixed)]
    blocks += [b.Heading("The model", detail=True), parts.model_facts(check.model)]
    made = parts.made("How this was checked", check.provenance, [("Config", check.config)])
    blocks += [*parts.noted(check.notes), *parts.glossary(table), *made]
    subtitle = f"{shown(check.config, limit=100)}, as {check.trainer} reads it"
    return b.Document("Check", parts.model_name(check.model), subtitle, blocks)


def _every_block(check: Check, labels: Mapping[str, str]) -> Iterator[b.Block]:
    """Yield where each kind trains, those in the same blocks together; in words where in all."""
    alike: dict[tuple[Any, ...], list[str]] = {}
    for kind in check.kinds:
        if kind.trained:
            alike.setdefault((kind.stack, kind.blocks, kind.missed), []).append(kind.kind)
    strips, blocks = [], {stack.name: stack.blocks for stack in check.model.stacks}
    for (stack, on, missed), names in alike.items():
        label = shown(", ".join(names), limit=160)
        label += f" ({labels[stack]})" if len(labels) > 1 else ""
        indices = sorted({*on, *missed})
        if missed:
            about = f"of {counted(len(indices), 'block')}"
            strips.append(b.Strip(label, indices, on=frozenset(on), about=about))
        else:
            some = " that have one" if len(indices) < blocks[stack] else ""
            yield b.Text(f"In all {counted(len(indices), 'block')}{some}: {label}.")
    if strips:
        yield b.Text("Filled: one of the kind trains. Empty: none does.", quiet=True)
    yield from strips


def _verdict(check: Check) -> b.Verdict:
    """Return what was found, a line each: the key, what happens, what to write."""
    if check.clean:
        trained = counted(sum(kind.trained for kind in check.kinds), "module")
        return b.Verdict("Nothing was found.", [f"{trained} of the blocks train."])
    told = [
        f"{shown(f.key, limit=40)}{f' ({shown(f.value, limit=60)})' if f.value else ''}: "
        f"{shown(f.text, limit=400)}. Write: {shown(f.remedy, limit=2_000)}. [{f.code}]"
        for f in check.findings
    ]
    return b.Verdict(f"{counted(len(told), 'finding')}.", told, tone="warning")


def _row(kind: KindCoverage) -> dict[str, Any]:
    return {
        "kind": shown(kind.kind, limit=60),
        "trained": f"{kind.trained:,} of {kind.modules:,}",
        "blocks": ranges(kind.blocks) or "none",
        "missed": ranges(kind.missed),
        "ranks": ", ".join(map(str, kind.ranks)) or kind.how,
        "parameters": kind.parameters,
    }


def _costs(check: Check) -> Iterator[tuple[str, str]]:
    """Yield how many parameters train, and how far down a backward pass goes, and why."""
    total, depth = check.model.parameters, sum(stack.blocks for stack in check.model.stacks)
    share = f" ({percent(check.parameters / total)} of the model's)" if total else ""
    yield "Trainable", f"{check.parameters:,} parameters train{share}."
    through = f"through {check.backward_blocks} of {counted(depth, 'block')}"
    if check.lowest is not None:
        where = parts.block_names([check.lowest], parts.stack_labels(check.model))
        through += f" ({percent(check.backward_blocks / depth)}), down to {where}"
    yield "Backward", through
