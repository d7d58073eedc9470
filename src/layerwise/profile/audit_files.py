"""The audit of an adapter whose base is not to be had, from its own files."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from math import isfinite, sqrt
from typing import Any

from peft.utils.other import get_pattern_key

from layerwise.card.record import ModelInfo, StackInfo
from layerwise.errors import ModelError
from layerwise.models.adapter_files import read_weights
from layerwise.models.adapter_starts import BESIDE
from layerwise.models.adapters import read_config
from layerwise.models.sources import Source, hashes
from layerwise.models.stack import Stack, blocks_of
from layerwise.profile.audit import audit_updates
from layerwise.profile.audit_record import Audit
from layerwise.profile.audit_update import (
    BIAS_NOTE,
    DORA_NOTE,
    Update,
    adapter_kinds,
    whole_modules,
    wide_array,
)
from layerwise.provenance import collect
from layerwise.shapes import Tensor
from layerwise.tuning.adapters import start_notes

# More than any model has; a name in a file could ask for any number of blocks.
_MOST_BLOCKS = 10_000
# Variants of LoRA whose change of the weight is more than the product B A.
_VARIANTS = ("use_qalora", "use_bdlora", "arrow_config", "kasa_config")
_PART = re.compile(r"base_model\.model\.(.+)\.lora_(?:embedding_)?(A|B|B\.bias|magnitude_vector)")
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
    parts, others = _parts(weights, whole_modules([config]))
    updates, odd = dict[str, Update](), _untold(config)
    if not odd:
        updates = _updates(parts, config, source)
    if not updates:
        msg = f"adapter of which nothing can be told without its base ({why})"
        expected = "LoRA on a base that it left as it was"
        raise ModelError(msg, value=odd or _OTHER, expected=expected)
    stacks = _stacks(parts, source)
    audit = audit_updates(updates.items(), blocks_of(updates, stacks), {})
    blocks = ", ".join(f"; {stack.name} has {len(stack.blocks)} blocks or more" for stack in stacks)
    untold = "how large it is beside the weights and what it does to outputs is not known"
    notes.insert(0, f"read from the adapter's files alone ({why}): {untold}{blocks}")
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
    weights: Mapping[str, Tensor], whole: Collection[str]
) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """Return the adapter's tensors by module and part, and the names of weights that are none.

    Those of modules that were trained `whole` are in neither.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    others = []
    for key, tensor in weights.items():
        match = _PART.fullmatch(key.removesuffix(".weight").replace(".default", ""))
        if match is not None:
            parts.setdefault(match[1], {})[match[2]] = tensor
        elif not set(whole).intersection(key.split(".")):
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


def _updates(
    parts: Mapping[str, Mapping[str, Tensor]], config: Any, source: Source
) -> dict[str, Update]:
    """Return what each module's tensors say that is added to its weight, where they do.

    Those of many experts side by side do not.

    Raises:
        ModelError: A module has no two factors of one product, or settings are no numbers.
    """
    found = {}
    for name, held in parts.items():
        down, up = held.get("A"), held.get("B")
        if down is None or up is None or min(down.ndim, up.ndim) < 2 or up.shape[1] != len(down):
            shapes = ", ".join(f"{part} {tuple(tensor.shape)}" for part, tensor in held.items())
            msg, expected = f"adapter that has of {name} {shapes}", "A (r, in) and B (out, r)"
            raise ModelError(msg, value=source.name, expected=expected)
        ranks, alphas = config.rank_pattern, config.alpha_pattern
        try:
            rank = ranks.get(get_pattern_key(ranks, name), config.r)
            alpha = alphas.get(get_pattern_key(alphas, name), config.lora_alpha)
            is_told = isfinite(alpha)
        except (AttributeError, TypeError, re.error):  # Keys are regular expressions.
            is_told = False
        if not is_told:
            msg = f"adapter whose settings do not tell the scale of {name}"
            raise ModelError(msg, value=source.name, expected="numbers for r and lora_alpha")
        if rank == len(down):
            scale = alpha / (sqrt(rank) if config.use_rslora else rank)
            wide, narrow = (wide_array(tensor.flatten(1))[None] for tensor in (up, down))
            notes = (DORA_NOTE,) * ("magnitude_vector" in held) + (BIAS_NOTE,) * ("B.bias" in held)
            found[name] = Update(scale * wide, narrow, notes=notes)
    return found


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
