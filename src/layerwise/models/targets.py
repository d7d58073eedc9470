"""The modules that an adapter can sit on, and which of them are meant by a list of names."""

import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from transformers import PreTrainedModel

from layerwise.compat.peft import converted_names, unreadable_names
from layerwise.errors import PlacementError, UnknownNameError, one_line
from layerwise.models.linear import Widths, packed_modules, widths
from layerwise.models.meta import meta_copy
from layerwise.models.stack import Stack, all_refs, is_norm

ALL_LINEAR = "all-linear"
_LOG = logging.getLogger(__name__)

# The `lora` condition of arXiv 2604.17177. Models that build their blocks alike share a row.
_TABLE: Mapping[str, tuple[str, ...]] = {
    "bert": ("query", "key", "value", "dense"),
    "gpt2": ("c_attn", "c_proj", "c_fc"),
    "opt": ("q_proj", "k_proj", "v_proj", "out_proj"),
    "gpt_neox": ("query_key_value", "dense"),
    "codegen": ("qkv_proj", "out_proj", "fc_in", "fc_out"),
    "mamba": ("in_proj", "x_proj"),  # The published row has dt_proj too: see `_BARE`.
    "rwkv": ("key", "value", "receptance", "output"),
}
_MIXER = re.compile(r"att(n|ention)|mixer|mamba|recurrent", re.IGNORECASE)
# Weights that are multiplied with, or handed to a fused kernel, without calling their module: an
# adapter there would do nothing. Mamba 1's dt_proj always, the others' out_proj on a GPU (PEFT
# refuses it for the same reason).
_BARE = re.compile(
    r"(Mamba|FalconMamba|JambaMamba)Mixer\.dt_proj"
    r"|(Mamba2?|FalconMamba|Bamba|FalconH1|NemotronHMamba2|Zamba2Mamba)Mixer\.out_proj"
    r"|GraniteMoeHybridMambaLayer\.out_proj"
)
# What `torch.no_grad()` calls the function that it puts around another.
_UNDER_NO_GRAD = "decorate_context"
_EXPERTS = re.compile(r"(^|\.)experts(\.|$)")
# These see relative positions (DeBERTa), not tokens.
_POSITIONS = re.compile(r"(^|\.)pos_(key_|query_|q_)?proj$")


@dataclass(frozen=True)
class Target:
    """One module that an adapter can sit on.

    Attributes:
        name: Its qualified name.
        row: The position of its block among the blocks of all stacks.
        suffix: The part of the name by which it is chosen (``"q_proj"``, ``"attn.Wo"``).
        in_features: Width of its input.
        out_features: Width of its output.
        transposed: Whether the weight is stored as (in, out), as GPT-2's `Conv1D` does.
    """

    name: str
    row: int
    suffix: str
    in_features: int
    out_features: int
    transposed: bool = False


def unadaptable(model: nn.Module) -> dict[str, str]:
    """Return the quantised modules of `model` that PEFT has no adapter for, by name, and why.

    PEFT's own dispatch says so: of one module of each kind, on a copy without weights.
    """
    known, found = dict[tuple[type, type], str](), dict[str, str]()
    for name, module in packed_modules(model).items():
        kind = type(module), type(getattr(module, "weight", None))
        if kind not in known:
            known[kind] = _refusal(module)
        if known[kind]:
            found[name] = f"{kind[0].__name__} of {kind[1].__name__}: {known[kind]}"
    return found


def _refusal(module: nn.Module) -> str:
    """Return why PEFT makes no adapter of `module`; empty where it does."""
    from peft import LoraConfig, inject_adapter_in_model

    holder: Any = nn.Module()
    holder.tried = meta_copy(module)
    holder.is_loaded_in_4bit = holder.is_loaded_in_8bit = True  # What its dispatch goes by.
    holder.hf_device_map = {"": "meta"}  # There may be no parameter to see that from.
    try:
        with warnings.catch_warnings(action="ignore"):
            inject_adapter_in_model(LoraConfig(r=1, target_modules=["tried"]), holder)
    except (TypeError, ValueError, ImportError) as error:
        return one_line(error)
    return ""


