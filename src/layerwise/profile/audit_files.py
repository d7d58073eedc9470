"""The audit of an adapter whose base is not to be had, from its own files."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import sqrt
from typing import Any

from peft.utils.other import get_pattern_key

from layerwise.card.record import ModelInfo, StackInfo
from layerwise.errors import ModelError
from layerwise.models.adapter_files import read_weights
from layerwise.models.adapter_starts import BESIDE
from layerwise.models.adapters import fitting, read_config
from layerwise.models.sources import Source, hashes
from layerwise.models.stack import Stack
from layerwise.profile.audit import audit_updates
from layerwise.profile.audit_record import Audit
from layerwise.profile.audit_update import Update, adapter_kinds, whole_modules, wide_array
from layerwise.provenance import collect
from layerwise.shapes import Tensor
from layerwise.tuning.adapters import start_notes

# More than any model has; a name in a file could ask for any number of blocks.
_MOST_BLOCKS = 10_000
# Variants of LoRA whose change of the weight is more than the product B A.
_VARIANTS = ("use_qalora", "use_bdlora", "arrow_config", "kasa_config")
# What the figures are worked out from.
_TYPES: Mapping[str, Any] = {
    "r": int,
    "lora_alpha": (int, float),
    "rank_pattern": dict,
    "alpha_pattern": dict,
}
_PART = re.compile(r"base_model\.model\.(.+)\.lora_(embedding_)?(A|B|magnitude_vector)(\.\w+)?")
_BLOCK = re.compile(r"(.*?)\.(\d+)\..*")
_OTHER = "its files alone do not tell how it changes the weight"


def audit_files(source: Source, *, why: str) -> Audit:
    """Return what the files of the LoRA adapter in `source` tell without its base.

    Unknown stay how large updates are beside weights, what they do to outputs, and how many blocks
    there are.

    Args:
        source: Where they lie.
        why: Why there is no base.

    Raises:
        ModelError: They cannot be read, or tell nothing: the adapter is no LoRA, say.
    """
    config, notes = read_config(source)
    weights = read_weights(source)
    parts, others = _parts(weights, config)
    odd = _untold(config)
    if not odd:
        _refuse_odd(config, parts, source)
    updates = (
        {} if odd else {n: u for n, p in parts.items() if (u := _update(n, p, config, source))}
    )
    if not updates:
        msg = f"adapter of which nothing can be told without its base ({why})"
        expected = "LoRA on a base that it left as it was"
        raise ModelError(msg, value=odd or _OTHER, expected=expected)
    stacks = _stacks(parts, source)
    audit = audit_updates(updates.items(), stacks, {})
    blocks = ", ".join(f"; {stack.name} has {len(stack.blocks)} blocks or more" for stack in stacks)
    untold = "how large it is beside the weights and what it does to outputs is not known"
    notes.insert(0, f"read from the adapter's files alone ({why}): {untold}{blocks}")
    if str(config.bias) != "none":
        notes.append("the adapter trained its base's biases too")
    if others:
        notes.append(f"{len(others)} other weights in its files are not looked into: {others[0]}")
    return replace(
        audit,
        kinds=adapter_kinds([config]),
        unread=dict.fromkeys((name for name in parts if name not in updates), _OTHER),
        saved_modules=whole_modules([config]),
        notes=(*notes, *audit.notes, *start_notes([config])),
        model=ModelInfo(
            source=source.name,
            architecture="unknown",
            parameters=sum(tensor.numel() for tensor in weights.values()),
            stacks=tuple(
                StackInfo(stack.name, len(stack.blocks), stack.block_class, stack.residual)
                for stack in stacks
            ),
            revision=source.revision,
            files=hashes(source),
            base=str(config.base_model_name_or_path or "") or None,
        ),
        provenance=collect(device="cpu"),
    )


def _parts(
    weights: Mapping[str, Tensor], config: Any
) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """Return the adapter's tensors by module and part, and the names of weights that are none.

    Modules that were trained whole, and biases of the base's, are in neither.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    whole, others = set(whole_modules([config])), list[str]()
    for key, tensor in weights.items():
        match = _PART.fullmatch(key)
        if match is not None:
            own = match[3] + (match[4] or "").removesuffix(".weight")
            parts.setdefault(match[1], {})[own] = tensor
        elif not (whole.intersection(key.split(".")) or key.endswith(".bias")):
            others.append(key)
    return parts, sorted(others)


