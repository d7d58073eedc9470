"""A card's page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from layerwise.card.columns import signal_columns
from layerwise.card.record import LayerCard, Measurement
from layerwise.placement.cost import placement_cost
from layerwise.placement.record import Placement
from layerwise.report.charts_card import charts
from layerwise.report.columns import Column, card_columns, column_named, number_style, quantity
from layerwise.report.drawing import PAGE
from layerwise.report.page import Cell, Grid, Made, figures, render
from layerwise.report.story_measure import gained
from layerwise.report.story_measured import (
    interval_text,
    measured_text,
    regime_cells,
    told_measured,
)
from layerwise.report.text import (
    adapted_rows,
    block_text,
    counted,
    headline,
    model_name,
    shown,
    stack_labels,
)

__all__ = ["card_html"]


def card_html(card: LayerCard, placement: Placement | None = None) -> bytes:
    """The report of `card` as one UTF-8 HTML file: advice, stack, charts, table, provenance.

    It works offline under a Content-Security-Policy that allows its own two scripts and style
    sheet by their hashes and nothing else. All text from the card is escaped.

    Args:
        card: What is reported.
        placement: Drawn on the stack and in the charts; without one, the card's advice is.

    Raises:
        PlacementError: The placement names a block that the card does not have.
    """
    specs = charts(card, placement, theme=PAGE)
    context = {
        "kind": "Layer Card",
        "card": card,
        "placement": placement,
        "figures": list(figures(specs, _captions(card)).values()),
        "made": _made(card),
        "measurements": _measurements(card, adapted_rows(card, placement)),
        **_story(card, placement),
        **_tables(card, placement),
    }
    return render("card.html.j2", specs, context)


def _captions(card: LayerCard) -> dict[str, tuple[str, str]]:
    """For each chart a spoken summary, where there is one, and how to read it."""
    keys = (column.key for column in signal_columns())
    captions = {key.replace("_", "-"): _column_caption(card, key) for key in keys}
    captions["time"] = ("", "What a batch takes in each block.")
    captions["memory"] = ("", "Memory that a batch keeps for the backward pass.")
    captions["cost-gain"] = ("", _COST_GAIN)
    return captions


_COST_GAIN = (
    "Each block's own gain against the price of a training step whose lowest adapter is that "
    "block: the lowest adapted block fixes how deep the backward pass must go."
)


def _column_caption(card: LayerCard, key: str) -> tuple[str, str]:
    """A spoken summary of a column's values, and how to read them."""
    column = column_named(key)
    values = {row: v for row, r in enumerate(card.layers) if (v := column.value(r)) is not None}
    if not values:
        return "", column.reads
    style = number_style(values.values())
    low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
    ends = [f"{style.alone(values[r])} at {block_text(card, [r])}" for r in (low, high)]
    banded = any(column.interval(row) for row in card.layers)
    reads = f"{column.reads} Band: {column.band}." if banded else column.reads
    return f"{column.heading} from {ends[0]} to {ends[1]}.", reads


def _story(card: LayerCard, placement: Placement | None) -> dict[str, Any]:
    """The opening of the page: names, advice, the stack and the key figures."""
    rows = adapted_rows(card, placement)
    return {
        "title": shown(model_name(card.model), limit=160),
        "headline": headline(card),
        "advised": block_text(card, card.advice.layers) if card.advice else "",
        "placed": block_text(card, rows),
        "costs": _costs(card, placement, rows),
        "stacks": _stacks(card, set(rows)),
        "facts": _facts(card),
        "data_line": _data_line(card),
    }


def _costs(
    card: LayerCard, placement: Placement | None, rows: Sequence[int]
) -> list[tuple[str, str, str]]:
    """What a step costs with the placement, else with the advice; empty without timings."""
    cost = placement.cost if placement else placement_cost(card, rows) if rows else None
    if cost is None:
        return []
    of = "of adapters on all blocks"
    return [
        ("Training step", _percent(cost.step_ratio), of),
        ("Backward pass", _percent(cost.backward_ratio), of),
        ("Saved activations", _percent(cost.activation_ratio), of),
    ]


def _percent(ratio: float) -> str:
    return f"{ratio:.0%}" if math.isfinite(ratio) else "–"


@dataclass(frozen=True)
class _DrawnStack:
    label: str
    about: str
    summary: str
    series: int
    cells: tuple[Cell, ...]


