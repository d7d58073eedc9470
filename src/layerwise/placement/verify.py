"""A placement injected into a model, and the modules that got an adapter held against its own."""

import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn

from layerwise.errors import BadInputError, VerificationError
from layerwise.models.heads import head_modules
from layerwise.models.meta import meta_copy
from layerwise.models.parts import refuse_compiled_parts, unwrapped
from layerwise.models.stack import BlockRef, all_refs, find_stacks
from layerwise.objectives.forward import without_adapter
from layerwise.placement.exports.lora import peft_config
from layerwise.placement.exports.record import Export
from layerwise.placement.record import Coverage, PlacedBlock, Placement, Verification

_LOG = logging.getLogger(__name__)
#: The adapter of a placement; beside one of that name, numbered.
_NAME = "default"


def lora_config(placement: Placement) -> LoraConfig:
    """Return PEFT's configuration of `placement`; its pattern matches just these modules.

    Raises:
        PlacementError: The placement has no module, or trains blocks whole.
    """
    return LoraConfig(**peft_config(placement))


def verify(
    placement: Placement,
    model: nn.Module,
    *,
    lora: Mapping[str, Any] | None = None,
    adapter: str = _NAME,
) -> Coverage:
    """Return which modules get an adapter when PEFT injects `placement` into `model`.

    The adapters stay in `model`: give a copy, such as one from `meta_copy` or a model that was
    never given weights.

    Args:
        placement: What is meant.
        model: What it is injected into.
        lora: The arguments of `LoraConfig` that a trainer makes of its export; those of
            `lora_config` where None.
        adapter: What the adapter is called; those of other names are let be.

    Raises:
        VerificationError: A module is not there or cannot be adapted, another one was adapted
            too, a module lies outside the placement's blocks, a block got none, or the adapters
            have other ranks or another number of parameters than the placement says.
        StackError: The model's blocks cannot be found.
    """
    config = lora_config(placement) if lora is None else LoraConfig(**lora)
    refs = all_refs(find_stacks(model))
    _refuse_unfit(placement, model, refs, adapter)
    model.requires_grad_(requires_grad=False)  # What trains after is what was added.
    with _peft_faults(placement):
        inject_adapter_in_model(config, model, adapter_name=adapter)
    return _covered(placement, model, refs, adapter)


def verify_whole(
    placement: Placement, model: nn.Module, export: Export
) -> tuple[Placement, Export]:
    """Return `placement` with what of `model` it trains whole, and the files that say just that.

    Files whose trainer would train other weights than the blocks' are left out.

    Raises:
        VerificationError: That is so for all of them.
    """
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
    size, tensors = sum(names[name] for name in meant), len(meant)
    note = f"{size:,} parameters in {tensors} tensors train, those of these blocks alone"
    whole = replace(placement, whole_parameters=size, verified=Verification(tensors, tensors))
    return whole, replace(export, notes=(note, *export.notes))


