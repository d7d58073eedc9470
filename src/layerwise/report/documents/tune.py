"""A fine-tuning run: how the loss went, and what each layer group did."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from layerwise.report import blocks as b
from layerwise.report.documents import parts
from layerwise.report.documents.placement import placement_text
from layerwise.report.numbers import number, quantity
from layerwise.report.words import shown
from layerwise.tuning.columns import GROUPS
from layerwise.tuning.record import TuneOutcome, TuneRecord

_STEP = GROUPS[-1]


def document(record: TuneRecord) -> b.Document:
    """Return how the run went, and a line a layer group."""
    data, placement = record.data, record.placement
    placed: list[b.Block] = []
    if placement is not None:
        text = placement_text(placement, parts.stack_labels(record.model))
        placed = [b.Heading("The placement", detail=True), b.Text(text)]
    table = b.Table("groups", GROUPS, _rows(record), bar="step_ratio")
    blocks: list[b.Block] = [
        b.Verdict(_loss(record.outcome), list(_reasons(record))),
        b.Heading("Layer groups"),
        *_charts(record),
        table,
        *parts.glossary(table),
        *placed,
        *parts.ending(
            record,
            "How this was tuned",
            ("Examples shown", f"{record.outcome.examples:,}, {record.outcome.epochs:.3g} epochs"),
            ("Result", record.form),
            *((f"SHA-256 of {name}", digest) for name, digest in record.files.items()),
        ),
    ]
    held = record.settings.eval_examples
    about = f"{shown(data.objective)}, {data.examples:,} examples"
    about += f", {data.examples - held:,} trained on, {held:,} held out" if held else ""
    subtitle = f"{shown(record.condition)} {parts.on_data(data, about)}"
    return b.Document("Fine-tuning", parts.model_name(record.model), subtitle, blocks)


def _rows(record: TuneRecord) -> list[dict[str, Any]]:
    """Return a row a group: by the last two parts of its dotted name if they tell all apart."""
    names = [group.name for group in record.groups]
    ends = [".".join(name.split(".")[-2:]) for name in names]
    names = ends if len(set(ends)) == len(names) else names
    return [{**asdict(g), "name": name} for g, name in zip(record.groups, names, strict=True)]


def _loss(outcome: TuneOutcome) -> str:
    loss = f"Loss {number(outcome.first_loss)} → {number(outcome.loss)}"
    if outcome.eval_loss is None:
        return f"{loss}."
    before = outcome.first_eval_loss
    start = "" if before is None else f"{number(before)} → "
    return f"{loss}, held out {start}{number(outcome.eval_loss)}."


def _reasons(record: TuneRecord) -> Iterator[str]:
    """Yield how well classes are told, what the run took, and what equal-step asked."""
    outcome, held_out = record.outcome, []
    for name, value in outcome.quality.items():
        start = outcome.first_quality.get(name)
        told = name.replace("_", "-").replace("f1", "F1")
        held_out.append(f"{told} {'' if start is None else f'{start:.3f} → '}{value:.3f}")
    if held_out:
        line = ", ".join(held_out)
        yield f"{line[0].upper()}{line[1:]}, held out."
    went = f", from step {outcome.resumed_from}" if outcome.resumed_from else ""
    processes = f" on {outcome.processes} processes" if outcome.processes > 1 else ""
    time, memory = quantity(outcome.seconds, "s"), quantity(outcome.peak_memory_bytes, "B")
    yield f"{outcome.steps:,} steps{went} in {time}{processes}, peak memory {memory}."
    if record.tau is not None:
        yield f"Equal-step asked a relative step of {number(record.tau)} of each group."


def _charts(record: TuneRecord) -> Iterator[b.Block]:
    found = [group for group in record.groups if group.step_ratio is not None]
    last = max((group.row for group in found if group.row is not None), default=-1)
    rows = [
        asdict(group) | {"x": last + 2 if group.row is None else group.row}
        | {"index": group.row, "head": shown(group.name)}
        for group in found
    ]  # fmt: skip
    if rows:
        caption = f"{_STEP.meaning} Band: {_STEP.band}."
        yield parts.by_block("steps", _STEP, rows, scale="log", caption=caption, width="wide")