def _stacks(card: LayerCard, adapted: set[int]) -> list[_DrawnStack]:
    labels = stack_labels(card.model)
    drawn = []
    for number, stack in enumerate(card.model.stacks):
        rows = [row for row, layer in enumerate(card.layers) if layer.stack == stack.name]
        cells = tuple(Cell(card.layers[r].index, "on" if r in adapted else "") for r in rows)
        blocks = counted(stack.blocks, "block")
        about = f"{blocks} of {shown(stack.block_class)}, {stack.residual} residual"
        marked = [row for row in rows if row in adapted]
        summary = f"Adapted: {block_text(card, marked)}"
        drawn.append(_DrawnStack(labels[stack.name], about, summary, number % 6 + 1, cells))
    return drawn


def _data_line(card: LayerCard) -> str:
    data = card.data
    line = f"{data.examples:,} examples, {data.tokens:,} tokens, objective {shown(data.objective)}"
    if data.truncated:
        line += f", {data.truncated:,} cut at {data.max_length} tokens"
    if data.dropped:
        line += f", {data.dropped:,} left out"
    return line


def _facts(card: LayerCard) -> list[tuple[str, str, str]]:
    """Key figures: label, number, what it says."""
    capture, agreement = card.capture, card.agreement
    plain = quantity(capture.plain_step_seconds, "s")
    facts = [
        ("Parameters", quantity(card.model.parameters, ""), shown(card.model.architecture)),
        (
            "Pass",
            quantity(capture.seconds, "s"),
            f"a plain step of {capture.batch_size} examples: {plain}",
        ),
        (
            "Peak memory",
            quantity(capture.peak_memory_bytes, "B"),
            f"computed in {shown(capture.dtype)}",
        ),
    ]
    if agreement.bootstrap_spearman is not None:
        facts.append(
            (
                "Bootstrap agreement",
                f"{agreement.bootstrap_spearman:.2f}",
                "Spearman of the ranking with its resamples, median",
            )
        )
    if agreement.rank_stability is not None:
        facts.append(
            (
                "Rank stability",
                f"{agreement.rank_stability:.2f}",
                f"Spearman between adapter ranks 1, 4 and {capture.rank}, smallest",
            )
        )
    return facts


def _measurements(card: LayerCard, adapted: Sequence[int]) -> list[tuple[str, str, Grid]]:
    """What was fine-tuned, what the intervals are over, and the regimes, for each measurement."""
    found = []
    for number, measured in enumerate(told_measured(card), start=1):
        regimes = _regimes(card, measured, set(adapted), name=f"performance-{number}")
        found.append((measured_text(card, measured), interval_text(measured), regimes))
    return found


def _regimes(card: LayerCard, measured: Measurement, adapted: set[int], *, name: str) -> Grid:
    """A line a regime, marked where it has just the `adapted` blocks."""
    titles = (
        ("Improvement", gained(measured)),
        ("Of all blocks", "step time"),
        ("Step", ""),
        ("Peak memory", ""),
        ("Blocks", ""),
    )
    rows = [
        (shown(regime.name), set(regime.layers) == adapted, regime_cells(card, regime))
        for regime in measured.regimes
    ]
    return Grid(name, "Regime", titles, rows)


def _tables(card: LayerCard, placement: Placement | None) -> dict[str, Any]:
    rows = set(adapted_rows(card, placement))
    columns = [c for c in card_columns() if any(c.value(row) is not None for row in card.layers)]
    styles = [number_style([c.value(row) for row in card.layers]) for c in columns]
    labels = stack_labels(card.model)
    body = []
    for row, layer in enumerate(card.layers):
        cells = [_table_cell(c, s, layer) for c, s in zip(columns, styles, strict=True)]
        name = shown(layer.name, limit=60)
        body.append((labels[layer.stack], layer.index, name, row in rows, cells))
    units = [
        " ".join(filter(None, (s.suffix, c.unit))) for c, s in zip(columns, styles, strict=True)
    ]
    return {
        "columns": [(c.title, unit) for c, unit in zip(columns, units, strict=True)],
        "body": body,
        # A name that only repeats stack and index is no news.
        "modules": any(layer.name != f"{layer.stack}.{layer.index}" for layer in card.layers),
        "glossary": columns,
        "absent": [(shown(key), shown(why, limit=400)) for key, why in card.absent.items()],
    }


def _table_cell(column: Column, style: Any, layer: Any) -> tuple[str, str]:
    ends = column.interval(layer)
    between = f"{style.text(ends[0])}–{style.text(ends[1])}" if ends else ""
    return style.text(column.value(layer)), between


def _made(card: LayerCard) -> Made:
    model, data, capture = card.model, card.data, card.capture
    facts = [
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
    heading = "How this card was made"
    notes, hashes = capture.notes, model.files
    return Made.by(card.provenance, heading=heading, notes=notes, facts=facts, hashes=hashes)
