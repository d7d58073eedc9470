"""Adaptation depth: how many of the top blocks must train before more of them stop to matter."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import pandas as pd

from layerwise.capture.restore import weights_kept
from layerwise.card.record import DataInfo, ModelInfo
from layerwise.data.text import TextData
from layerwise.errors import BadInputError
from layerwise.measure.trial import train_rivals
from layerwise.models.load import LoadedModel
from layerwise.objectives import Objective
from layerwise.options.stages import TOLERANCE
from layerwise.progress import Progress, silent
from layerwise.provenance import Provenance, collect
from layerwise.records import JsonRecord
from layerwise.tuning.record import TuneRecord, TuneSettings
from layerwise.tuning.run import fine_tune

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rung:
    """The runs with `top` blocks unfrozen.

    Attributes:
        top: How many blocks trained, counted from the output; None for all weights.
        losses: The final loss of each seed, in the order of the ladder's seeds.
        loss: Their mean.
        trained: Parameters that trained.
    """

    top: int | None
    losses: tuple[float, ...]
    loss: float
    trained: int


@dataclass(frozen=True)
class Ladder(JsonRecord):
    """How the final loss falls as more of the top blocks train.

    Attributes:
        model: The model, which is as it was.
        data: What was trained on.
        settings: How each run was optimised; the seed is each run's own.
        seeds: One run a rung each.
        measured: What the losses are of: ``held-out`` examples, or ``training`` where none were.
        rungs: Fewest blocks first.
        full: All weights, at one learning rate.
        tolerance: Saturated is a loss of at most 1 + this times the full one's.
        saturation: The fewest top blocks that are saturated; None where no rung is.
        notes: What was done otherwise than asked.
    """

    SCHEMA = "layerwise/ladder/1"

    model: ModelInfo
    data: DataInfo
    settings: TuneSettings
    seeds: tuple[int, ...]
    measured: str
    rungs: tuple[Rung, ...]
    full: Rung
    tolerance: float
    saturation: int | None
    provenance: Provenance
    notes: tuple[str, ...] = ()

    def frame(self) -> pd.DataFrame:
        """Return a line a rung and seed: top (-1 for all weights), seed, loss, trained."""
        return pd.DataFrame(
            {
                "top": -1 if rung.top is None else rung.top,
                "seed": seed,
                "loss": loss,
                "trained": rung.trained,
            }
            for rung in (*self.rungs, self.full)
            for seed, loss in zip(self.seeds, rung.losses, strict=True)
        )


def default_tops(blocks: int) -> tuple[int, ...]:
    """Return 1, 2, 4 and so on up to `blocks`, which is there too.

    >>> default_tops(12)
    (1, 2, 4, 8, 12)
    """
    return (*(2**i for i in range(blocks.bit_length()) if 2**i < blocks), blocks)


def adaptation_depth(
    loaded: LoadedModel,
    data: TextData,
    objective: Objective,
    *,
    tops: Sequence[int] | None = None,
    settings: TuneSettings | None = None,
    seeds: Sequence[int] = (0,),
    tolerance: float = TOLERANCE,
    progress: Progress = silent,
) -> Ladder:
    """Return the final loss with the top m blocks of `loaded` unfrozen, and with all weights.

    Every rung starts from the same weights and sees the same batches, seed by seed; the head
    trains on every rung, embeddings on none but the full one. The model is as it was afterwards.
    Held-out examples, where there are any, give the loss.
    `tops` are the rungs, powers of two and all blocks where None (ours); each of the `seeds` gives
    one run a rung. A rung is saturated within `tolerance` of the full loss.

    Raises:
        BadInputError: A rung has more blocks than the model, or stands there twice.
        NonFiniteError: A run diverged.
    """
    settings = settings or TuneSettings(eval_examples=64)
    chosen = rungs_of(tops, loaded)
    settings = replace(settings, save_every=0, eval_every=0, track=None)

    def run(top: int | None, seed: int) -> TuneRecord:
        """Run one rung under one seed; the weights are put back."""
        condition, own = (
            "uniform" if top is None else "top-m",
            replace(settings, seed=seed, top=top),
        )
        with weights_kept(loaded.model):
            record = fine_tune(loaded, data, objective, condition=condition, settings=own).record
        log.info("top %s, seed %d: loss %.4g", top or "all", seed, _loss(record))
        return record

    title = "training the top blocks"
    runs = train_rivals((*chosen, None), seeds, run, title=title, progress=progress)
    rungs = []
    for top, by_seed in runs.items():
        losses = tuple(map(_loss, by_seed.values()))
        trained = sum(group.trained for group in by_seed[seeds[0]].groups)
        rungs.append(Rung(top, losses, fmean(losses), trained))
    full, first = rungs[-1], runs[None][seeds[0]]
    limit = full.loss + tolerance * abs(full.loss)
    return Ladder(
        model=first.model,
        data=first.data,
        settings=replace(first.settings, seed=seeds[0]),
        seeds=tuple(seeds),
        measured="held-out" if settings.eval_examples else "training",
        rungs=tuple(rungs[:-1]),
        full=full,
        tolerance=tolerance,
        saturation=next((rung.top for rung in rungs[:-1] if rung.loss <= limit), None),
        provenance=collect(device=first.provenance.device),
        notes=tuple(dict.fromkeys(note for made in runs.values() for note in made[seeds[0]].notes)),
    )


def _loss(record: TuneRecord) -> float:
    went = record.outcome
    return went.loss if went.eval_loss is None else went.eval_loss


def rungs_of(tops: Sequence[int] | None, loaded: LoadedModel) -> tuple[int, ...]:
    """Return the rungs of `loaded`'s ladder, fewest blocks first; the default ones where None.

    Raises:
        BadInputError: One is no number of blocks, or stands there twice, or there is none.
    """
    blocks = min(len(stack.blocks) for stack in loaded.stacks)
    if tops is None:
        return default_tops(blocks)
    odd = [top for top in tops if not 1 <= top <= blocks]
    if odd or not tops or len(set(tops)) < len(tops):
        msg = "rungs of the ladder"
        expected = f"different numbers of blocks from 1 to {blocks}"
        raise BadInputError(msg, value=", ".join(map(str, tops)), expected=expected)
    return tuple(sorted(tops))
