"""Rival placements measured, from what a user names."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from layerwise.api.named import SMALLER, enough_memory, loaded_model, text_data
from layerwise.options.commands import MeasureOptions
from layerwise.options.declaration import pick
from layerwise.options.groups import Batches, Steps
from layerwise.options.signature import takes_options
from layerwise.progress import Progress, silent

if TYPE_CHECKING:
    from layerwise.card.record import LayerCard
    from layerwise.data.text import TextData
    from layerwise.measure.record import Measure

__all__ = ["measure", "measured"]


@takes_options
def measure(
    model: Any,
    data: "str | TextData",
    *,
    tokenizer: Any = None,
    kept: Path | str | None = None,
    progress: Progress = silent,
    **options: Unpack[MeasureOptions],
) -> "Measure":
    """Fine-tune rival placements of `model` on `data` at an equal budget; return a leaderboard.

    Every arm has adapters of the same number of parameters, makes the same steps on the same
    batches, and has chosen its learning rate from the same ladder, on text and a seed that score
    nobody. `all`, adapters of the full rank on all blocks, is larger: what the others keep of it
    is told.

    Args:
        model: A hub id, folder, GGUF file or ``demo``. Or a model in hand, which is after what it
            was before: a `LoadedModel` or a transformers model.
        data: A file, folder, hub data set or ``demo``; or text read before.
        tokenizer: That of a transformers model in hand; read from where the model was if None.
        kept: A file that each trial goes into as it ends; those that it holds are not made again,
            so that a measurement that was cut short goes on where it was.
        progress: Hears how far the trials are.
        options: Those of `layerwise.options.commands.MeasureOptions`.

    Raises:
        BadInputError: Something named cannot be used; the message says what to type.
        SchemaError: The card is of another model.
        NonFiniteError: The recommended placement diverged.
        LayerwiseError: The device ran out of memory.
    """
    from layerwise.measure.quality import named_quality
    from layerwise.measure.run import Protocol, run_measure
    from layerwise.objectives import labels_for, resolve
    from layerwise.tuning.record import TuneSettings

    settings = TuneSettings(**pick(Batches, options), **pick(Steps, options))
    known = _card(options["card"])
    text = text_data(data, options)
    labels = labels_for(options["objective"], text)
    loaded = loaded_model(model, tokenizer, options, labels=labels)
    loss = resolve(options["objective"], loaded=loaded, data=text)
    better = named_quality(options["quality"], loss, settings, limit=options["limit"])
    arms = options["arms"]
    protocol = Protocol(
        layers=options["layers"],
        rank=options["rank"],
        draws=options["draws"],
        arms=None if arms is None else tuple(arms),
        seeds=tuple(options["seeds"]),
        ladder=tuple(options["ladder"]),
        eval_examples=options["eval_examples"],
        seed=options["seed"],
    )
    with enough_memory(SMALLER):
        return run_measure(
            loaded,
            text,
            loss,
            settings,
            protocol,
            card=known,
            quality=better,
            kept=None if kept is None else Path(kept),
            progress=progress,
        )


def _card(card: "LayerCard | Path | str | None") -> "LayerCard | None":
    """Return the card that a user names.

    Raises:
        SchemaError: There is none.
    """
    from layerwise.card.record import LayerCard

    return LayerCard.load(Path(card)) if isinstance(card, Path | str) else card


def measured(card: "LayerCard", made: "Measure") -> "LayerCard":
    """Return `card` with what `made` found as its measured performance, by regime.

    Raises:
        SchemaError: The measurement is of another model.
    """
    from layerwise.measure.card_results import with_measured

    return with_measured(card, made)
