"""Layer Cards and placements, from what a user names."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerwise.api.named import enough_memory, loaded_model, text_data
from layerwise.capture import plan
from layerwise.card.make import make_card
from layerwise.card.record import LayerCard, StackInfo
from layerwise.data import TextData
from layerwise.errors import ModelError, PlacementError, SchemaError, VerificationError
from layerwise.models.head_kind import kind_of
from layerwise.models.load import LoadedModel, load_skeleton
from layerwise.objectives import labels_for, resolve
from layerwise.placement import TRAINERS
from layerwise.placement.advise import advise
from layerwise.placement.compare import USABLE, Comparison
from layerwise.placement.compare import compare as compare_cards
from layerwise.placement.exports.record import Export
from layerwise.placement.place import place as place_by
from layerwise.placement.record import PlacedBlock, Placement
from layerwise.placement.reference import Transfer, transferred
from layerwise.progress import Progress, silent
from layerwise.signals import select

if TYPE_CHECKING:
    from layerwise.placement.verify import Coverage

__all__ = [
    "apply",
    "card",
    "compare",
    "export",
    "lora_config",
    "place",
    "verify",
]


_LOG = logging.getLogger(__name__)


def card(  # noqa: PLR0913  # one keyword for each thing that a user may choose
    model: str | LoadedModel,
    data: str | TextData,
    *,
    examples: int | None = 64,
    objective: str = "auto",
    signals: Sequence[str] | None = None,
    rank: int = 8,
    targets: Sequence[str] | None = None,
    readout: str = "residual",
    exact_entropy: bool = False,
    batch_size: int = 8,
    max_length: int = 128,
    seed: int = 0,
    text_column: str | None = None,
    prompt_column: str | None = None,
    label_column: str | None = None,
    where: Sequence[str] = (),
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    progress: Progress = silent,
) -> LayerCard:
    """The Layer Card of `model` on `data`, with advice on where to place adapters.

    Args:
        model: A hub id, folder, GGUF file, PEFT adapter folder or ``demo``; or one loaded before.
        data: A file, folder, hub data set or ``demo``; or text read before.
        examples: How many examples to draw from `data`; None takes all.
        objective: The loss; ``auto`` takes the one that the model's head and the columns call for.
        signals: The columns to measure; all where None.
        rank: Rank of the simulated adapters.
        targets: Module names to adapt in each block; None for the architecture's usual ones.
        readout: Which tensor stands for a block's output: ``hf``, ``residual`` or ``normed``.
        exact_entropy: Take attention entropy from every query row, not from a sample.
        batch_size: Examples a batch; changes time and memory, not the numbers.
        max_length: Tokens that an example is cut at.
        seed: Fixes the examples, what an objective hides or pairs, a head that is added, the
            adapters' A, the sampled query rows and the bootstrap.
        text_column: The column that holds the text; found by its name where None.
        prompt_column: The column of what precedes the text, outside the loss.
        label_column: The column of the class.
        where: ``COLUMN=VALUE`` conditions on the rows that are read.
        device: ``auto``, ``cpu`` or ``cuda``.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        trust_remote_code: Whether code that a model's repository brings may run.
        progress: Hears how far the pass is.

    Raises:
        BadInputError: Something named cannot be used; the message says what to type.
        NonFiniteError: A loss, activation or gradient is NaN or infinite.
        LayerwiseError: The device ran out of memory.
    """
    wanted = select(signals)
    measured = plan(
        rank=rank, targets=targets, exact_entropy=exact_entropy, readout=readout, seed=seed
    )
    text = text_data(
        data,
        text_column=text_column,
        prompt_column=prompt_column,
        label_column=label_column,
        where=where,
        examples=examples,
        seed=seed,
    )
    loaded = loaded_model(
        model,
        device=device,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        labels=labels_for(objective, text) if isinstance(model, str) else None,
        seed=seed,
    )
    loss = resolve(objective, loaded=loaded, data=text)
    with enough_memory("a smaller --batch-size or --max-length"):
        made = make_card(
            loaded,
            text,
            loss,
            measured,
            signals=wanted,
            batch_size=batch_size,
            max_length=max_length,
            progress=progress,
        )
    return made.with_advice(advise(made))


def place(  # noqa: PLR0913  # likewise
    card: LayerCard,
    goal: str | None = None,
    *,
    layers: int | None = None,
    policy: str | None = None,
    blocks: str | Sequence[int | PlacedBlock] | None = None,
    stack: str | None = None,
    rank: int | None = None,
    alpha: int | None = None,
    ranks: str | Mapping[int | PlacedBlock, int] | None = None,
    reference: LayerCard | Path | str | None = None,
    seed: int = 0,
) -> Placement:
    """Adapters on some blocks of the model of `card`.

    Args:
        card: What was measured.
        goal: How long a step may take: ``quality``, ``balanced`` or ``cost``; None is ``quality``
            for the advised policy and no bound for a policy that is named.
        layers: How many blocks; None leaves it to the policy.
        policy: What chooses them; None takes the advised one.
        blocks: The blocks themselves, in place of a policy: indices, or ``"3,7,11"``.
        stack: The stack to stay in; any where None.
        rank: LoRA rank; the card's where None.
        alpha: LoRA alpha; twice the rank where None. Alpha over rank is the same in every block.
        ranks: The ranks of blocks that have another: by index or block, or ``"3=4,7=16"``.
        reference: Another card of the same model, or where it lies, on which `measure` compared
            placements: the policy is the one that did best there, as many blocks as it had.
        seed: Fixes what is random in a policy.

    Raises:
        UnknownNameError: There is no such policy, goal or stack.
        PlacementError: The blocks cannot be had; the message says why.
        SchemaError: The reference is of another model.
        BadInputError: The reference is too different, or has nothing measured.
    """
    note = None
    if reference is not None:
        _refuse_beside_reference(policy=policy, blocks=blocks)
        found = _by_reference(card, reference, layers=layers, goal=goal)
        policy, goal, note = found.policy, goal or found.goal, found.note
        layers = layers or found.layers
    placed = place_by(
        card,
        goal=goal,
        layers=layers,
        policy=policy,
        rows=blocks,
        stack=stack,
        rank=rank,
        alpha=alpha,
        ranks=ranks,
        seed=seed,
    )
    return placed if note is None else replace(placed, notes=(*placed.notes, note))


def _refuse_beside_reference(**chosen: object) -> None:
    """A reference leaves nothing to choose.

    Raises:
        PlacementError: A policy or the blocks are named too.
    """
    for name, value in chosen.items():
        if value is not None:
            msg = f"{name} beside a reference, which chooses them"
            raise PlacementError(msg, value=value, expected="one or the other")


def _by_reference(
    card: LayerCard,
    reference: LayerCard | Path | str,
    *,
    layers: int | None,
    goal: str | None,
) -> Transfer:
    """What did best on the reference, which may be named by where it lies."""
    other = reference if isinstance(reference, LayerCard) else LayerCard.load(Path(reference))
    found = transferred(card, other, layers=layers, goal=goal)
    _LOG.info("%s", found.note)
    return found


def verify(
    placed: Placement,
    card: LayerCard,
    *,
    model: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[Placement, "Coverage"]:
    """`placed`, marked as verified, and which modules PEFT adapted in a copy without weights.

    Args:
        placed: A placement from `card`.
        card: What it was made from.
        model: Where the card's model lies now; where it lay when the card was made if None.
        trust_remote_code: Whether code that the model's repository brings may run.

    Raises:
        ModelError: The model's configuration cannot be found, read or trusted.
        SchemaError: It is another model than the card's.
        VerificationError: Other modules were adapted than those of the placement.
    """
    return export(placed, card, model=model, trust_remote_code=trust_remote_code)[:2]


def export(
    placed: Placement,
    card: LayerCard,
    *,
    trainer: str = "peft",
    model: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[Placement, "Coverage", Export]:
    """`placed`, marked as verified; which modules PEFT adapted for `trainer`; and its files.

    Args:
        placed: A placement from `card`.
        card: What it was made from.
        trainer: Whose configuration is written: ``peft``, ``trl``, ``axolotl``, ``llamafactory``,
            ``ms-swift``, ``unsloth``, or ``freeze`` for lists of weights to train.
        model: Where the card's model lies now; where it lay when the card was made if None.
        trust_remote_code: Whether code that the model's repository brings may run.

    Raises:
        UnknownNameError: There is no such trainer.
        PlacementError: The trainer cannot express the placement; the message says what it can.
        ModelError: The model's configuration cannot be found, read or trusted.
        SchemaError: It is another model than the card's.
        VerificationError: Other modules were adapted than those of the placement.
    """
    from layerwise.placement import verify as checks

    made = TRAINERS[trainer].export(placed, card.model)
    skeleton = _matching_skeleton(card, model, trust_remote_code=trust_remote_code)
    made = checks.kept_trained(made, placed, skeleton.model)
    coverage = checks.verify(placed, checks.meta_copy(skeleton.model))
    try:
        checks.verify(placed, skeleton.model, lora=made.lora)
    except VerificationError as error:
        msg = f"modules that {trainer} cannot tell from others ({error.what})"
        hint = "--for peft, axolotl, llamafactory, ms-swift or unsloth"
        raise PlacementError(msg, value=error.value, hint=hint) from error
    return placed.with_verified(coverage.verified), coverage, made


def _matching_skeleton(
    card: LayerCard, model: str | None, *, trust_remote_code: bool
) -> LoadedModel:
    """The card's model without its weights, with the blocks that the card says."""
    skeleton = _skeleton(card, model, trust_remote_code=trust_remote_code)
    found = tuple(
        StackInfo(s.name, len(s.blocks), s.block_class, s.residual) for s in skeleton.stacks
    )
    if found != card.model.stacks:
        msg = "card of another model"
        expected = _blocks(card.model.stacks)
        raise SchemaError(msg, value=f"{skeleton.source} ({_blocks(found)})", expected=expected)
    return skeleton