def apply(placement: Placement, model: nn.Module) -> PeftModel:
    """Return `model` with PEFT adapters on the placement's modules, checked on a copy first.

    As `peft.get_peft_model` does, this changes `model` itself; a placement that fails the check
    leaves it as it was. A head for classes trains beside the adapters and is saved with them:
    it may be new, and an adapter without it would be of no use.

    Blocks are found by their stack, whatever stands around the model that the placement was made
    for: a model without a head, say, gets the adapters of one with a head, under its own names. Of
    one that was compiled, or is a replica, the model inside gets them and is what is returned. A
    model that has LoRA adapters keeps them, switched off, beside a new one, which is active.

    Raises:
        BadInputError: It is no model, or its blocks were compiled one by one.
        VerificationError: As for `verify`; or the model is of another architecture, or has adapters
            of another kind; or PEFT would take other modules for the head.
        StackError: The model's blocks cannot be found.
    """
    if not hasattr(model, "modules"):
        msg, expected = "no model", "a transformers PreTrainedModel, or a PeftModel of one"
        raise BadInputError(msg, value=type(model).__name__, expected=expected)
    plain = unwrapped(model)
    base, name = without_adapter(plain), _free_name(plain)
    refuse_compiled_parts(base, then="apply the placement")
    placement = _fitted(placement, base)
    verify(placement, meta_copy(base), adapter=name)
    _refuse_offloaded(placement, base)
    heads = head_modules(base)
    found = [name for name, _ in base.named_modules() if name.endswith(heads)]
    if set(found) != set(heads):
        msg = "modules that PEFT would take for the head"
        raise VerificationError(msg, value=_shown(found), expected=_shown(heads))
    config = lora_config(placement)
    config.modules_to_save = list(heads) or None
    config.base_model_name_or_path = None  # PEFT warns where it differs from the model's own name.
    with _peft_faults(placement):
        if isinstance(adapted := plain, PeftModel):
            adapted.add_adapter(name, config)
        else:
            adapted = get_peft_model(plain, config, adapter_name=name)
        adapted.set_adapter(name)  # What adapters there were no longer train.
    adapted.active_peft_config.base_model_name_or_path = placement.model
    _refuse_difference(placement, adapted.get_base_model(), name)
    if plain is not model:
        what = "the model inside got the adapters: compile or wrap again what apply returned"
        _LOG.warning("%s: %s", type(model).__name__, what)
    return adapted


def _free_name(model: nn.Module) -> str:
    """Return a name for a new adapter that none on `model` has.

    Raises:
        VerificationError: There are adapters of another kind than LoRA.
    """
    taken = dict(getattr(model, "peft_config", None) or {})
    kinds = {name: str(getattr(c.peft_type, "value", c.peft_type)) for name, c in taken.items()}
    odd = {f"{name} ({kind})" for name, kind in kinds.items() if kind != "LORA"}
    if odd:
        msg = "model with adapters of another kind"
        hint = "model.unload(), or model.merge_and_unload() to keep what they learned"
        raise VerificationError(msg, value=_shown(sorted(odd)), expected="LoRA or none", hint=hint)
    names = (f"{_NAME}{number or ''}" for number in (0, *range(2, len(taken) + 3)))
    name = next(name for name in names if name not in taken)
    if taken:
        _LOG.warning(
            "the model has adapters already, now switched off (%s): the placement's is called %s; "
            "model.set_adapter(NAME) goes from one to the other", ", ".join(taken), name,
        )  # fmt: skip
    return name


def _fitted(placement: Placement, model: nn.Module) -> Placement:
    """Return `placement` with the names that its stacks have in `model`.

    Raises:
        VerificationError: A stack of it is not in `model`, or could be several.
        StackError: The model's blocks cannot be found.
    """
    there = [stack.name for stack in find_stacks(model)]
    names = {block.stack: _stack_in(block.stack, there) for block in placement.blocks}
    if lost := [stack for stack, found in names.items() if len(found) != 1]:
        msg = "model of another architecture"
        value = f"{type(model).__name__}, blocks in {', '.join(there)}"
        expected = f"blocks in {_shown(lost)}, as in {placement.model}"
        raise VerificationError(msg, value=value, expected=expected, hint="a card of this model")
    renamed = {stack: found[0] for stack, found in names.items() if found[0] != stack}
    if not renamed:
        return placement
    for stack, found in renamed.items():
        told = "the placement's blocks in %s are those in %s here; the adapter is saved as such"
        _LOG.warning(told, stack, found)

    def own(name: str) -> str:
        stack = next((s for s in renamed if name.startswith(f"{s}.")), "")
        return renamed[stack] + name.removeprefix(stack) if stack else name

    return replace(
        placement,
        blocks=tuple(replace(b, stack=renamed.get(b.stack, b.stack)) for b in placement.blocks),
        modules=tuple(map(own, placement.modules)),
        ranks=placement.ranks and {own(name): rank for name, rank in placement.ranks.items()},
    )


def _stack_in(name: str, there: Sequence[str]) -> list[str]:
    """Return the stacks `there` that `name` may be: of that name, or less or more around it."""
    if name in there:
        return [name]
    return [s for s in there if f".{name}".endswith(f".{s}") or f".{s}".endswith(f".{name}")]


