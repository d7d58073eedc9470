"""Rival placements measured, from what a user names."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerwise.api.named import SMALLER, enough_memory, loaded_model, text_data
from layerwise.card.record import LayerCard
from layerwise.data import TextData
from layerwise.objectives import labels_for, resolve
from layerwise.progress import Progress, silent
from layerwise.tuning.record import tune_settings

if TYPE_CHECKING:
    from layerwise.measure.record import Measure

__all__ = ["measure", "measured"]

#: Settings that a measurement decides itself, or that LoRA has no use for.
_OWN = frozenset(
    {
        "seed",
        "learning_rate",
        "log_every",
        "save_every",
        "eval_every",
        "eval_examples",
        "track",
        "decay",
        "top",
        "tau",
        "match_steps",
        "equal_step",
    }
)


def measure(  # noqa: PLR0913  # one keyword for each thing that a user may choose
    model: Any,
    data: str | TextData,
    *,
    card: LayerCard | Path | str | None = None,
    quality: str = "loss",
    layers: int | None = None,
    rank: int | None = None,
    arms: Sequence[str] | None = None,
    draws: int | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    ladder: Sequence[float] | None = None,
    eval_examples: int = 64,
    limit: int | None = None,
    tokenizer: Any = None,
    objective: str = "auto",
    examples: int | None = None,
    text_column: str | None = None,
    prompt_column: str | None = None,
    label_column: str | None = None,
    where: Sequence[str] = (),
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    kept: Path | str | None = None,
    progress: Progress = silent,
    **settings: Any,
) -> "Measure":
    """Rival placements of `model` fine-tuned on `data` at an equal budget, as a leaderboard.

    Every arm has adapters of the same number of parameters, makes the same steps on the same
    batches, and has chosen its learning rate from the same ladder, on text and a seed that score
    nobody. `all`, adapters of the full rank on all blocks, is larger: what the others keep of it
    is told.

    Args:
        model: A hub id, folder, GGUF file or ``demo``. Or a model in hand, which is after what it
            was before: a `LoadedModel` or a transformers model.
        data: A file, folder, hub data set or ``demo``; or text read before.
        card: The model's card, or where it lies; made on some of what trains where None.
        quality: What the improvement is in: ``loss``, ``accuracy``, ``exact-match``, ``bleu``,
            ``chrf``, ``rouge`` or ``harness:TASK``.
        layers: Blocks that a placement takes; a sixth of them where None.
        rank: LoRA rank on them; the card's where None.
        arms: What is compared, by name; everything where None. The card's recommendation always
            is.
        draws: Random placements; 5 where None.
        seeds: Of the trials that score.
        ladder: Learning rates that each arm chooses from; 2e-4, 6e-4 and 2e-3 where None.
        eval_examples: Examples that score, and as many others that the ladder goes by.
        limit: Examples of a harness task that are asked; None asks all.
        tokenizer: That of a transformers model in hand; read from where the model was if None.
        objective: The loss; ``auto`` takes the one that the model's head and the columns call for.
        examples: How many examples to draw from `data`; None takes all.
        text_column: The column that holds the text; found by its name where None.
        prompt_column: The column of what precedes the text, outside the loss.
        label_column: The column of the class.
        where: ``COLUMN=VALUE`` conditions on the rows that are read.
        seed: Fixes the examples, their split, the random draws and a head that is added.
        device: ``auto``, ``cpu`` or ``cuda``.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        trust_remote_code: Whether code that a model's repository brings may run.
        kept: A file that each trial goes into as it ends; those that it holds are not made again,
            so that a measurement that was cut short goes on where it was.
        progress: Hears how far the trials are.
        settings: Fields of `TuneSettings`: ``steps``, ``batch_size``, ``max_length`` and the rest.

    Raises:
        BadInputError: Something named cannot be used; the message says what to type.
        SchemaError: The card is of another model.
        NonFiniteError: The recommended placement diverged.
        LayerwiseError: The device ran out of memory.
    """
    from layerwise.measure.arms import DRAWS
    from layerwise.measure.quality import named_quality
    from layerwise.measure.run import LADDER, Protocol, run_measure

    chosen = tune_settings(settings, without=_OWN)
    known = _card(card)
    text = text_data(
        data,
        text_column=text_column,
        prompt_column=prompt_column,
        label_column=label_column,
        where=where,
        examples=examples,
        seed=seed,
    )
    labels = labels_for(objective, text)
    how: dict[str, Any] = {"device": device, "dtype": dtype, "labels": labels, "seed": seed}
    loaded = loaded_model(model, tokenizer, trust_remote_code=trust_remote_code, **how)
    loss = resolve(objective, loaded=loaded, data=text)
    better = named_quality(quality, loss, chosen, limit=limit)
    protocol = Protocol(
        layers=layers,
        rank=rank,
        draws=DRAWS if draws is None else draws,
        arms=None if arms is None else tuple(arms),
        seeds=tuple(seeds),
        ladder=LADDER if ladder is None else tuple(ladder),
        eval_examples=eval_examples,
        seed=seed,
    )
    with enough_memory(SMALLER):
        return run_measure(
            loaded,
            text,
            loss,
            chosen,
            protocol,
            card=known,
            quality=better,
            kept=None if kept is None else Path(kept),
            progress=progress,
        )


def _card(card: LayerCard | Path | str | None) -> LayerCard | None:
    """The card that a user names.

    Raises:
        SchemaError: There is none.
    """
    return LayerCard.load(Path(card)) if isinstance(card, Path | str) else card


def measured(card: LayerCard, made: "Measure") -> LayerCard:
    """`card` with what `made` found as its measured performance, by regime.

    Raises:
        SchemaError: The measurement is of another model.
    """
    from layerwise.measure.card_results import with_measured

    return with_measured(card, made)
