"""The data of a run: what is trained on, what is held out, and how examples become batches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from layerwise.data.batches import Batch, BatchSet
from layerwise.data.text import TextData
from layerwise.models.load import LoadedModel
from layerwise.objectives import Objective
from layerwise.objectives.forward import refuse_too_long
from layerwise.tuning.order import Forwards, held_out, order
from layerwise.tuning.record import TuneSettings

__all__ = ["Material", "gather"]

#: Examples that are looked through at a time, to see which have something to predict.
CHUNK = 64


@dataclass(frozen=True)
class Material:
    """What a run is fed.

    Attributes:
        data: What was read, less what has nothing to predict.
        batches: All of it as batches: its tokens, what was cut and what was dropped.
        train: What is trained on.
        held: What is held out; None without evaluation.
        batches_of: What the objective makes of some examples under a seed, as one batch.
        coupled: Whether a row's loss depends on the others of its batch.
    """

    data: TextData
    batches: BatchSet
    train: TextData
    held: TextData | None
    batches_of: Callable[[TextData, int], Sequence[Batch]]
    coupled: bool

    def forwards(self, settings: TuneSettings, *, steps: int, processes: int) -> Forwards:
        """Return the forwards of the first `steps` steps of a run.

        Raises:
            DataError: There are fewer examples than a batch holds.
        """
        count = steps * settings.accumulation * processes
        planned = order(
            len(self.train), batch_size=settings.batch_size, forwards=count, seed=settings.seed
        )
        return Forwards(self.train, planned, batches_of=self.batches_of, seed=settings.seed)

    def evaluation(self, settings: TuneSettings) -> Forwards | None:
        """Return the forwards of an evaluation: always the same ones."""
        if self.held is None:
            return None
        size, every = settings.batch_size, range(len(self.held))
        cut = [tuple(every[i : i + size]) for i in range(0, len(every), size)]
        if self.coupled and len(cut) > 1 and len(cut[-1]) < size:  # Too few to compare, maybe.
            cut[-2:] = [(*cut[-2], *cut[-1])]
        return Forwards(self.held, cut, batches_of=self.batches_of, seed=settings.seed)


def gather(
    loaded: LoadedModel, data: TextData, objective: Objective, settings: TuneSettings
) -> Material:
    """Return the data of a run.

    Raises:
        DataError: Nothing is left to train on.
        BadInputError: Texts are longer than the model's positions, or a batch is too small.
    """

    def made(some: TextData, seed: int, size: int) -> BatchSet:
        return objective.batches_for(
            loaded, some, batch_size=size, max_length=settings.max_length, seed=seed
        )

    batches = made(data, settings.seed, max(CHUNK, settings.batch_size))
    refuse_too_long(loaded.model, batches.batches)
    usable = sorted({int(i) for batch in batches.batches for i in batch.index})
    kept = replace(data, examples=tuple(data.examples[i] for i in usable))
    train, held = kept, None
    if settings.eval_examples:
        train, held = held_out(kept, examples=settings.eval_examples, seed=settings.seed)
    if objective.coupled:  # Too few texts to compare shall be said now, not at the first forward.
        for some in (train, held) if held else (train,):
            made(_first(some, settings.batch_size), settings.seed, settings.batch_size)
    return Material(
        data=kept,
        batches=batches,
        train=train,
        held=held,
        batches_of=lambda some, seed: made(some, seed, len(some)).batches,
        coupled=objective.coupled,
    )


def _first(data: TextData, count: int) -> TextData:
    return replace(data, examples=data.examples[:count])
