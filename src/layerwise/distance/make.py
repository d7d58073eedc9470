"""A model, some text and objectives in; a `Distance` out."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict

from layerwise.capture.memory import peak_memory_bytes, reset_peak_memory
from layerwise.card.describe import data_info, model_info
from layerwise.data.batches import BatchSet
from layerwise.data.text import TextData
from layerwise.distance import metrics
from layerwise.distance.batches import Request
from layerwise.distance.moments import ObjectiveMoments
from layerwise.distance.record import (
    METRICS,
    Distance,
    DistanceSettings,
    HalfDistance,
    ObjectiveDistance,
)
from layerwise.distance.run import GradientTally, measure
from layerwise.errors import BadInputError, DataError, NonFiniteError
from layerwise.models.load import LoadedModel
from layerwise.objectives import Objective
from layerwise.progress import Progress, silent
from layerwise.provenance import collect

__all__ = ["distances", "make_distance"]

log = logging.getLogger(__name__)


def make_distance(
    loaded: LoadedModel,
    data: TextData,
    objectives: Sequence[Objective],
    *,
    batch_size: int = 32,
    max_length: int = 128,
    seed: int = 0,
    progress: Progress = silent,
) -> Distance:
    """Return how far the gradients of `objectives` lie from those of the first, the reference.

    Args:
        loaded: The model.
        data: The text.
        objectives: Two or more, as `layerwise.distance.choose` gives them.
        batch_size: Examples a batch; which texts meet matters to losses that compare them.
        max_length: Tokens an example is cut at.
        seed: Fixes the order of the examples, what objectives draw, dropout and the projections.
        progress: Hears how far the pass is.

    Raises:
        BadInputError: There are too few examples, or gradients that cannot be compared.
        NonFiniteError: A gradient is NaN or infinite.
        ModelError: The model does not tell its last hidden state from its head.
    """
    device = next(loaded.model.parameters()).device
    resettable = reset_peak_memory(device)
    start = time.perf_counter()
    request = Request(loaded, data, objectives, batch_size, max_length, seed)
    tally = measure(request, progress=progress)
    _refuse_few(tally, len(data))
    reference, names = objectives[0].name, [o.name for o in objectives]
    found = distances(tally.halves, names, reference=reference, seed=seed)
    notes = _notes(tally, width=_width(tally))
    for note in notes:
        log.warning("%s: %s", loaded.source, note)
    unsure = () if resettable else ("peak memory is of the whole process, not of the pass alone",)
    read = BatchSet((), tally.truncated, tally.left_out, tally.tokens)
    return Distance(
        model=model_info(loaded),
        data=data_info(data, read, objectives[0], max_length=max_length),
        reference=reference,
        settings=DistanceSettings(
            batch_size=batch_size,
            batches=tally.batches,
            width=_width(tally),
            seed=seed,
            dtype=str(loaded.model.dtype).removeprefix("torch."),
            shared=tuple(tally.shared),
            forwards=tally.forwards,
            seconds=time.perf_counter() - start,
            peak_memory_bytes=peak_memory_bytes(device),
        ),
        objectives=found,
        agreement=_agreement([o for o in found if o.name != reference]),
        provenance=collect(device=str(device)),
        notes=tuple(dict.fromkeys((*loaded.notes, *data.notes, *notes, *unsure))),
    )


def _refuse_few(tally: GradientTally, examples: int) -> None:
    """Raise where a half has no two rows.

    Raises:
        DataError: Too few examples could be used by every objective.
    """
    if any(not half.rows or min(r.count for r in half.rows.values()) < 2 for half in tally.halves):
        msg = "too few examples that every objective can use"
        left = f"{examples - tally.left_out} of {examples} ({_dropped(tally)})"
        expected = "some in each half of the batches"
        raise DataError(msg, value=left, expected=expected, hint="longer texts, or more")


def _width(tally: GradientTally) -> int:
    return len(next(iter(tally.halves[0].rows.values())).mean)


def _dropped(tally: GradientTally) -> str:
    """Return what the objectives left out, in words."""
    return ", ".join(f"{name} can make nothing of {n}" for name, n in tally.dropped.items() if n)


def _notes(tally: GradientTally, *, width: int) -> list[str]:
    """Return what was done otherwise than one may think, in words."""
    notes = list(tally.notes)
    if tally.left_out:
        told = f"{tally.left_out} examples were left out for all objectives"
        notes.append(f"{told}: {_dropped(tally)}")
    rows = sum(next(iter(half.rows.values())).count for half in tally.halves)
    if rows < 2 * width:
        notes.append(
            f"{rows} examples for {width} coordinates: Procrustes distances come out smaller than "
            "from many rows, so compare those of equally many"
        )
    return notes


def distances(
    halves: tuple[ObjectiveMoments, ObjectiveMoments],
    names: Sequence[str],
    *,
    reference: str,
    seed: int,
) -> tuple[ObjectiveDistance, ...]:
    """Return the numbers of each of `names` from the moments of both halves of the rows.

    Raises:
        BadInputError: Gradients cannot be compared; the message names the objective.
        NonFiniteError: They are too large to be compared.
    """
    parts = (halves[0].merge(halves[1]), *halves)
    found = []
    for name in names:
        with _named(name):
            whole, *split = (_numbers(p, name, reference=reference, seed=seed) for p in parts)
        found.append(ObjectiveDistance(name=name, halves=tuple(split), **asdict(whole)))
    return tuple(found)


@contextmanager
def _named(objective: str) -> Iterator[None]:
    """Inside, what cannot be compared is said to be of `objective`."""
    try:
        yield
    except (BadInputError, NonFiniteError) as error:
        msg, hint = f"{error.what}, under {objective}", "--objectives without it"
        raise type(error)(msg, value=error.value, expected=error.expected, hint=hint) from error


def _numbers(moments: ObjectiveMoments, name: str, *, reference: str, seed: int) -> HalfDistance:
    """Return what some rows say of one objective; the reference's distances are exactly 0."""
    own = moments.rows[name]
    found = dict.fromkeys(METRICS, 0.0)
    if name != reference:
        found = _compared(moments, name, reference=reference, seed=seed)
    return HalfDistance(
        rows=own.count,
        mean_norm=own.norms / own.count,
        coherence=metrics.coherence(own.mean, own.deviation),
        nonzero=own.nonzero / (own.count * len(own.mean)),
        **found,
    )


def _compared(
    moments: ObjectiveMoments, name: str, *, reference: str, seed: int
) -> dict[str, float]:
    """Return the distances of one objective from the reference."""
    first, second = moments.rows[reference], moments.rows[name]
    projected = {
        f"cosine_{width}": metrics.cosine(
            metrics.projected(first.mean, width=width, seed=seed),
            metrics.projected(second.mean, width=width, seed=seed),
        )
        for width in metrics.PROJECTED
    }
    return {
        "procrustes": moments.cross[name].result(),
        "cosine": metrics.cosine(first.mean, second.mean),
        "pearson": metrics.pearson(first.mean, second.mean),
        "fisher": metrics.cosine(first.mean_square, second.mean_square),
        **projected,
    }


def _agreement(objectives: Sequence[ObjectiveDistance]) -> dict[str, float]:
    """Return how alike the two halves rank the objectives, under each distance."""
    found = {}
    for metric in METRICS:
        first, second = ({o.name: getattr(o.halves[h], metric) for o in objectives} for h in (0, 1))
        value = metrics.agreement(first, second)
        if value is not None:
            found[metric] = value
    return found
