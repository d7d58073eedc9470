r"""A placement as arguments of PEFT's `LoraConfig`; data only, PEFT is not imported.

PEFT compares a string in `target_modules` with each module's whole name (`re.fullmatch`); its lists
of endings and its `layers_to_transform` reach into a second stack, or fall back to every layer
without a word. In models with fused experts (DeepSeek, Mixtral, Qwen-MoE, ...) it takes such a
string apart and keeps the last parts of the names, whatever the layer. What is in `exclude_modules`
stays out there too, so the export says both which modules and that no others.

Most trainers have no word for modules to leave out, so theirs are listed by their full names: in
models with fused experts PEFT takes a pattern apart, but keeps names. Some have none for a rank a
module.

A key of `rank_pattern` is matched against the end of a module's name, as a regular expression:
``layers.1`` is 11's too, in either stack. Ours start at the start (``^``) and are escaped.

A placement without a module, and an alpha that would not be whole, are a `PlacementError` in each.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from layerwise.errors import PlacementError
from layerwise.files import canonical_json
from layerwise.placement.record import Placement

Tree = dict[str, "Tree"]

#: Marks the end of a name in a tree of names; no part of a module name can hold a dot.
_END = "."


def lora_config_file(placement: Placement) -> dict[str, bytes]:
    """Return the arguments of PEFT's `LoraConfig` as a file, by its name."""
    return {"lora_config.json": canonical_json(peft_config(placement))}


def peft_config(placement: Placement) -> Mapping[str, Any]:
    """Return the keyword arguments of PEFT's `LoraConfig` for `placement`, as JSON values."""
    revision = {} if placement.revision is None else {"revision": placement.revision}
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": placement.model,
        **revision,
        **lora_arguments(placement),
        "bias": "none",
    }


def lora_arguments(placement: Placement) -> Mapping[str, Any]:
    """Rank, scale and modules, as PEFT's `LoraConfig` calls them.

    Raises:
        PlacementError: The placement trains blocks whole, or has no module.
    """
    refuse_whole(placement)
    pattern = target_regex(placement.modules)
    ranks = rank_pattern(placement)
    patterns = {"rank_pattern": ranks, "alpha_pattern": alpha_pattern(placement)} if ranks else {}
    return {
        "r": placement.rank,
        "lora_alpha": placement.alpha,
        "lora_dropout": placement.dropout,
        "target_modules": pattern,
        "exclude_modules": rf"(?!{pattern}\Z).*",
        **patterns,
    }


def refuse_whole(placement: Placement) -> None:
    """Refuse a placement that trains blocks whole where adapters are put.

    Raises:
        PlacementError: It does.
    """
    if placement.whole:
        blocks = ", ".join(f"{block.stack}.{block.index}" for block in placement.blocks)
        hint = "layerwise tune MODEL DATA --placement FILE, or layerwise place CARD --for peft"
        msg = "adapters by a placement that trains whole blocks"
        raise PlacementError(msg, value=blocks, expected="a placement of adapters", hint=hint)


def rank_pattern(placement: Placement) -> dict[str, int]:
    """Ranks other than the placement's own, by a pattern of just the modules that have them."""
    groups: dict[int, list[str]] = {}
    for module in placement.modules:
        if placement.rank_of(module) != placement.rank:
            groups.setdefault(placement.rank_of(module), []).append(module)
    return {f"^{target_regex(names)}": rank for rank, names in sorted(groups.items())}


def alpha_pattern(placement: Placement) -> dict[str, int]:
    """Return the alphas that go with `rank_pattern`: alpha over rank is one in every module."""
    alphas = {}
    for key, rank in rank_pattern(placement).items():
        alphas[key], rest = divmod(placement.alpha * rank, placement.rank)
        if rest:
            what = f"LoRA alpha {placement.alpha} at rank {placement.rank}"
            msg = f"{what}, for a module of rank {rank}"
            value = f"{placement.alpha * rank / placement.rank:g}"
            hint = f"--alpha {2 * placement.rank}"
            raise PlacementError(msg, value=value, expected="a whole number", hint=hint)
    return alphas


def named_arguments(
    placement: Placement, targets: str | Sequence[str] | None = None
) -> dict[str, object]:
    """Return what a trainer hands to PEFT that knows one rank, and which modules to adapt alone.

    `targets` are these modules; their full names where None.
    """
    arguments = lora_arguments(placement)
    known = {name: arguments[name] for name in ("r", "lora_alpha", "lora_dropout")}
    return {**known, "target_modules": list(placement.modules) if targets is None else targets}


def refuse_ranks(placement: Placement, trainer: str) -> None:
    """Refuse ranks that differ between modules, for which `trainer` has no word.

    Raises:
        PlacementError: They differ.
    """
    if rank_pattern(placement):
        msg = f"ranks that differ between modules, for {trainer}"
        shown = ", ".join(map(str, sorted({placement.rank_of(m) for m in placement.modules})))
        hint = f"one --rank {placement.rank}, or --for peft, axolotl or unsloth"
        raise PlacementError(msg, value=shown, expected="one rank", hint=hint)


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
        raise PlacementError(what="no module to adapt", expected="at least one module name")
    return _pattern(tree)


def _pattern(tree: Tree) -> str:
    """Return what matches the names in `tree`; parts with the same continuations share one."""
    groups: dict[str, list[str]] = {}
    for part in sorted(tree.keys() - {_END}, key=_order):
        groups.setdefault(_tail(tree[part]), []).append(re.escape(part))
    return _any([_any(parts) + tail for tail, parts in groups.items()])


def _tail(below: Tree) -> str:
    """Return what matches the rest of a name after a part that has `below` under it."""
    if below.keys() == {_END}:
        return ""
    rest = rf"\.{_pattern(below)}"
    return f"(?:{rest})?" if _END in below else rest


def _order(part: str) -> tuple[int, int, str]:
    """Block indices by number, before names by letters."""
    return (0, int(part), part) if part.isdecimal() else (1, 0, part)


def _any(patterns: list[str]) -> str:
    return patterns[0] if len(patterns) == 1 else f"(?:{'|'.join(patterns)})"
