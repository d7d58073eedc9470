"""Layer Cards and placements, from what a user names."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from layerwise.api.named import SMALLER_BATCH, known_card, loaded_model, text_data
from layerwise.errors import ModelError, PlacementError, SchemaError, VerificationError
from layerwise.options.commands import (
    CardOptions,
    CheckOptions,
    CompareOptions,
    ExportOptions,
    PlaceOptions,
)
from layerwise.options.declaration import pick
from layerwise.options.groups import FittedBatches, Trust
from layerwise.options.signature import takes_options
from layerwise.progress import Progress, silent
from layerwise.resources import enough_memory

if TYPE_CHECKING:
    from layerwise.card.record import LayerCard, StackInfo
    from layerwise.models.load import LoadedModel
    from layerwise.placement.check.record import Check
    from layerwise.placement.compare import Comparison
    from layerwise.placement.exports.record import Export
    from layerwise.placement.record import Coverage, Placement

_LOG = logging.getLogger(__name__)


@takes_options
def card(
    model: Any,
    data: Any,
    *,
    tokenizer: Any = None,
    progress: Progress = silent,
    **options: Unpack[CardOptions],
) -> "LayerCard":
    """Return the Layer Card of `model` on `data`, with advice on where to place adapters.

    Args:
        model: A hub id, folder, GGUF file, PEFT adapter folder or ``demo``; or a model in hand,
            whose adapters, if it has some, stay on.
        data: A file, folder, hub data set or ``demo``; or strings, mappings, a data set, a frame or
            a loader of batches in hand; or text read before.
        tokenizer: That of a transformers model in hand; read from where the model was if None.
        progress: Hears how far the pass is.
        options: Those of `layerwise.options.commands.CardOptions`.

    Raises:
        BadInputError: Something named cannot be used; the message says what to type.
        NonFiniteError: A loss, activation or gradient is NaN or infinite.
        LayerwiseError: The device ran out of memory.
    """
    from layerwise.capture import plan
    from layerwise.card.make import make_card
    from layerwise.models.load import inside
    from layerwise.objectives import labels_for, resolve
    from layerwise.placement.advise import advise
    from layerwise.placement.coupling import coupling
    from layerwise.signals import select

    wanted = select(options["signals"])
    measured = plan(
        rank=options["rank"],
        targets=options["targets"],
        exact_entropy=options["exact_entropy"],
        readout=options["readout"],
        reading=options["residual"],
        seed=options["seed"],
    )
    text = text_data(data, options)
    labels = labels_for(options["objective"], text) if isinstance(model, str | Path) else None
    given = loaded_model(model, tokenizer, options, labels=labels)
    loaded = inside(given)
    if loaded is not given:
        is_on = any(getattr(m, "disable_adapters", None) is False for m in loaded.model.modules())
        note = f"the model has adapters, which were {'on' if is_on else 'off'} as it was measured"
        loaded = replace(loaded, notes=(*loaded.notes, note))
    loss = resolve(options["objective"], loaded=loaded, data=text)
    with enough_memory(SMALLER_BATCH):
        made = make_card(
            loaded,
            text,
            loss,
            measured,
            signals=wanted,
            progress=progress,
            **pick(FittedBatches, options),
        )
    advised = replace(made, advice=advise(made, available=text.available))
    return replace(advised, coupling=coupling(advised))


@takes_options
def place(
    card: "LayerCard | Path | str",
    goal: str | None = None,
    *,
    whole: bool = False,
    **options: Unpack[PlaceOptions],
) -> "Placement":
    """Return adapters on some blocks of the model of `card`, or such blocks to train `whole`.

    Args:
        card: What was measured, or the folder that it is in.
        goal: How long a step may take: ``quality``, ``balanced`` or ``cost``; None is ``quality``
            for the advised policy and no bound for a policy that is named.
        whole: Train the blocks themselves, without adapters: what ``--for freeze`` writes.
        options: Those of `layerwise.options.commands.PlaceOptions`.

    Raises:
        UnknownNameError: There is no such policy, goal or stack.
        PlacementError: The blocks cannot be had; the message says why.
        SchemaError: The reference is of another model.
        BadInputError: The reference is too different, or has nothing measured.
    """
    from layerwise.placement.measured import measured_note
    from layerwise.placement.place import choose
    from layerwise.placement.place import place as placed_by
    from layerwise.placement.reference import transferred
    from layerwise.placement.ski import InflectionSettings
    from layerwise.placement.stability import BY_EXAMPLES, stability, told

    card, reference, note = known_card(card), options.pop("reference"), None
    if reference is not None:
        for name in ("policy", "blocks"):
            if options[name] is not None:
                msg = f"{name} beside a reference, which chooses them"
                raise PlacementError(msg, value=options[name], expected="one or the other")
        found = transferred(card, known_card(reference), layers=options["layers"], goal=goal)
        goal, note = goal or found.goal, found.note
        options |= {"policy": found.policy, "layers": options["layers"] or found.layers}
        _LOG.info("%s", note)
    given: dict[str, Any] = {**options}
    names = ("alpha", "reach", "threshold")
    given["ski"] = InflectionSettings(*(given.pop(f"ski_{name}") for name in names))
    placed = placed_by(card, goal=goal, rows=given.pop("blocks"), whole=whole, **given)
    compared = measured_note(card, placed)
    if compared is not None:
        _LOG.info("%s", compared)
    sure = None
    if placed.policy in BY_EXAMPLES:
        asked: dict[str, Any] = {
            key: options[key] for key in ("policy", "layers", "stack", "rank", "seed")
        }

        def again(some: "LayerCard") -> Sequence[int]:
            return choose(some, goal=goal, whole=whole, ski=given["ski"], **asked).rows

        halves = stability(card, again(card), again=again)
        sure = told(card, halves, blocks=len(placed.blocks)) if halves else None
    said = (line for line in (sure, compared, note) if line is not None)
    return replace(placed, notes=(*placed.notes, *said))


@takes_options
def export(
    placed: "Placement", card: "LayerCard", **options: Unpack[ExportOptions]
) -> "tuple[Placement, Coverage | None, Export]":
    """Return `placed`, marked as verified; which modules PEFT adapted; and the trainer's files.

    No module is adapted where blocks train whole.

    Args:
        placed: A placement from `card`.
        card: What it was made from.
        options: Those of `layerwise.options.commands.ExportOptions`.

    Raises:
        PlacementError: The trainer cannot express the placement; the message says what it can.
        ModelError: The model's configuration cannot be found, read or trusted.
        SchemaError: It is another model than the card's.
        VerificationError: Other modules were adapted than those of the placement.
    """
    from layerwise.models.meta import meta_copy
    from layerwise.placement import TRAINERS
    from layerwise.placement import verify as checks

    trainer = options["trainer"]
    writer = TRAINERS[trainer]
    if writer.whole != placed.whole:
        kinds = {True: "whole blocks", False: "adapters"}
        msg = f"placement of {kinds[placed.whole]} for a trainer of {kinds[writer.whole]}"
        hint = f"layerwise.place(card, whole={writer.whole})"
        raise PlacementError(msg, value=trainer, expected=kinds[writer.whole], hint=hint)
    made = writer.export(placed, card.model)
    skeleton = _skeleton(card, options["model"], **pick(Trust, options))
    if placed.whole:
        placed, made = checks.verify_whole(placed, skeleton.model, made)
        return placed, None, made
    coverage = checks.verify(placed, meta_copy(skeleton.model))
    try:
        checks.verify(placed, skeleton.model, lora=made.lora)
    except VerificationError as error:
        msg = f"modules that {trainer} cannot tell from others ({error.what})"
        hint = "--for peft, axolotl, llamafactory, ms-swift or unsloth"
        raise PlacementError(msg, value=error.value, hint=hint) from error
    return replace(placed, verified=coverage.verified), coverage, made


def _skeleton(card: "LayerCard", model: str | None, **trust: bool) -> "LoadedModel":
    """Return the card's model without its weights, found to have the blocks that the card says."""
    from layerwise.card.record import StackInfo
    from layerwise.models.head_kind import kind_of
    from layerwise.models.load import load_skeleton

    # Which classes its head is for does not matter.
    labels = ("one", "other") if kind_of(card.model.architecture) == "classifier" else None
    revision = f"@{card.model.revision}" if card.model.revision else ""
    source = model or f"{card.model.source}{revision}"
    try:
        skeleton = load_skeleton(source, labels=labels, **trust)
    except ModelError as error:
        if model is not None or error.hint:
            raise
        hint = "--model MODEL, where it lies now"
        raise ModelError(error.what, value=source, expected=error.expected, hint=hint) from error
    found = tuple(
        StackInfo(s.name, len(s.blocks), s.block_class, s.residual) for s in skeleton.stacks
    )
    if found != card.model.stacks:
        msg = "card of another model"
        expected = _blocks(card.model.stacks)
        raise SchemaError(msg, value=f"{skeleton.source} ({_blocks(found)})", expected=expected)
    return skeleton


