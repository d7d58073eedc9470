"""A measurement as the card's measured performance, by regime."""

from dataclasses import replace

from layerwise.card.record import LayerCard, MeasuredRegime, Measurement
from layerwise.measure.record import Measure
from layerwise.placement.compare import refuse_another_model
from layerwise.placement.rows import resolve_rows


def with_measured(card: LayerCard, measure: Measure) -> LayerCard:
    """Return `card` with what `measure` found, in place of what it had of the same budget and text.

    Random draws are left out: there is nothing to learn from where they fell.

    Raises:
        SchemaError: The measurement is of another model.
    """
    refuse_another_model(card.model, measure.model)
    new = _measured(card, measure)
    kept = [old for old in card.measured or () if _budget(old) != _budget(new)]
    return replace(card, measured=(*kept, new))


def _budget(measured: Measurement) -> tuple[object, ...]:
    """Return what two measurements must share for one to stand in the other's place."""
    text = measured.quality, measured.objective, measured.data_sha256
    return (*text, measured.size, measured.rank, measured.steps)


def _measured(card: LayerCard, measure: Measure) -> Measurement:
    ran = [(arm, arm.outcome) for arm in measure.arms if arm.kind != "random"]
    return Measurement(
        quality=measure.quality,
        objective=measure.data.objective,
        data_sha256=measure.data.sha256,
        size=measure.budget.layers,
        rank=measure.budget.rank,
        steps=measure.budget.steps,
        seeds=len(measure.seeds),
        regimes=tuple(
            MeasuredRegime(
                name=arm.name,
                layers=resolve_rows(card, arm.blocks),
                improvement=found.improvement,
                seconds_per_step=found.seconds_per_step,
                peak_memory_bytes=found.peak_memory_bytes,
                low=found.low,
                high=found.high,
                step_ratio=found.step_ratio,
                policy=arm.policy,
            )
            for arm, found in ran
            if found
        ),
        data_source=measure.data.source,
    )
