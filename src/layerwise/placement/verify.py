"""A placement injected into a model, and the modules that got an adapter held against its own."""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn

from layerwise.errors import VerificationError
from layerwise.models.heads import head_modules
from layerwise.models.meta import meta_copy
from layerwise.models.stack import BlockRef, all_refs, find_stacks
from layerwise.placement.exports.lora import peft_config
from layerwise.placement.exports.record import Export
from layerwise.placement.record import Coverage, PlacedBlock, Placement, Verification


def lora_config(placement: Placement) -> LoraConfig:
    """Return PEFT's configuration of `placement`; its pattern matches just these modules.

    Raises:
        PlacementError: The placement has no module.
    """
    return LoraConfig(**peft_config(placement))


def verify(
    placement: Placement, model: nn.Module, *, lora: Mapping[str, Any] | None = None
) -> Coverage:
    """Return which modules get an adapter when PEFT injects `placement` into `model`.

    The adapters stay in `model`: give a copy, such as one from `meta_copy` or a model that was
    never given weights.

    Args:
        placement: What is meant.
        model: What it is injected into.
        lora: The arguments of `LoraConfig` that a trainer makes of its export; those of
            `lora_config` where None.

    Raises:
        VerificationError: A module is not there or cannot be adapted, another one was adapted
            too, a module lies outside the placement's blocks, a block got none, or the adapters
            have other ranks or another number of parameters than the placement says.
        StackError: The model's blocks cannot be found.
    """
    refs = all_refs(find_stacks(model))
    _refuse_misplaced(placement, refs)
    _refuse_unknown(placement, model)
    config = lora_config(placement) if lora is None else LoraConfig(**lora)
    with _peft_faults(placement):
        inject_adapter_in_model(config, model)
    return _covered(placement, model, refs)


def kept_trained(export: Export, placement: Placement, model: nn.Module) -> Export:
    """Return `export` without the files whose trainer would train other weights than the blocks'.

    Raises:
        VerificationError: That is so for all of them.
    """
    if not export.trained:
        return export
    names = {name: weight.numel() for name, weight in model.named_parameters()}
    blocks = tuple(f"{block.stack}.{block.index}." for block in placement.blocks)
    meant = {name for name in names if name.startswith(blocks)}
    for file, pattern in export.trained.items():
        found = {name for name in names if re.search(pattern, name)}
        if found != meant:
            why = f"its trainer would also train, or miss, {_shown(sorted(found ^ meant))}"
            export = export.without(file, why=why)
    if not export.trained:
        msg = "weights to train that are not those of the blocks"
        raise VerificationError(msg, value="; ".join(export.notes), expected=", ".join(blocks))
    size = sum(names[name] for name in meant)
    note = f"{size:,} parameters in {len(meant)} tensors train, those of these blocks alone"
    return replace(export, notes=(note, *export.notes))


def apply(placement: Placement, model: nn.Module) -> PeftModel:
    """Return `model` with PEFT adapters on the placement's modules, checked on a copy first.

    As `peft.get_peft_model` does, this changes `model` itself; a placement that fails the check
    leaves it as it was. A head for classes trains beside the adapters and is saved with them:
    it may be new, and an adapter without it would be of no use.

    Raises:
        VerificationError: As for `verify`; or PEFT would take other modules for the head.
        StackError: The model's blocks cannot be found.
    """
    verify(placement, meta_copy(model))
    heads = head_modules(model)
    found = [name for name, _ in model.named_modules() if name.endswith(heads)]
    if set(found) != set(heads):
        msg = "modules that PEFT would take for the head"
        raise VerificationError(msg, value=_shown(found), expected=_shown(heads))
    config = lora_config(placement)
    config.modules_to_save = list(heads) or None
    config.base_model_name_or_path = None  # PEFT warns where it differs from the model's own name.
    with _peft_faults(placement):
        adapted = get_peft_model(model, config)
    adapted.active_peft_config.base_model_name_or_path = placement.model
    _refuse_difference(placement, adapted.get_base_model())
    return adapted


