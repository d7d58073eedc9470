"""A Layer Card: the advice, the stack, signals and costs by block, and what was measured."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from layerwise.card.columns import card_columns, signal_columns
from layerwise.card.record import LayerCard, Measurement
from layerwise.columns import Column
from layerwise.errors import PlacementError
from layerwise.placement.cost import placement_cost
from layerwise.placement.record import Placement
from layerwise.placement.stability import told
from layerwise.report import blocks as b
from layerwise.report.documents import parts
from layerwise.report.documents.conditioning import conditioning
from layerwise.report.documents.coupling import coupling
from layerwise.report.documents.placement import cost_figures, placement_text
from layerwise.report.numbers import counted, number_style, quantity
from layerwise.report.words import shown

_BLOCK = Column("index", "Block", short="block", form="count")
_MODULE = Column("name", "Module", form="text", importance=-1)

#: Four span orders of magnitude by nature; the others are read on a linear scale only.
_SCALES: Mapping[str, b.Scale] = {
    "residual_norm": "log",
    "activation_energy": "log",
    "activation_gradient": "log",
    "gain": "log",
    "coherence": "share",
}
_TOOK = (Column("part", "Part", form="text"), Column("took", "Time", unit="ms"))
_STEP = Column("step", "Step from here up", form="percent", unit="of all blocks")
_COST_GAIN = (
    "Each block's own gain against the price of a training step whose lowest adapter is that "
    "block: the lowest adapted block fixes how deep the backward pass must go."
)
_PRICE = "Training step with adapters from the block up, relative to all blocks"
_REGIMES = (
    Column("name", "Regime", short="regime", form="text"),
    Column("step_ratio", "Of all blocks' step", short="of all", form="percent", importance=60),
    Column("seconds_per_step", "Step", unit="s", form="quantity", importance=50),
    Column("peak_memory_bytes", "Peak memory", short="memory", unit="B", form="quantity",
           importance=40),
    Column("blocks", "Blocks", short="blocks", form="text", importance=30),
)  # fmt: skip


def document(card: LayerCard, placement: Placement | None = None) -> b.Document:
    """Return what `card` says: advice, stack, performance, charts, table, provenance.

    Args:
        card: What is reported.
        placement: Drawn on the stack and in the charts; without one, the card's advice is.

    Raises:
        PlacementError: The placement names a block that the card does not have.
    """
    adapted, rows = _adapted(card, placement), card.layers
    columns = [c for c in card_columns() if any(c.value(row) is not None for row in rows)]
    absent = ((shown(key), reason) for key, reason in card.absent.items())
    table = _table(card, columns, adapted, _done(placement))
    blocks: list[b.Block] = [
        _verdict(card),
        *_stack(card, placement, adapted),
        *_performance(card, adapted),
        b.Heading("The measurement", detail=True),
        _figures(card),
        *_charts(card, placement, columns, adapted),
        *conditioning(card),
        *(coupling(card, card.coupling) if card.coupling else ()),
        b.Heading("Block by block"),
        table,
        *parts.facts_under("Not measured", absent),
        *parts.glossary(table),
        *parts.noted(card.capture.notes),
        *_made(card),
    ]
    return b.Document("Layer Card", parts.model_name(card.model), _subtitle(card), blocks)


def _subtitle(card: LayerCard) -> str:
    data = card.data
    line = f"measured on {shown(data.source, limit=160)} · {data.examples:,} examples, "
    line += f"{data.tokens:,} tokens, objective {shown(data.objective)}"
    line += f", {data.truncated:,} cut at {data.max_length} tokens" if data.truncated else ""
    return line + (f", {data.dropped:,} left out" if data.dropped else "")


def _verdict(card: LayerCard) -> b.Verdict:
    """Return the advice in one sentence, with what it rests on."""
    advice = card.advice
    if advice is None:
        return b.Verdict("This card carries no advice.")
    where, policy = _names(card, advice.layers), shown(advice.policy, limit=60)
    text, chosen = f"Adapt {where}.", f"Chosen by policy {policy}."
    if advice.verdict == "flat":
        text = "No block stands out: the intervals do not separate any two."
        wanted = f"If adapters are wanted all the same: {where}, by policy {policy}."
        chosen = wanted if advice.layers else chosen
    remedies = [shown(remedy, limit=400) for remedy in advice.remedies]
    further = [shown(card.coupling.finding, limit=400)] if card.coupling else []
    if (sure := advice.stability) is not None:
        said = told(card, sure, blocks=len(advice.layers))
        further.insert(0, f"{said[0].upper()}{said[1:]}.")
    return b.Verdict(text, [shown(advice.reason, limit=800), chosen, *further], remedies)


def _done(placement: Placement | None) -> str:
    """Return what was done to the blocks that are drawn as placed."""
    return "trained whole" if placement is not None and placement.whole else "adapted"


def _names(card: LayerCard, rows: Sequence[int]) -> str:
    return parts.block_names([card.layers[row] for row in rows], parts.stack_labels(card.model))


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


def _stack(
    card: LayerCard, placement: Placement | None, adapted: frozenset[int]
) -> Iterator[b.Block]:
    labels = parts.stack_labels(card.model)
    whole, did = placement is not None and placement.whole, _done(placement)
    yield b.Heading("Placement on the stack" if placement else "Advised placement on the stack",
                    detail=True)  # fmt: skip
    if placement is not None:
        yield b.Text(placement_text(placement, labels))
        yield from (b.Text(shown(note, limit=400), quiet=True) for note in placement.notes)
    for series, stack in enumerate(card.model.stacks):
        marked = [r for r in sorted(adapted) if card.layers[r].stack == stack.name]
        shape = f"{counted(stack.blocks, 'block')} of {shown(stack.block_class)}"
        yield b.Strip(
            labels[stack.name],
            range(stack.blocks),
            on=frozenset(card.layers[row].index for row in marked),
            about=f"{shape}, {stack.residual} residual",
            summary=f"{did.capitalize()}: {_names(card, marked)}",
            series=series,
        )
    yield b.Text(f"Filled: {did}. Empty: frozen.", quiet=True)
    advised = placement_cost(card, sorted(adapted)) if adapted and not placement else None
    cost = placement.cost if placement else advised
    yield from [cost_figures(cost, whole=whole)] if cost else []


def _figures(card: LayerCard) -> b.Figures:
    capture, agreement = card.capture, card.agreement
    parameters, memory = quantity(card.model.parameters), quantity(capture.peak_memory_bytes, "B")
    plain = quantity(capture.plain_step_seconds, "s")
    step = f"a plain step of {capture.batch_size} examples: {plain}"
    figures = [
        ("Parameters", parameters, shown(card.model.architecture)),
        ("Pass", quantity(capture.seconds, "s"), step),
        ("Peak memory", memory, f"computed in {shown(capture.dtype)}"),
    ]
    if agreement.bootstrap_spearman is not None:
        about = "Spearman of the ranking with its resamples, median"
        figures.append(("Bootstrap agreement", f"{agreement.bootstrap_spearman:.2f}", about))
    if agreement.rank_stability is not None:
        about = f"Spearman between adapter ranks 1, 4 and {capture.rank}, smallest"
        figures.append(("Rank stability", f"{agreement.rank_stability:.2f}", about))
    return b.Figures(figures)


def _performance(card: LayerCard, adapted: frozenset[int]) -> Iterator[b.Block]:
    """Yield what placements were found to do when they were fine-tuned."""
    found = [measured for measured in card.measured or () if measured.regimes]
    if not found:
        return
    yield b.Heading("Fine-tuned placements")
    about = "What adapters on these blocks improved, in as many steps; the best first."
    yield b.Text(about, quiet=True)
    for number, measured in enumerate(found, start=1):
        regimes, seeds = measured.regimes, measured.seeds
        gained = parts.gained(measured.quality)
        improved = Column("improvement", gained, low="low", high="high", importance=90)
        over = f"Intervals (95 %) are over {seeds} seeds."
        yield b.Heading(_measured_text(card, measured), 3)
        if measured.finding:
            yield b.Text(shown(f"{measured.finding} {measured.reason or ''}", limit=800))
        for name, why in (measured.failed or {}).items():
            yield b.Text(f"{shown(name)} is left out: {shown(why, limit=200)}.", quiet=True)
        yield b.Table(
            f"performance-{number}",
            [_REGIMES[0], improved, *_REGIMES[1:]],
            [{**asdict(regime), "blocks": _names(card, regime.layers)} for regime in regimes],
            marked=frozenset(n for n, r in enumerate(regimes) if frozenset(r.layers) == adapted),
            mark="the blocks of this placement",
            caption=over if seeds > 1 else "One seed has no interval.",
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


def _table(
    card: LayerCard, columns: Sequence[Column], adapted: frozenset[int], done: str
) -> b.Table:
    labels = parts.stack_labels(card.model)
    starts = [n for n, layer in enumerate(card.layers) if layer.index == 0]
    # A name that only repeats stack and index is no news.
    named = any(layer.name != f"{layer.stack}.{layer.index}" for layer in card.layers)
    return b.Table(
        "blocks",
        [_BLOCK, *columns, *([_MODULE] if named else [])],
        card.layers,
        marked=adapted,
        mark=done,
        groups={n: labels[card.layers[n].stack] for n in starts} if len(labels) > 1 else {},
        bar="residual_norm",
    )


def _made(card: LayerCard) -> Iterator[b.Block]:
    model, data, capture = card.model, card.data, card.capture
    pairs = [
        ("Model", model.source),
        ("Revision", model.revision),
        ("Base model", model.base),
        ("Data", data.source),
        ("Data SHA-256", data.sha256),
        ("Columns", ", ".join(f"{k}: {v}" for k, v in data.columns.items())),
        ("Adapters", f"rank {capture.rank} on {', '.join(capture.targets)}"),
        ("Draws of A", capture.draws),
        ("Residual norm", capture.residual),
        ("Seed", capture.seed),
        ("Readout", capture.readout),
        ("Entropy rows", capture.entropy_rows or "all"),
        ("Gain", f"{capture.gram_examples} examples, relative damping {capture.damping:g}"),
        ("Bootstrap", f"{capture.bootstrap} resamples"),
    ]
    return parts.made("How this card was made", card.provenance, pairs, files=model.files)


def _charts(
    card: LayerCard, placement: Placement | None, columns: Sequence[Column], adapted: frozenset[int]
) -> Iterator[b.Block]:
    """Yield a chart a signal, what blocks cost, and what a block gains for that."""
    yield b.Heading("Signals and costs by block", detail=True)
    done = _done(placement)
    about = f"Blocks are counted from 0 at the input. Filled points are {done}, hollow ones frozen."
    yield b.Text(about, quiet=True)
    rows = _rows(card, columns, adapted, done)
    drawn = {c.key: _as_drawn(c) for c in columns}
    names = list(parts.stack_labels(card.model).values())
    stacks: dict[str, Any] = {"series": "stack", "names": names}
    for key in (column.key for column in signal_columns() if column.key in drawn):
        column = drawn[key]
        banded = any(column.low in row for row in rows)
        yield parts.by_block(
            key.replace("_", "-"), column, rows, scale=_SCALES.get(key, "near"), filled="adapted",
            caption=column.reads + (f" Band: {column.band}." if banded else ""),
            summary=_summary(card, column, rows), **stacks,
            width="wide" if key == "residual_norm" else "half",
        )  # fmt: skip
    times = [drawn[key] for key in ("forward_seconds", "backward_seconds") if key in drawn]
    if times:
        yield _time(rows, times)
    if memory := drawn.get("activation_bytes"):
        caption = "Memory that a batch keeps for the backward pass."
        yield parts.by_block(
            "memory", memory, rows, kind="bars", caption=caption, height=150, **stacks
        )
    told = [row for row in rows if "step" in row]
    if told:
        labelled, cost = _labelled(told), placement.cost if placement else None
        yield b.Chart(
            "cost-gain", "Coupled gain against cost", "scatter",
            [{**row, "label": str(row["index"]) if n in labelled else ""}
             for n, row in enumerate(told)],
            b.Axis("step", title=_PRICE, form="percent"), b.Axis("gain", scale="log"),
            filled="adapted", label="label", tips=[drawn["gain"], _STEP],
            rules=[b.Rule(cost.step_ratio, "x", "this placement")] if cost else [],
            caption=_COST_GAIN, width="wide", height=220, **stacks,
        )  # fmt: skip


def _as_drawn(column: Column) -> Column:
    """Return `column` of the rows that charts share, which have the numbers as they are shown."""
    low, high = f"{column.key}_low", f"{column.key}_high"
    return replace(column, factor=1.0, low=low, high=high, error="")


def _rows(
    card: LayerCard, columns: Sequence[Column], adapted: frozenset[int], done: str
) -> list[dict[str, Any]]:
    """Return what the charts draw of each block: it, and all from there up, where that is known."""
    rows, spots = [], parts.spots(card.model)  # Of stacks that text does not reach, too.
    for number, layer in enumerate(card.layers):
        row = {**spots[layer.stack, layer.index], "adapted": number in adapted}
        row["head"] += f" · {done}" if number in adapted else ""
        for column in columns:
            value, ends = column.value(layer), column.interval(layer)
            row |= {} if value is None else {column.key: value}
            if value is not None and ends:
                row |= {f"{column.key}_low": ends[0], f"{column.key}_high": ends[1]}
        cost = placement_cost(card, range(number, len(card.layers))) if "gain" in row else None
        rows.append(row if cost is None else {**row, "step": cost.step_ratio})
    return rows


def _summary(card: LayerCard, column: Column, rows: b.Rows) -> str:
    """Return a column's least and largest value with their blocks, for who does not see them."""
    values = {n: row[column.key] for n, row in enumerate(rows) if column.key in row}
    style = number_style(values.values(), column)
    least, most = (end(values, key=values.__getitem__) for end in (min, max))
    told = [f"{style.alone(values[n])} at {_names(card, [n])}" for n in (least, most)]
    return f"{column.heading} from {told[0]} to {told[1]}."


def _time(blocks: Sequence[dict[str, Any]], columns: Sequence[Column]) -> b.Chart:
    """Return a chart of each block's forward with its backward on it."""
    rows, names = [], [column.title.removesuffix(" time").lower() for column in columns]
    for row in blocks:
        top = 0.0
        for column, part in zip(columns, names, strict=True):
            low, top = top, top + row.get(column.key, 0.0)
            rows.append({**row, "part": part, "low": low, "high": top, "took": row.get(column.key)})
    return parts.by_block(
        "time", Column("high", "Time per batch", unit="ms"), rows, kind="bars", low="low",
        series="part", names=names, height=150, tips=_TOOK,
        caption="What a batch takes in each block.",
    )  # fmt: skip


def _labelled(rows: Sequence[dict[str, Any]]) -> set[int]:
    """Return the few rows whose number is written beside their point: more would overlap."""
    every = range(len(rows))
    if len(rows) <= 12:
        return set(every)
    top = sorted(every, key=lambda n: -rows[n]["gain"])[:3]
    marked = [n for n in every if rows[n]["adapted"]]
    return {0, len(rows) - 1, top[0], *(marked if len(marked) <= 8 else top)}
