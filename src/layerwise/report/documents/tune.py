"""A fine-tuning run: how the loss went, and what each layer group did."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from layerwise.report.blocks import Axis, Block, Chart, Document, Heading, Table, Text, Verdict
from layerwise.report.documents.parts import ending, glossary, model_name, stack_labels
from layerwise.report.documents.placement import placement_text
from layerwise.report.numbers import interval, number, quantity
from layerwise.report.words import shown
from layerwise.tuning.columns import GROUPS
from layerwise.tuning.record import TuneOutcome, TuneRecord

__all__ = ["document"]


def document(record: TuneRecord) -> Document:
    """Return how the run went, and a line a layer group."""
    data, names = record.data, _names([group.name for group in record.groups])
    rows = [{**asdict(g), "name": name} for g, name in zip(record.groups, names, strict=True)]
    blocks: list[Block] = [
        Verdict(_loss(record.outcome), list(_reasons(record))),
        Heading("Layer groups"),
        *_charts(record),
        Table("groups", GROUPS, rows, bar="step_ratio"),
        *glossary(GROUPS),
        *_placed(record),
        *ending(
            record,
            "How this was tuned",
            ("Examples", f"{record.outcome.examples:,}, {record.outcome.epochs:.3g} epochs"),
            ("Result", record.form),
            *((f"SHA-256 of {name}", digest) for name, digest in record.files.items()),
        ),
    ]
    about = f"{shown(data.objective)}, {record.outcome.examples:,} examples"
    subtitle = f"{shown(record.condition)} on {shown(data.source, limit=100)} ({about})"
    return Document("Fine-tuning", model_name(record.model), subtitle, blocks)


def _names(names: Sequence[str]) -> list[str]:
    """Return the last two parts of each dotted name if they tell all apart, else the whole."""
    ends = [".".join(name.split(".")[-2:]) for name in names]
    return ends if len(set(ends)) == len(names) else list(names)


def _loss(outcome: TuneOutcome) -> str:
    loss = f"Loss {number(outcome.first_loss)} → {number(outcome.loss)}"
    if outcome.eval_loss is None:
        return f"{loss}."
    before = outcome.first_eval_loss
    start = "" if before is None else f"{number(before)} → "
    return f"{loss}, held out {start}{number(outcome.eval_loss)}."


def _reasons(record: TuneRecord) -> Iterator[str]:
    """Yield how well classes are told, what the run took, and what equal-step asked."""
    outcome, parts = record.outcome, []
    for name, value in outcome.quality.items():
        start = outcome.first_quality.get(name)
        told = name.replace("_", "-").replace("f1", "F1")
        parts.append(f"{told} {'' if start is None else f'{start:.3f} → '}{value:.3f}")
    if parts:
        line = ", ".join(parts)
        yield f"{line[0].upper()}{line[1:]}, held out."
    went = f", from step {outcome.resumed_from}" if outcome.resumed_from else ""
    processes = f" on {outcome.processes} processes" if outcome.processes > 1 else ""
    time, memory = quantity(outcome.seconds, "s"), quantity(outcome.peak_memory_bytes, "B")
    yield f"{outcome.steps:,} steps{went} in {time}{processes}, peak memory {memory}."
    if record.tau is not None:
        yield f"Equal-step asked a relative step of {number(record.tau)} of each group."


def _charts(record: TuneRecord) -> Iterator[Block]:
    found = [g for g in record.groups if g.step_ratio is not None]
    if not found:
        return
    last = max((g.row for g in found if g.row is not None), default=-1)
    rows = [
        {"x": last + 2 if g.row is None else g.row, "index": g.row, "head": shown(g.name)}
        | {"step": g.step_ratio, "low": g.step_ratio_low, "high": g.step_ratio_high}
        | {"tip": interval(g.step_ratio, g.step_ratio_low, g.step_ratio_high)}
        for g in found
    ]
    yield Chart(
        "steps",
        "Relative step",
        "blocks",
        rows,
        Axis("x"),
        Axis("step", scale="log"),
        low="low",
        high="high",
        tips={"tip": "Step"},
        caption=f"{GROUPS[-1].meaning} Band: {GROUPS[-1].band}.",
        width="wide",
    )


def _placed(record: TuneRecord) -> list[Block]:
    if record.placement is None:
        return []
    text = placement_text(record.placement, stack_labels(record.model))
    return [Heading("The placement", detail=True), Text(text)]
