"""A Layer Card: the advice, the stack, signals and costs by block, and what was measured."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from layerwise.card.columns import COLUMNS
from layerwise.card.record import LayerCard, LayerRow, Measured
from layerwise.columns import Column
from layerwise.errors import PlacementError
from layerwise.placement.cost import placement_cost
from layerwise.placement.record import Placement
from layerwise.report.blocks import (
    Axis,
    Block,
    Chart,
    Document,
    Figure,
    Figures,
    Heading,
    Rule,
    Scale,
    Strip,
    Table,
    Text,
    Verdict,
)
from layerwise.report.documents.parts import (
    block_names,
    facts,
    glossary,
    made,
    model_name,
    noted,
    spots,
    stack_labels,
)
from layerwise.report.documents.placement import cost_figures, placement_text
from layerwise.report.numbers import counted, interval, number_style, percent, quantity, rounded
from layerwise.report.words import shown

__all__ = ["document"]

_BLOCK = Column("index", "Block", short="block", form="count")
_MODULE = Column("name", "Module", form="text", importance=-1)

#: Four span orders of magnitude by nature; the others are read on a linear scale only.
_SCALES: Mapping[str, Scale] = {
    "residual_norm": "log",
    "activation_energy": "log",
    "activation_gradient": "log",
    "gain": "log",
    "coherence": "share",
}
_TIMES = ("forward_seconds", "backward_seconds")
_COST_GAIN = (
    "Each block's own gain against the price of a training step whose lowest adapter is that "
    "block: the lowest adapted block fixes how deep the backward pass must go."
)
_COSTS = {
    "forward_seconds", "backward_seconds", "adapter_seconds", "activation_bytes",
    "adapter_parameters",
}  # fmt: skip

_REGIMES = (
    Column("name", "Regime", short="regime", form="text"),
    Column("step_ratio", "Of all blocks' step", short="of all", form="percent", importance=60),
    Column("seconds_per_step", "Step", unit="s", form="quantity", importance=50),
    Column(
        "peak_memory_bytes", "Peak memory", short="memory", unit="B", form="quantity", importance=40
    ),
    Column("blocks", "Blocks", short="blocks", form="text", importance=30),
)


def document(card: LayerCard, placement: Placement | None = None) -> Document:
    """Return what `card` says: advice, stack, performance, charts, table, provenance.

    Args:
        card: What is reported.
        placement: Drawn on the stack and in the charts; without one, the card's advice is.

    Raises:
        PlacementError: The placement names a block that the card does not have.
    """
    rows, adapted = _rows(card), _adapted(card, placement)
    columns = [c for c in COLUMNS if any(row.get(c.key) is not None for row in rows)]
    blocks: list[Block] = [
        _verdict(card),
        *_stack(card, placement, adapted),
        *_performance(card, adapted),
        Heading("The measurement", detail=True),
        _figures(card),
        *_charts(card, placement, rows, columns, adapted),
        Heading("Block by block"),
        _table(card, rows, adapted),
        *_absent(card),
        *glossary(columns),
        *noted(card.capture.notes),
        *_made(card),
    ]
    return Document("Layer Card", model_name(card.model), _subtitle(card), blocks)


def _subtitle(card: LayerCard) -> str:
    data = card.data
    line = f"measured on {shown(data.source, limit=160)} · {data.examples:,} examples, "
    line += f"{data.tokens:,} tokens, objective {shown(data.objective)}"
    line += f", {data.truncated:,} cut at {data.max_length} tokens" if data.truncated else ""
    return line + (f", {data.dropped:,} left out" if data.dropped else "")


def _verdict(card: LayerCard) -> Verdict:
    """Return the advice in one sentence, with what it rests on."""
    advice = card.advice
    if advice is None:
        return Verdict("This card carries no advice.")
    where, policy = _names(card, advice.layers), shown(advice.policy, limit=60)
    text, chosen = f"Adapt {where}.", f"Chosen by policy {policy}."
    if advice.verdict == "flat":
        text = "No block stands out: the intervals do not separate any two."
        wanted = f"If adapters are wanted all the same: {where}, by policy {policy}."
        chosen = wanted if advice.layers else chosen
    remedies = [shown(remedy, limit=400) for remedy in advice.remedies]
    return Verdict(text, [shown(advice.reason, limit=800), chosen], remedies)


def _names(card: LayerCard, rows: Sequence[int]) -> str:
    return block_names([card.layers[row] for row in rows], stack_labels(card.model))


def _adapted(card: LayerCard, placement: Placement | None) -> frozenset[int]:
    """Return the rows that `placement` adapts; without one, those that the card advises."""
    if placement is None:
        return frozenset(card.advice.layers if card.advice else ())
    rows = {(layer.stack, layer.index): row for row, layer in enumerate(card.layers)}
    for block in placement.blocks:
        if (block.stack, block.index) not in rows:
            msg = "placement has a block that the card does not"
            value = f"{block.stack}[{block.index}]"
            expected = f"a placement for {shown(card.model.source)}"
            raise PlacementError(msg, value=value, expected=expected)
    return frozenset(rows[block.stack, block.index] for block in placement.blocks)


def _rows(card: LayerCard) -> list[dict[str, Any]]:
    """Return the blocks' values, with both ends of each interval."""
    return [
        _row(layer, spot)
        for layer, spot in zip(card.layers, spots(card.model).values(), strict=True)
    ]