def _walk(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module, Widths]]:
    """Yield the linear modules under `module`, not looking inside one (where PEFT has its own).

    Nothing is learned in a part whose forward is declared to run without gradients.
    """
    for name, child in module.named_children():
        path, shape = f"{prefix}{name}", widths(child)
        if shape is not None:
            is_bare = _BARE.fullmatch(f"{type(module).__name__}.{name}")
            if not is_bare and _maps_rows(child, shape):
                yield path, child, shape
        elif not (is_norm(child) or _is_gradless(child)):
            yield from _walk(child, f"{path}.")


def _is_gradless(module: nn.Module) -> bool:
    code = getattr(type(module).forward, "__code__", None)
    return getattr(code, "co_name", "") == _UNDER_NO_GRAD


def _maps_rows(module: nn.Module, shape: Widths) -> bool:
    """Return whether a model's own kind of linear module maps each row by its whole weight.

    One that has its rows in groups is told by what comes out, on the meta device.
    """
    kind = type(module)
    is_own = kind.__module__.startswith(("transformers.models.", "transformers_modules."))
    if not is_own or kind.forward is nn.Linear.forward:
        return True
    empty = {name: torch.empty_like(p, device="meta") for name, p in module.named_parameters()}
    dtype = next(iter(empty.values())).dtype
    try:
        row = torch.empty((1, 2, shape.in_features), device="meta", dtype=dtype)
        made = functional_call(module, empty, (row,))
        return isinstance(made, torch.Tensor) and tuple(made.shape) == (1, 2, shape.out_features)
    except (RuntimeError, TypeError):
        return False


def _taken_for_experts(model: nn.Module) -> frozenset[str]:
    """Return the names of modules that PEFT takes for those of experts in `model`."""
    types = {m.config.model_type for m in model.modules() if isinstance(m, PreTrainedModel)}
    return frozenset[str]().union(*map(converted_names, types))


def adaptable(model: nn.Module, stacks: Sequence[Stack]) -> tuple[Target, ...]:
    """Return every linear module inside a block that sees each token of its input.

    Left out are routed experts, which see only some tokens, projections of positions, a module
    that several blocks share, which belongs to no one depth, one whose weight is used without
    calling it, a quantised one that PEFT has no adapter for, those that it takes for experts, and
    those whose adapter it would not find again in the file that it saved.

    Raises:
        PlacementError: It would find none of a whole stack's.
    """
    found = []
    converted = _taken_for_experts(model)
    owners: dict[int, set[int]] = {}
    refused = unadaptable(model)
    for row, ref in enumerate(all_refs(stacks)):
        for path, module, shape in _walk(model.get_submodule(ref.name)):
            owners.setdefault(id(module), set()).add(row)
            full, suffix = f"{ref.name}.{path}", path.rpartition(".")[2]
            routed = _EXPERTS.search(path) or suffix in converted
            if not (routed or _POSITIONS.search(path) or full in refused):
                target = Target(full, row, suffix, *shape)
                found.append((target, id(module)))
    alone = [target for target, key in found if len(owners[key]) == 1]
    lost = unreadable_names(model, [target.name for target in alone])
    for stack in stacks if lost else ():
        inside = {t.name for t in alone if t.name.startswith(f"{stack.name}.")}
        if inside and inside <= lost:
            message = "stack whose adapters PEFT saves, but would not find again as it reads them"
            raise PlacementError(message, value=stack.name, expected="another version of PEFT")
    return tuple(target for target in alone if target.name not in lost)


def default_targets(model: nn.Module, stacks: Sequence[Stack]) -> tuple[str, ...]:
    """Return the names of the modules to adapt when the user names none.

    A row of the published table where every block has all of its names; otherwise the linear
    modules of the attention (or other token mixer), with as many parts of their name as it
    takes to mean these alone; in a block without one, all its linear modules.

    Source: arXiv 2604.17177, for the table.
    """
    refs = all_refs(stacks)
    rows: list[list[str]] = [[] for _ in refs]  # Names inside their block, block by block.
    for target in adaptable(model, stacks):
        rows[target.row].append(target.name.removeprefix(refs[target.row].name + "."))
    types = {m.config.model_type for m in model.modules() if isinstance(m, PreTrainedModel)}
    for kind in sorted(_TABLE, key=lambda kind: kind not in types):
        suffixes = _TABLE[kind]
        if rows and all(any(_matches(n, s) for n in names) for names in rows for s in suffixes):
            return suffixes
    return _structural(rows)