def _skeleton(card: LayerCard, model: str | None, *, trust_remote_code: bool) -> LoadedModel:
    """The card's model without its weights; which classes its head is for does not matter."""
    labels = ("one", "other") if kind_of(card.model.architecture) == "classifier" else None
    revision = f"@{card.model.revision}" if card.model.revision else ""
    source = model or f"{card.model.source}{revision}"
    try:
        return load_skeleton(source, trust_remote_code=trust_remote_code, labels=labels)
    except ModelError as error:
        if model is not None or error.hint:
            raise
        hint = "--model MODEL, where it lies now"
        raise ModelError(error.what, value=source, expected=error.expected, hint=hint) from error


def _blocks(stacks: Sequence[StackInfo]) -> str:
    """A model's shape in words."""
    return ", ".join(f"{s.blocks} blocks {s.block_class} in {s.name}" for s in stacks)


def compare(*cards: LayerCard, threshold: float = USABLE) -> Comparison:
    """The rank agreement of the residual norms of each pair of `cards`.

    Args:
        cards: Two or more cards of one model.
        threshold: The agreement from which on one card may stand for the other.

    Raises:
        BadInputError: There are fewer than two cards, or one has no residual norms.
        SchemaError: A card is of another model than the first.
    """
    return compare_cards(cards, threshold=threshold)


def apply(placed: Placement, model: Any) -> Any:
    """What `placed.apply(model)` gives: a `PeftModel` with adapters on just these modules."""
    from layerwise.placement.verify import apply as applied

    return applied(placed, model)


def lora_config(placed: Placement) -> Any:
    """What `placed.lora_config()` gives: a `peft.LoraConfig`."""
    from layerwise.placement.verify import lora_config as config

    return config(placed)