def _untold(config: Any) -> str:
    """Return why an adapter's change of a weight is not the product of its factors; empty if so."""
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    if kind != "LORA":
        return kind
    start = str(config.init_lora_weights)
    if start.lower() not in BESIDE:
        return f"its start ({start}) changed its base's weights"
    return ", ".join(name for name in _VARIANTS if getattr(config, name, None))


def _refuse_odd(config: Any, parts: Mapping[str, Mapping[str, Tensor]], source: Source) -> None:
    """Pass settings and factors that figures can be worked out from.

    Raises:
        ModelError: A setting is of another type, or a module has one factor alone.
    """
    for name, kinds in _TYPES.items():
        value = getattr(config, name)
        held = value.values() if isinstance(value, dict) else ()
        if not (isinstance(value, kinds) and all(isinstance(v, int | float) for v in held)):
            msg = f"adapter whose {name} is {value!r}"
            raise ModelError(msg, value=source.name, expected="numbers, by module in a pattern")
    for name, part in parts.items():
        lost = next((half for half in "AB" if half not in part), None)
        if lost is not None:
            msg = f"adapter without the lora_{lost} of {name}"
            raise ModelError(msg, value=source.name, expected="both factors of each module")


def _update(name: str, held: Mapping[str, Tensor], config: Any, source: Source) -> Update | None:
    """Return what a module's tensors say that is added to its weight; None where they do not.

    Such are those of many experts side by side.

    Raises:
        ModelError: Its factors are none of one product.
    """
    down, up = held["A"], held["B"]
    if min(down.ndim, up.ndim) < 2 or up.shape[1] != down.shape[0]:
        shapes = f"{tuple(up.shape)} and {tuple(down.shape)}"
        msg, expected = f"adapter whose factors on {name} are {shapes}", "(out, r) and (r, in)"
        raise ModelError(msg, value=source.name, expected=expected)
    with fitting(source.name, "its base"):  # Keys of patterns are regular expressions.
        rank, alpha = (
            pattern.get(get_pattern_key(pattern, name), default)
            for pattern, default in (
                (config.rank_pattern, config.r), (config.alpha_pattern, config.lora_alpha),
            )
        )  # fmt: skip
    if rank != len(down):
        return None
    scale = alpha / (sqrt(rank) if config.use_rslora else rank)
    wide, narrow = (wide_array(t.flatten(1))[None] for t in (up, down))
    return Update(
        scale * wide, narrow, is_dora="magnitude_vector" in held, has_bias="B.bias" in held
    )


def _stacks(names: Iterable[str], source: Source) -> tuple[Stack, ...]:
    """Return the lists of blocks that the modules called `names` are in, as far as they say.

    Raises:
        ModelError: A block has a number that no model reaches.
    """
    depths: dict[str, int] = {}
    for match in filter(None, map(_BLOCK.fullmatch, names)):
        depths[match[1]] = max(depths.get(match[1], 0), int(match[2]) + 1)
    if max(depths.values(), default=0) > _MOST_BLOCKS:
        msg = f"adapter of a block with an unlikely number ({max(depths.values()) - 1})"
        raise ModelError(msg, value=source.name, expected=f"below {_MOST_BLOCKS}")
    return tuple(
        Stack(path, tuple(f"{path}.{i}" for i in range(depth)), "unknown class", "sequential")
        for path, depth in depths.items()
    )
