"""A placement as files that other tools read; data only, no tool is imported.

PEFT compares a string in `target_modules` with each module's whole name (`re.fullmatch`); its lists
of endings and its `layers_to_transform` reach into a second stack, or fall back to every layer
without a word. In models with fused experts (DeepSeek, Mixtral, Qwen-MoE, ...) it takes such a
string apart and keeps the last parts of the names, whatever the layer. What is in `exclude_modules`
stays out there too, so the export says both which modules and that no others.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from layerwise.errors import PlacementError
from layerwise.files import canonical_json
from layerwise.placement.record import Placement

__all__ = ["peft_config", "placement_files", "target_regex"]

Tree = dict[str, "Tree"]

#: Marks the end of a name in a tree of names; no part of a module name can hold a dot.
_END = "."


def target_regex(modules: Iterable[str]) -> str:
    r"""A regular expression that matches the whole of each name in `modules`, and nothing else.

    Raises:
        PlacementError: There is no name: an empty pattern would stand for PEFT's own choice.

    >>> target_regex(["h.0.attn.q", "h.2.attn.q", "h.0.attn.v", "h.2.attn.v"])
    'h\\.(?:0|2)\\.attn\\.(?:q|v)'
    """
    tree: Tree = {}
    for name in modules:
        node = tree
        for part in name.split("."):
            node = node.setdefault(part, {})
        node[_END] = {}
    if not tree:
        msg = "no module to adapt"
        raise PlacementError(msg, expected="at least one module name")
    return _pattern(tree)


def _pattern(tree: Tree) -> str:
    """What matches the names in `tree`; parts with the same continuations share one."""
    groups: dict[str, list[str]] = {}
    for part in sorted(tree.keys() - {_END}, key=_order):
        groups.setdefault(_tail(tree[part]), []).append(re.escape(part))
    return _any([_any(parts) + tail for tail, parts in groups.items()])


def _tail(below: Tree) -> str:
    """What matches the rest of a name after a part that has `below` under it."""
    if below.keys() == {_END}:
        return ""
    rest = rf"\.{_pattern(below)}"
    return f"(?:{rest})?" if _END in below else rest


def _order(part: str) -> tuple[int, int, str]:
    """Block indices by number, before names by letters."""
    return (0, int(part), part) if part.isdecimal() else (1, 0, part)


def _any(patterns: list[str]) -> str:
    return patterns[0] if len(patterns) == 1 else f"(?:{'|'.join(patterns)})"


def peft_config(placement: Placement) -> Mapping[str, Any]:
    """The keyword arguments of PEFT's `LoraConfig` for `placement`, as JSON values.

    Raises:
        PlacementError: The placement has no module.
    """
    revision = {} if placement.revision is None else {"revision": placement.revision}
    pattern = target_regex(placement.modules)
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": placement.model,
        **revision,
        "r": placement.rank,
        "lora_alpha": placement.alpha,
        "lora_dropout": placement.dropout,
        "bias": "none",
        "target_modules": pattern,
        "exclude_modules": rf"(?!{pattern}\Z).*",
    }


def placement_files(placement: Placement) -> dict[str, bytes]:
    """``placement.json`` and ``lora_config.json`` as bytes; the same placement is the same bytes.

    Raises:
        PlacementError: The placement has no module.
    """
    return {
        "lora_config.json": canonical_json(peft_config(placement)),
        "placement.json": placement.to_json(),
    }