@contextmanager
def _peft_faults(placement: Placement) -> Iterator[None]:
    """PEFT's refusals as ours; its remarks on what needs no action are left out."""
    with warnings.catch_warnings():
        # It sets the flag for transposed weights (GPT-2) by itself, and says so.
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
        # It reads an attribute that transformers is renaming.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        # Of adapters that were there we say so ourselves.
        warnings.filterwarnings(
            "ignore", message="(Already found a `peft_config`|You are trying to)"
        )
        try:
            yield
        except (ValueError, TypeError) as error:
            msg = f"PEFT cannot adapt these modules ({error})"
            endings = ", ".join(sorted({name.rpartition(".")[2] for name in placement.modules}))
            hint = "a card made with other --targets"
            raise VerificationError(msg, value=endings, hint=hint) from error


def _refuse_offloaded(placement: Placement, model: nn.Module) -> None:
    """Refuse where weights come from disk as needed: PEFT would give adapters there no values."""
    if not hasattr(model, "hf_device_map"):
        return
    modules = ((name, model.get_submodule(name)) for name in placement.modules)
    away = [name for name, module in modules if any(p.is_meta for p in module.parameters())]
    if away:
        msg = f"{len(away)} modules whose weights are offloaded"
        hint = "a device_map that keeps these blocks, or other blocks"
        raise VerificationError(msg, value=_shown(away), expected="on a device", hint=hint)


def _refuse_unfit(
    placement: Placement, model: nn.Module, refs: Sequence[BlockRef], adapter: str
) -> None:
    """Every module is in a placed block, can be adapted, and is not; every placed block has one."""
    names = {(ref.stack, ref.index): ref.name for ref in refs}
    placed = {f"{b.stack}.{b.index}": names.get((b.stack, b.index)) for b in placement.blocks}
    inside = {b: [m for m in placement.modules if m.startswith(f"{n}.")] for b, n in placed.items()}
    owned = {name for found in inside.values() for name in found}
    modules = dict(model.named_modules(remove_duplicate=False))
    parameters = {name for name, _ in model.named_parameters()}
    missing = [name for name in placement.modules if name not in modules]
    faults = {
        "blocks that the model does not have": [b for b, name in placed.items() if name is None],
        "blocks without a module to adapt": [block for block, found in inside.items() if not found],
        "modules outside the placement's blocks": [m for m in placement.modules if m not in owned],
        "parameters, not modules (fused experts)": [m for m in missing if m in parameters],
        "modules that the model does not have": missing,
        "modules that have an adapter already": list(_adapted(model, adapter)),
    }
    for what, found in faults.items():
        if found:
            msg, expected = f"{len(found)} {what}", f"those of {placement.model}"
            raise VerificationError(msg, value=_shown(found), expected=expected)


def _shown(names: Sequence[str]) -> str:
    """Return the first few of `names`."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _adapted(model: nn.Module, adapter: str) -> dict[str, LoraLayer]:
    """Return the modules that have an adapter of that name, by their own."""
    layers = ((name, m) for name, m in model.named_modules() if isinstance(m, LoraLayer))
    return {name: layer for name, layer in layers if adapter in layer.r}


def _refuse_difference(placement: Placement, model: nn.Module, adapter: str) -> None:
    adapted = _adapted(model, adapter)
    missing = [name for name in placement.modules if name not in adapted]
    extra = [name for name in adapted if name not in set(placement.modules)]
    if missing or extra:
        parts = {"missing": missing, "extra": extra}
        shown = "; ".join(f"{k} {_shown(names)}" for k, names in parts.items() if names)
        msg = "adapters sit on other modules than those that were meant"
        raise VerificationError(
            msg, value=shown, expected=f"the {len(placement.modules)} modules of the placement"
        )


def _covered(
    placement: Placement, model: nn.Module, refs: Sequence[BlockRef], adapter: str
) -> Coverage:
    """Return what an injected `model` says, after it is held against `placement`."""
    _refuse_difference(placement, model, adapter)
    adapted = _adapted(model, adapter)
    for name, layer in adapted.items():
        rank, scale = layer.r[adapter], layer.scaling[adapter]
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