@contextmanager
def _peft_faults(placement: Placement) -> Iterator[None]:
    """PEFT's refusals as ours; its remarks on what needs no action are left out."""
    with warnings.catch_warnings():
        # It sets the flag for transposed weights (GPT-2) by itself, and says so.
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
        # It reads an attribute that transformers is renaming.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        try:
            yield
        except (ValueError, TypeError) as error:
            msg = f"PEFT cannot adapt these modules ({error})"
            endings = ", ".join(sorted({name.rpartition(".")[2] for name in placement.modules}))
            hint = "a card made with other --targets"
            raise VerificationError(msg, value=endings, hint=hint) from error


def _refuse_misplaced(placement: Placement, refs: Sequence[BlockRef]) -> None:
    """Every module lies in a placed block, and every placed block has a module."""
    names = {(ref.stack, ref.index): ref.name for ref in refs}
    placed = {block: names.get((block.stack, block.index)) for block in placement.blocks}
    absent = [f"{block.stack}.{block.index}" for block, name in placed.items() if name is None]
    inside = {b: [m for m in placement.modules if m.startswith(f"{n}.")] for b, n in placed.items()}
    bare = [f"{block.stack}.{block.index}" for block, found in inside.items() if not found]
    owned = {name for found in inside.values() for name in found}
    stray = [name for name in placement.modules if name not in owned]
    _raise_if(absent, what="blocks that the model does not have", placement=placement)
    _raise_if(bare, what="blocks without a module to adapt", placement=placement)
    _raise_if(stray, what="modules outside the placement's blocks", placement=placement)


def _refuse_unknown(placement: Placement, model: nn.Module) -> None:
    """Every module is there, has weights of its own to adapt, and has no adapter yet."""
    modules = dict(model.named_modules(remove_duplicate=False))
    parameters = {name for name, _ in model.named_parameters()}
    missing = [name for name in placement.modules if name not in modules]
    fused = [name for name in missing if name in parameters]
    adapted = [name for name, module in modules.items() if isinstance(module, LoraLayer)]
    _raise_if(fused, what="parameters, not modules (fused experts)", placement=placement)
    _raise_if(missing, what="modules that the model does not have", placement=placement)
    _raise_if(adapted, what="modules that have an adapter already", placement=placement)


def _raise_if(names: Sequence[str], *, what: str, placement: Placement) -> None:
    if names:
        msg = f"{len(names)} {what}"
        raise VerificationError(msg, value=_shown(names), expected=f"those of {placement.model}")


def _shown(names: Sequence[str]) -> str:
    """Return the first few of `names`."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _adapted(model: nn.Module) -> dict[str, LoraLayer]:
    """Return the modules that have an adapter, by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, LoraLayer)}


def _refuse_difference(placement: Placement, model: nn.Module) -> None:
    adapted = _adapted(model)
    missing = [name for name in placement.modules if name not in adapted]
    extra = [name for name in adapted if name not in set(placement.modules)]
    if missing or extra:
        parts = {"missing": missing, "extra": extra}
        shown = "; ".join(f"{k} {_shown(names)}" for k, names in parts.items() if names)
        msg = "adapters sit on other modules than those that were meant"
        raise VerificationError(
            msg, value=shown, expected=f"the {len(placement.modules)} modules of the placement"
        )


def _covered(placement: Placement, model: nn.Module, refs: Sequence[BlockRef]) -> Coverage:
    """Return what an injected `model` says, after it is held against `placement`."""
    _refuse_difference(placement, model)
    adapted = _adapted(model)
    for name, layer in adapted.items():
        (rank,), (scale,) = layer.r.values(), layer.scaling.values()
        expected = (placement.rank_of(name), placement.alpha / placement.rank)
        if (rank, scale) != expected:
            msg = f"rank and scale of the adapter on {name}"
            raise VerificationError(msg, value=(rank, scale), expected=f"{expected}")
    added = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if added != placement.adapter_parameters:
        msg = "parameters of the adapters"
        raise VerificationError(msg, value=added, expected=str(placement.adapter_parameters))
    starts = [f"{ref.name}." for ref in refs]
    inside = [[n.removeprefix(start) for n in adapted if n.startswith(start)] for start in starts]
    targets = tuple(dict.fromkeys(name for names in inside for name in names))
    return Coverage(
        blocks=tuple(PlacedBlock(ref.stack, ref.index) for ref in refs),
        targets=targets,
        matrix=tuple(tuple(target in names for target in targets) for names in inside),
        adapter_parameters=added,
        verified=Verification(expected=len(placement.modules), matched=len(adapted)),
    )
