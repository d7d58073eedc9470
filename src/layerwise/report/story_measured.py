"""What a card's measured performance says, in words: the same on a page and on a terminal."""

from layerwise.card.record import LayerCard, MeasuredRegime, Measurement
from layerwise.report.columns import quantity
from layerwise.report.story_measure import share_text, told_value
from layerwise.report.text import block_text, counted, shown

__all__ = ["interval_text", "measured_text", "regime_cells", "told_measured"]

#: Enough of a hash to tell two texts apart.
_HASH = 12


def told_measured(card: LayerCard) -> list[Measurement]:
    """The measurements of `card` that hold anything."""
    return [measured for measured in card.measured or () if measured.regimes]


def measured_text(card: LayerCard, measured: Measurement) -> str:
    """What was fine-tuned for how long, and on which text."""
    blocks, seeds = counted(measured.size, "block"), counted(measured.seeds, "seed")
    tuned = f"{blocks} at rank {measured.rank}, {measured.steps:,} steps, {seeds}"
    return f"{tuned}: {shown(measured.objective)} on {_source(card, measured)}"


def _source(card: LayerCard, measured: Measurement) -> str:
    """The text by its name and the start of its hash: another part of a file is another text."""
    if measured.data_sha256 == card.data.sha256:
        return "the examples that this card was made with"
    name = "a text" if measured.data_source is None else shown(measured.data_source, limit=100)
    return f"{name} (SHA-256 {shown(measured.data_sha256)[:_HASH]}…)"


def interval_text(measured: Measurement) -> str:
    """What the intervals are over."""
    if measured.seeds < 2:
        return "One seed has no interval."
    return f"Intervals (95 %) are over {measured.seeds} seeds."


def regime_cells(card: LayerCard, regime: MeasuredRegime) -> list[str]:
    """Improvement, step time beside that of all blocks, step time, peak memory, and blocks."""
    return [
        told_value(regime.improvement, regime.low, regime.high),
        share_text(regime.step_ratio),
        quantity(regime.seconds_per_step, "s"),
        quantity(regime.peak_memory_bytes, "B"),
        block_text(card, regime.layers),
    ]