def _row(layer: LayerRow, spot: Mapping[str, Any]) -> dict[str, Any]:
    row = {**asdict(layer), **spot}
    centre, half = layer.attention_entropy, layer.attention_entropy_error
    if centre is not None and half is not None:
        row |= {"attention_entropy_low": centre - half, "attention_entropy_high": centre + half}
    return row


# --- Stack, figures, performance --------------------------------------------------------------


def _stack(
    card: LayerCard, placement: Placement | None, adapted: frozenset[int]
) -> Iterator[Block]:
    title = "Placement" if placement else "Advised placement"
    yield Heading(f"{title} on the stack", detail=True)
    if placement is not None:
        yield Text(placement_text(placement, stack_labels(card.model)))
        yield from (Text(shown(note, limit=400), quiet=True) for note in placement.notes)
    labels = stack_labels(card.model)
    for series, stack in enumerate(card.model.stacks):
        marked = [r for r in sorted(adapted) if card.layers[r].stack == stack.name]
        yield Strip(
            labels[stack.name],
            range(stack.blocks),
            on=frozenset(card.layers[row].index for row in marked),
            about=f"{counted(stack.blocks, 'block')} of {shown(stack.block_class)}, "
            f"{stack.residual} residual",
            summary=f"Adapted: {_names(card, marked)}",
            series=series,
        )
    yield Text("Filled: adapted. Empty: frozen.", quiet=True)
    cost = (
        placement.cost if placement else placement_cost(card, sorted(adapted)) if adapted else None
    )
    yield from [cost_figures(cost)] if cost else []


def _figures(card: LayerCard) -> Figures:
    capture, agreement = card.capture, card.agreement
    plain = quantity(capture.plain_step_seconds, "s")
    step = f"a plain step of {capture.batch_size} examples: {plain}"
    told = [
        Figure("Parameters", quantity(card.model.parameters), shown(card.model.architecture)),
        Figure("Pass", quantity(capture.seconds, "s"), step),
        Figure(
            "Peak memory",
            quantity(capture.peak_memory_bytes, "B"),
            f"computed in {shown(capture.dtype)}",
        ),
    ]
    if agreement.bootstrap_spearman is not None:
        about = "Spearman of the ranking with its resamples, median"
        told.append(Figure("Bootstrap agreement", f"{agreement.bootstrap_spearman:.2f}", about))
    if agreement.rank_stability is not None:
        about = f"Spearman between adapter ranks 1, 4 and {capture.rank}, smallest"
        told.append(Figure("Rank stability", f"{agreement.rank_stability:.2f}", about))
    return Figures(told)


def _performance(card: LayerCard, adapted: frozenset[int]) -> Iterator[Block]:
    """Yield what placements were found to do when they were fine-tuned."""
    found = [measured for measured in card.measured or () if measured.regimes]
    if not found:
        return
    yield Heading("Fine-tuned placements")
    about = "What adapters on these blocks improved, in as many steps; the best first."
    yield Text(about, quiet=True)
    for number, measured in enumerate(found, start=1):
        regimes = measured.regimes
        yield Heading(_measured_text(card, measured), 3)
        one = measured.seeds < 2
        over = (
            "One seed has no interval."
            if one
            else f"Intervals (95 %) are over {measured.seeds} seeds."
        )
        yield Table(
            f"performance-{number}",
            [_REGIMES[0], _improved(measured), *_REGIMES[1:]],
            [{**asdict(regime), "blocks": _names(card, regime.layers)} for regime in regimes],
            marked=frozenset(n for n, r in enumerate(regimes) if frozenset(r.layers) == adapted),
            mark="the blocks of this placement",
            caption=over,
        )