def _blocks(stacks: "Sequence[StackInfo]") -> str:
    """Return a model's shape in words."""
    return ", ".join(f"{s.blocks} blocks {s.block_class} in {s.name}" for s in stacks)


@takes_options
def compare(*cards: "LayerCard | Path | str", **options: Unpack[CompareOptions]) -> "Comparison":
    """Return the rank agreement of the residual norms of each pair of `cards`.

    Args:
        cards: Two or more cards of one model, or their folders.
        options: Those of `layerwise.options.commands.CompareOptions`.

    Raises:
        BadInputError: There are fewer than two cards, or one has no residual norms.
        SchemaError: A card is of another model than the first.
    """
    from layerwise.placement.compare import compare as compared

    return compared([known_card(card) for card in cards], threshold=options["threshold"])


@takes_options
def check(model: Any, config: Any, **options: Unpack[CheckOptions]) -> "Check":
    """Return what `config` really trains of `model`, and what of it does nothing or too much.

    PEFT is handed the config on a copy of the model without weights: nothing is loaded.

    Args:
        model: A hub id, folder, GGUF file, configuration (``.json``) or ``demo``; or a model in
            hand, which is not touched.
        config: A file or folder: PEFT's ``adapter_config.json``, a config of Axolotl,
            LLaMA-Factory, ms-swift or TRL, a script or notebook that calls ``LoraConfig`` or
            ``get_peft_model`` (it is read, not run). Or PEFT's configuration itself, or a mapping.
        options: Those of `layerwise.options.commands.CheckOptions`.

    Raises:
        BadInputError: The config cannot be read, or is of no trainer that is known.
        ModelError: The model's configuration cannot be found, read or trusted.
        StackError: It has no blocks that run one after another.
    """
    from layerwise.models.load import load_skeleton, skeleton_of
    from layerwise.placement.check.make import check as checked
    from layerwise.placement.check.reading import in_hand, read_config_file

    def build(classifier: bool) -> "LoadedModel":  # noqa: FBT001  # as `Build` is called
        if not isinstance(model, str | Path):
            return skeleton_of(model)
        made = load_skeleton(str(model), named=True, **pick(Trust, options))
        if classifier and made.kind != "classifier":  # Which classes these are does not matter.
            made = load_skeleton(str(model), labels=("one", "other"), **pick(Trust, options))
        return made

    named = isinstance(config, str | Path)
    file = read_config_file(Path(config)) if named else in_hand(config)
    return checked(build, file, fix=options["fix"])