def _matches(name: str, suffix: str) -> bool:
    return name == suffix or name.endswith("." + suffix)


def _structural(rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
    wanted: set[str] = set()
    for names in rows:
        mixers = [n for n in names if _MIXER.search(n.rpartition(".")[0])]
        wanted |= set(mixers or names)
    others = {name for names in rows for name in names} - wanted
    return tuple(
        dict.fromkeys(_shortest(n, others) for names in rows for n in names if n in wanted)
    )


def _shortest(name: str, others: set[str]) -> str:
    """Return the fewest last parts of `name` that none of `others` ends in."""
    parts = name.split(".")
    tails = (".".join(parts[-k:]) for k in range(1, len(parts) + 1))
    return next((t for t in tails if not any(_matches(o, t) for o in others)), name)


def fused_experts(model: nn.Module, stacks: Sequence[Stack]) -> dict[str, int]:
    """Return the row of each three-dimensional parameter of experts, by qualified name."""
    return {
        f"{ref.name}.{name}": row
        for row, ref in enumerate(all_refs(stacks))
        for name, parameter in model.get_submodule(ref.name).named_parameters()
        if parameter.ndim == 3 and _EXPERTS.search(name)
    }


def resolve_targets(
    model: nn.Module, stacks: Sequence[Stack], wanted: Sequence[str] | None = None
) -> tuple[Target, ...]:
    """Return the modules that `wanted` means, in depth order.

    That are last parts of module names, compared as text; ``["all-linear"]`` for every adaptable
    module; None for `default_targets`.

    Raises:
        UnknownNameError: No block has a module of that name.
        PlacementError: The name is that of fused experts, or PEFT takes it for that, or nothing can
            be adapted at all.
    """
    known = adaptable(model, stacks)
    if not known:
        why = next(iter(unadaptable(model).values()), "")
        message = f"no linear module in any block{' that PEFT can adapt' if why else ''}"
        inside = (m for ref in all_refs(stacks) for m in model.get_submodule(ref.name).modules())
        kinds = {
            type(m).__name__ for m in inside if any(p.ndim > 1 for p in m.parameters(recurse=False))
        }
        held = f"{type(model).__name__}, with weights in {', '.join(sorted(kinds))}"
        raise PlacementError(message, value=why or held, expected="one to adapt")
    suffixes = default_targets(model, stacks) if wanted is None else tuple(wanted)
    if ALL_LINEAR in suffixes:
        return known
    experts = fused_experts(model, stacks)
    for suffix in suffixes:
        _check(suffix, model, known, experts)
    chosen = ((t, next((s for s in suffixes if _matches(t.name, s)), None)) for t in known)
    return tuple(replace(target, suffix=suffix) for target, suffix in chosen if suffix)


def _check(
    suffix: str, model: nn.Module, known: Sequence[Target], experts: Mapping[str, int]
) -> None:
    names = sorted({target.suffix for target in known})
    hint = "--targets " + ",".join(names)
    fused = any(_matches(n, suffix) or _matches(n.rpartition(".")[0], suffix) for n in experts)
    if any(_matches(target.name, suffix) for target in known):
        if fused:
            _LOG.warning("%s: the fused experts of that name are not adapted", suffix)
    elif suffix.rpartition(".")[2] in _taken_for_experts(model):
        message = "target that PEFT takes for the weights of fused experts, wherever it is"
        raise PlacementError(message, value=suffix, expected="another module", hint=hint)
    elif fused:
        message = "target is the weight of fused experts, which no adapter here can sit on"
        raise PlacementError(message, value=suffix, expected="a linear module", hint=hint)
    else:
        kind = "target"
        raise UnknownNameError(kind, value=suffix, known=names)


def is_bypassed(model: nn.Module, name: str) -> bool:
    """Tell if the weight of the module `name` is used without calling it: an adapter is in vain."""
    path, _, own = name.rpartition(".")
    return bool(_BARE.fullmatch(f"{type(model.get_submodule(path)).__name__}.{own}"))
