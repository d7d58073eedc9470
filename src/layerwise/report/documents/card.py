"""A Layer Card: the advice, the stack, signals and costs by block, and what was measured."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from layerwise.card.columns import card_columns, signal_columns
from layerwise.card.record import LayerCard, Measurement
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
_ENDS = ("low", "high")

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
    adapted, rows = _adapted(card, placement), card.layers
    columns = [c for c in card_columns() if any(c.value(row) is not None for row in rows)]
    blocks: list[Block] = [
        _verdict(card),
        *_stack(card, placement, adapted),
        *_performance(card, adapted),
        Heading("The measurement", detail=True),
        _figures(card),
        *_charts(card, placement, columns, adapted),
        Heading("Block by block"),
        _table(card, columns, adapted),
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


def _improved(measured: Measurement) -> Column:
    gained = "Fall of loss" if measured.quality == "loss" else f"Gain of {shown(measured.quality)}"
    return Column(
        "improvement", gained, low="low", high="high", band="95 % interval", importance=90
    )


def _measured_text(card: LayerCard, measured: Measurement) -> str:
    """Return what was fine-tuned for how long, and on which text."""
    blocks, seeds = counted(measured.size, "block"), counted(measured.seeds, "seed")
    text = "the examples that this card was made with"
    if measured.data_sha256 != card.data.sha256:  # Another part of a file is another text.
        name = shown(measured.data_source or "a text", limit=100)
        text = f"{name} (SHA-256 {shown(measured.data_sha256)[:12]}…)"
    tuned = f"{blocks} at rank {measured.rank}, {measured.steps:,} steps, {seeds}"
    return f"{tuned}: {shown(measured.objective)} on {text}"


# --- Table ------------------------------------------------------------------------------------


def _table(card: LayerCard, columns: Sequence[Column], adapted: frozenset[int]) -> Table:
    labels = stack_labels(card.model)
    starts = [n for n, layer in enumerate(card.layers) if layer.index == 0]
    # A name that only repeats stack and index is no news.
    named = any(layer.name != f"{layer.stack}.{layer.index}" for layer in card.layers)
    return Table(
        "blocks",
        [_BLOCK, *columns, *([_MODULE] if named else [])],
        card.layers,
        marked=adapted,
        mark="adapted",
        groups={n: labels[card.layers[n].stack] for n in starts} if len(labels) > 1 else {},
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
    columns: Sequence[Column],
    adapted: frozenset[int],
) -> Iterator[Block]:
    yield Heading("Signals and costs by block", detail=True)
    about = "Blocks are counted from 0 at the input. Filled points are adapted, hollow ones frozen."
    yield Text(about, quiet=True)
    places = spots(card.model).values()
    rows = [_drawn(card, n, spot, columns) for n, spot in enumerate(places)]
    for number in adapted:
        rows[number] |= {"adapted": True, "head": f"{rows[number]['head']} · adapted"}
    names = list(stack_labels(card.model).values())
    signals = {column.key for column in signal_columns()}
    for column in columns:
        if column.key in signals:
            yield _signal(card, column, rows, names)
    if any(key in row for row in rows for key in _TIMES):
        yield _time(rows, [column for column in columns if column.key in _TIMES])
    yield from (_memory(c, rows, names) for c in columns if c.key == "activation_bytes")
    if any("step" in row for row in rows):
        yield _gain_by_cost(placement, rows, names)


def _drawn(
    card: LayerCard, number: int, spot: dict[str, Any], columns: Sequence[Column]
) -> dict[str, Any]:
    """Return what the charts draw of a block, and its numbers in words."""
    told, layer = {**spot, "adapted": False}, card.layers[number]
    for column in columns:
        value, ends = column.value(layer), column.interval(layer)
        if value is not None:
            key, unit = column.key, f" {column.unit}" if column.unit else ""
            tip = interval(value, *ends or (None, None))
            told |= {key: rounded(value), f"{key}_tip": tip + unit}
            told |= {f"{key}_{end}": rounded(v) for end, v in zip(_ENDS, ends or (), strict=False)}
    cost = placement_cost(card, range(number, len(card.layers))) if "gain" in told else None
    if cost is not None:
        tip = f"{percent(cost.step_ratio)} of all blocks"
        told |= {"step": rounded(cost.step_ratio), "step_tip": tip}
    return told


def _summary(card: LayerCard, column: Column) -> str:
    """Return a column's least and largest value with their blocks, for who does not see them."""
    values = {n: v for n, r in enumerate(card.layers) if (v := column.value(r)) is not None}
    style = number_style(values.values(), column)
    least, most = (end(values, key=values.__getitem__) for end in (min, max))
    told = [f"{style.alone(values[n])} at {_names(card, [n])}" for n in (least, most)]
    return f"{column.heading} from {told[0]} to {told[1]}."


def _signal(
    card: LayerCard, column: Column, rows: Sequence[dict[str, Any]], names: Sequence[str]
) -> Chart:
    banded = any(f"{column.key}_low" in row for row in rows)
    band = f" Band: {column.band}." if banded else ""
    return Chart(
        column.key.replace("_", "-"),
        column.title,
        "blocks",
        rows,
        Axis("x"),
        _axis(column),
        series="stack",
        names=names,
        filled="adapted",
        low=f"{column.key}_low" if banded else "",
        high=f"{column.key}_high" if banded else "",
        tips={f"{column.key}_tip": column.title},
        caption=f"{column.reads}{band}",
        summary=_summary(card, column),
        width="wide" if column.key == "residual_norm" else "half",
    )


def _axis(column: Column) -> Axis:
    return Axis(column.key, unit=column.unit, scale=_SCALES.get(column.key, "near"))


def _time(drawn: Sequence[dict[str, Any]], columns: Sequence[Column]) -> Chart:
    """Return a chart of each block's forward with its backward on it."""
    rows = []
    for row in drawn:
        top = 0.0
        for column in columns:
            low, top = top, rounded(top + row.get(column.key, 0.0))
            part = {"part": _part(column), "tip": row.get(f"{column.key}_tip", "")}
            rows.append({**row, **part, "low": low, "high": top})
    return Chart(
        "time",
        "Time per batch",
        "bars",
        rows,
        Axis("x"),
        Axis("high", unit="ms"),
        low="low",
        series="part",
        names=[_part(column) for column in columns],
        tips={"part": "Part", "tip": "Time"},
        caption="What a batch takes in each block.",
        height=150,
    )


def _part(column: Column) -> str:
    """Return what a part of the time is called beside the other."""
    return column.title.removesuffix(" time").lower()


def _memory(column: Column, rows: Sequence[dict[str, Any]], names: Sequence[str]) -> Chart:
    return Chart(
        "memory",
        column.title,
        "bars",
        rows,
        Axis("x"),
        _axis(column),
        series="stack",
        names=names,
        tips={"activation_bytes_tip": column.title},
        caption="Memory that a batch keeps for the backward pass.",
        height=150,
    )


def _gain_by_cost(
    placement: Placement | None, drawn: Sequence[dict[str, Any]], names: Sequence[str]
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


def _labelled(rows: Sequence[dict[str, Any]]) -> set[int]:
    """Return the few rows whose number is written beside their point: more would overlap."""
    every = range(len(rows))
    if len(rows) <= 12:
        return set(every)
    top = sorted(every, key=lambda n: -rows[n]["gain"])[:3]
    marked = [n for n in every if rows[n]["adapted"]]
    return {0, len(rows) - 1, top[0], *(marked if len(marked) <= 8 else top)}