def _improved(measured: Measured) -> Column:
    gained = "Fall of loss" if measured.quality == "loss" else f"Gain of {shown(measured.quality)}"
    return Column(
        "improvement", gained, low="low", high="high", band="95 % interval", importance=90
    )


def _measured_text(card: LayerCard, measured: Measured) -> str:
    """Return what was fine-tuned for how long, and on which text."""
    blocks, seeds = counted(measured.size, "block"), counted(measured.seeds, "seed")
    text = "the examples that this card was made with"
    if measured.data_sha256 != card.data.sha256:  # Another part of a file is another text.
        name = shown(measured.data_source or "a text", limit=100)
        text = f"{name} (SHA-256 {shown(measured.data_sha256)[:12]}…)"
    tuned = f"{blocks} at rank {measured.rank}, {measured.steps:,} steps, {seeds}"
    return f"{tuned}: {shown(measured.objective)} on {text}"


# --- Table ------------------------------------------------------------------------------------


def _table(card: LayerCard, rows: Sequence[Mapping[str, Any]], adapted: frozenset[int]) -> Table:
    labels = stack_labels(card.model)
    starts = [n for n, layer in enumerate(card.layers) if layer.index == 0]
    groups = {n: labels[card.layers[n].stack] for n in starts} if len(labels) > 1 else {}
    # A name that only repeats stack and index is no news.
    named = any(layer.name != f"{layer.stack}.{layer.index}" for layer in card.layers)
    return Table(
        "blocks",
        [_BLOCK, *COLUMNS, *([_MODULE] if named else [])],
        rows,
        marked=adapted,
        mark="adapted",
        groups=groups,
        bar="residual_norm",
    )


def _absent(card: LayerCard) -> list[Block]:
    pairs = [(shown(key), shown(reason, limit=400)) for key, reason in card.absent.items()]
    return [Heading("Not measured"), facts(pairs)] if pairs else []


def _made(card: LayerCard) -> Iterator[Block]:
    model, data, capture = card.model, card.data, card.capture
    pairs = [
        ("Model", model.source),
        ("Revision", model.revision),
        ("Base model", model.base),
        ("Data", data.source),
        ("Data SHA-256", data.sha256),
        ("Columns", ", ".join(f"{k}: {v}" for k, v in data.columns.items())),
        ("Adapters", f"rank {capture.rank} on {', '.join(capture.targets)}"),
        ("Seed", capture.seed),
        ("Readout", capture.readout),
        ("Entropy rows", capture.entropy_rows or "all"),
        ("Gain", f"{capture.gram_examples} examples, relative damping {capture.damping:g}"),
        ("Bootstrap", f"{capture.bootstrap} resamples"),
    ]
    return made("How this card was made", card.provenance, pairs, files=model.files)


# --- Charts -----------------------------------------------------------------------------------


def _charts(
    card: LayerCard,
    placement: Placement | None,
    rows: Sequence[dict[str, Any]],
    columns: Sequence[Column],
    adapted: frozenset[int],
) -> Iterator[Block]:
    yield Heading("Signals and costs by block", detail=True)
    about = "Blocks are counted from 0 at the input. Filled points are adapted, hollow ones frozen."
    yield Text(about, quiet=True)
    drawn = [_drawn(card, row, columns, adapted, n) for n, row in enumerate(rows)]
    names = list(stack_labels(card.model).values())
    for column in columns:
        if column.key not in _COSTS:
            yield _signal(card, column, rows, drawn, names)
    if any(key in row for row in drawn for key in _TIMES):
        yield _time(drawn)
    if any(column.key == "activation_bytes" for column in columns):
        yield _memory(drawn, names)
    if any("step" in row for row in drawn):
        yield _gain_by_cost(placement, drawn, names)


def _drawn(
    card: LayerCard,
    row: Mapping[str, Any],
    columns: Sequence[Column],
    adapted: frozenset[int],
    number: int,
) -> dict[str, Any]:
    """Return what the charts draw of a block."""
    told = {key: row[key] for key in ("x", "index", "stack")} | {"adapted": number in adapted}
    told["head"] = row["head"] + (" · adapted" if number in adapted else "")
    for column in columns:
        value, low, high = (
            column.scaled(row.get(k)) for k in (column.key, column.low, column.high)
        )
        if value is not None:
            unit = f" {column.unit}" if column.unit else ""
            told[f"{column.key}_tip"] = interval(value, low, high) + unit
            told |= {column.key: rounded(value)}
            if low is not None and high is not None:
                told |= {column.low: rounded(low), column.high: rounded(high)}
    cost = placement_cost(card, range(number, len(card.layers))) if "gain" in told else None
    if cost is not None:
        told |= {
            "step": rounded(cost.step_ratio),
            "step_tip": f"{percent(cost.step_ratio)} of all blocks",
        }
    return told


