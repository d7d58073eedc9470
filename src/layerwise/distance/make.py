"""A model, some text and objectives in; a `Distance` out."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from layerwise.capture.memory import peak_memory_bytes, reset_peak_memory
from layerwise.card.describe import data_info, model_info
from layerwise.data.batches import BatchSet
from layerwise.data.text import TextData
from layerwise.distance import metrics
from layerwise.distance.batches import Request
from layerwise.distance.gradients import Entries
from layerwise.distance.moments import ObjectiveMoments
from layerwise.distance.record import (
    METRICS,
    Distance,
    DistanceSettings,
    HalfDistance,
    ObjectiveDistance,
)
from layerwise.distance.run import measure
from layerwise.errors import BadInputError, DataError, NonFiniteError
from layerwise.models.load import LoadedModel
from layerwise.models.quantisation import refuse_without_gradient
from layerwise.objectives import Objective
from layerwise.progress import Progress, silent
from layerwise.provenance import collect
from layerwise.signals.ranks import spearman

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

    There are two or more, as `layerwise.distance.choose` gives them. Which texts meet in a batch
    matters to losses that compare them. `seed` fixes the order of the examples, what objectives
    draw, dropout and the projections.

    Raises:
        BadInputError: There are too few examples, or gradients that cannot be compared.
        DataError: Too few examples can be used by every objective.
        NonFiniteError: A gradient is NaN or infinite.
        ModelError: The model does not tell its last hidden state from its head, or hands no
            gradient on.
    """
    refuse_without_gradient(loaded.model)
    device = loaded.device
    resettable = reset_peak_memory(device)
    start = time.perf_counter()
    request = Request(loaded, data, objectives, batch_size, max_length, seed)
    tally = measure(request, progress=progress)
    told = (f"{name} can make nothing of {n}" for name, n in tally.dropped.items() if n)
    left_out = ", ".join(told)
    counts = [r.count for half in tally.halves for r in half.rows.values()]
    if not all(half.rows for half in tally.halves) or min(counts) < 2:
        msg = "too few examples that every objective can use"
        left = f"{len(data) - tally.left_out} of {len(data)} ({left_out})"
        expected = "some in each half of the batches"
        raise DataError(msg, value=left, expected=expected, hint="longer texts, or more")
    reference, names = objectives[0].name, [o.name for o in objectives]
    found = distances(tally.halves, tally.entries, names, reference=reference, seed=seed)
    width = len(next(iter(tally.halves[0].rows.values())).mean)
    notes = list(tally.notes)
    if tally.left_out:
        notes.append(f"{tally.left_out} examples were left out for all objectives: {left_out}")
    if found[0].rows < 2 * width:
        notes.append(
            f"{found[0].rows} examples for {width} coordinates: Procrustes distances come out "
            "smaller than from many rows, so compare those of equally many"
        )
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
            width=width,
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


def distances(
    halves: tuple[ObjectiveMoments, ObjectiveMoments],
    entries: tuple[Entries, Entries],
    names: Sequence[str],
    *,
    reference: str,
    seed: int,
) -> tuple[ObjectiveDistance, ...]:
    """Return the numbers of each of `names` from moments and entries of both halves of the rows.

    Raises:
        BadInputError: Gradients cannot be compared; the message names the objective.
        NonFiniteError: They are too large to be compared.
    """
    parts = [(halves[0].merge(halves[1]), entries[0] + entries[1])]
    parts += zip(halves, entries, strict=True)
    found = []
    for name in names:
        try:
            whole, *split = (_numbers(*p, name, reference=reference, seed=seed) for p in parts)
        except (BadInputError, NonFiniteError) as error:
            msg, hint = f"{error.what}, under {name}", "--objectives without it"
            raise type(error)(msg, value=error.value, expected=error.expected, hint=hint) from error
        found.append(ObjectiveDistance(name=name, halves=tuple(split), **asdict(whole)))
    return tuple(found)


def _numbers(
    moments: ObjectiveMoments, entries: Entries, name: str, *, reference: str, seed: int
) -> HalfDistance:
    """Return what some rows say of one objective; the reference's distances are exactly 0."""
    own, first = moments.rows[name], moments.rows[reference]
    found = dict.fromkeys(METRICS, 0.0)
    if name != reference:
        found = {
            "procrustes": moments.cross[name].result(),
            "cosine": metrics.cosine(first.mean, own.mean),
            "pearson": metrics.pearson(first.mean, own.mean),
            "fisher": metrics.cosine(first.mean_square, own.mean_square),
        }
        for width in metrics.PROJECTED:
            pair = (metrics.projected(v, width=width, seed=seed) for v in (first.mean, own.mean))
            found[f"cosine_{width}"] = metrics.cosine(*pair)
    return HalfDistance(
        rows=own.count,
        mean_norm=own.norms / own.count,
        coherence=metrics.coherence(own.mean, own.deviation),
        nonzero=own.nonzero / (own.count * len(own.mean)),
        nonzero_tokens=entries[name, True] / (entries[name, True] + entries[name, False]),
        **found,
    )


def _agreement(objectives: Sequence[ObjectiveDistance]) -> dict[str, float]:
    """Return how alike the two halves rank the objectives, under each distance."""
    if len(objectives) < 2:
        return {}
    sides = {
        metric: [np.array([getattr(o.halves[half], metric) for o in objectives]) for half in (0, 1)]
        for metric in METRICS
    }
    return {metric: spearman(first, second) for metric, (first, second) in sides.items()}
