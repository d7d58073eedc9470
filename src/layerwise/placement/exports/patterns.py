"""Regular expressions that mean some names and no others."""

import re
from collections.abc import Iterable

from layerwise.errors import PlacementError

__all__ = ["target_regex"]

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