def _summary(card: LayerCard, column: Column, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a column's least and largest value with their blocks, for who does not see them."""
    values = {
        n: v for n, row in enumerate(rows) if (v := column.scaled(row.get(column.key))) is not None
    }
    style = number_style(values.values(), column)
    low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
    ends = [f"{style.alone(values[n])} at {_names(card, [n])}" for n in (low, high)]
    return f"{column.heading} from {ends[0]} to {ends[1]}."


def _signal(
    card: LayerCard,
    column: Column,
    rows: Sequence[Mapping[str, Any]],
    drawn: Sequence[Mapping[str, Any]],
    names: Sequence[str],
) -> Chart:
    banded = any(row.get(column.low) is not None for row in rows)
    band = f" Band: {column.band}." if banded else ""
    return Chart(
        column.key.replace("_", "-"),
        column.title,
        "blocks",
        drawn,
        Axis("x"),
        _axis(column),
        series="stack",
        names=names,
        filled="adapted",
        low=column.low if banded else "",
        high=column.high if banded else "",
        tips={f"{column.key}_tip": column.title},
        caption=f"{column.reads}{band}",
        summary=_summary(card, column, rows),
        width="wide" if column.key == "residual_norm" else "half",
    )


def _axis(column: Column) -> Axis:
    return Axis(column.key, unit=column.unit, scale=_SCALES.get(column.key, "near"))


def _time(drawn: Sequence[Mapping[str, Any]]) -> Chart:
    """Return a chart of each block's forward with its backward on it."""
    forward, backward = (next(c for c in COLUMNS if c.key == key) for key in _TIMES)
    rows = []
    for row in drawn:
        bottom = 0.0
        for column in (forward, backward):
            top = bottom + row.get(column.key, 0.0)
            part = {"part": column.title.split(" ")[0].lower(), "low": bottom, "high": rounded(top)}
            rows.append({**row, **part})
            bottom = rounded(top)
    tips = {f"{column.key}_tip": column.title for column in (forward, backward)}
    return Chart(
        "time",
        "Time per batch",
        "bars",
        rows,
        Axis("x"),
        Axis("high", unit="ms"),
        low="low",
        series="part",
        names=("forward", "backward"),
        tips=tips,
        caption="What a batch takes in each block.",
        height=150,
    )


def _memory(drawn: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Chart:
    column = next(c for c in COLUMNS if c.key == "activation_bytes")
    return Chart(
        "memory",
        column.title,
        "bars",
        drawn,
        Axis("x"),
        _axis(column),
        series="stack",
        names=names,
        tips={"activation_bytes_tip": column.title},
        caption="Memory that a batch keeps for the backward pass.",
        height=150,
    )


def _gain_by_cost(
    placement: Placement | None, drawn: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> Chart:
    """Return a chart of each block's own gain against the price of reaching down to it."""
    told = [row for row in drawn if "step" in row]
    labelled = _labelled(told)
    cost = None if placement is None else placement.cost
    title = "Training step with adapters from the block up, relative to all blocks"
    return Chart(
        "cost-gain",
        "Coupled gain against cost",
        "scatter",
        [
            {**row, "label": str(row["index"]) if n in labelled else ""}
            for n, row in enumerate(told)
        ],
        Axis("step", title=title, form="percent"),
        Axis("gain", scale="log"),
        series="stack",
        names=names,
        filled="adapted",
        label="label",
        tips={"gain_tip": "Coupled gain", "step_tip": "Step from here up"},
        rules=[Rule(cost.step_ratio, "x", "this placement")] if cost else [],
        caption=_COST_GAIN,
        width="wide",
        height=220,
    )


def _labelled(rows: Sequence[Mapping[str, Any]]) -> set[int]:
    """Return the few rows whose number is written beside their point: more would overlap."""
    every = range(len(rows))
    if len(rows) <= 12:
        return set(every)
    top = sorted(every, key=lambda n: -rows[n]["gain"])[:3]
    marked = [n for n in every if rows[n]["adapted"]]
    return {0, len(rows) - 1, top[0], *(marked if len(marked) <= 8 else top)}
