"""A measurement as the card's measured performance, by regime."""

from dataclasses import replace

from layerwise.card.record import LayerCard, MeasuredRegime, Measurement
from layerwise.measure.leaderboard import headline
from layerwise.measure.record import Measure
from layerwise.placement.advise import advise_again
from layerwise.placement.compare import refuse_another_model
from layerwise.placement.rows import resolve_rows


def with_measured(card: LayerCard, measure: Measure) -> LayerCard:
    """Return `card` with what `measure` found, in place of what it had of the same budget and text.

    Its advice says so too.

    Raises:
        SchemaError: The measurement is of another model.
    """
    refuse_another_model(card.model, measure.model)
    new = _measured(card, measure)
    kept = [old for old in card.measured or () if _budget(old) != _budget(new)]
    card = replace(card, measured=(*kept, new))
    return replace(card, advice=advise_again(card))


def _budget(measured: Measurement) -> tuple[object, ...]:
    """Return what two measurements must share for one to stand in the other's place."""
    text = measured.quality, measured.objective, measured.data_sha256
    return (*text, measured.size, measured.rank, measured.steps)


def _measured(card: LayerCard, measure: Measure) -> Measurement:
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
            for arm in measure.arms
            if (found := arm.outcome)
        ),
        data_source=measure.data.source,
        verdict=measure.verdict if measure.against_random else None,
        finding=headline(measure),
        reason=measure.reason,
        failed={arm.name: arm.failed for arm in measure.arms if arm.failed} or None,
    )
