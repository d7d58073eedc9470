"""What each parameter of a model is for, and in which block it lies."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn
from transformers import PreTrainedModel

from layerwise.models.stack import Stack, all_refs, is_norm

Role = Literal["attention", "mlp", "norm", "embedding", "head", "other"]

_ATTENTION = re.compile(r"attn|attention|(^|\.)self_att(\.|$)", re.IGNORECASE)
_MLP = re.compile(
    r"mlp|ffn|feed_?forward|moe|expert|intermediate|(^|\.)(fc_?\w*|ff|output)(\.|$)|layerff",
    re.IGNORECASE,
)
_NORM_NAME = re.compile(r"(^|_)(ln|norm|layernorm|layer_norm)(_|\d|$)", re.IGNORECASE)


@dataclass(frozen=True)
class ParameterRole:
    """One parameter.

    Attributes:
        name: Its qualified name.
        row: Its block's row; None outside blocks.
        role: What it is for.
        embeds: Whether it makes the blocks' input: an embedding, or a norm or projection there.
    """

    name: str
    row: int | None
    role: Role
    embeds: bool = False


def roles(model: nn.Module, stacks: Sequence[Stack]) -> tuple[ParameterRole, ...]:
    """Return the role of every parameter of `model`; one that is tied to another appears once."""
    modules = dict(model.named_modules())
    rows = {ref.name: row for row, ref in enumerate(all_refs(stacks))}
    body = _body(model)
    found = []
    for name, _ in model.named_parameters():
        block = next((path for path in _prefixes(name) if path in rows), None)
        role = _inside(name, block, modules) if block else _outside(name, modules, body)
        embeds = block is None and _embeds(name, modules, body)
        found.append(ParameterRole(name, rows[block] if block else None, role, embeds))
    return tuple(found)


def _prefixes(name: str) -> Iterator[str]:
    """Yield the names of the modules that `name` lies in, the innermost first."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def _is_norm(name: str, modules: dict[str, nn.Module]) -> bool:
    path, _, own = name.rpartition(".")
    return is_norm(modules[path]) or bool(_NORM_NAME.search(own))


def _inside(name: str, block: str, modules: dict[str, nn.Module]) -> Role:
    """Return the role by the innermost module of the block whose name or class tells it."""
    if _is_norm(name, modules):
        return "norm"
    for path in (name, *_prefixes(name)):
        if path == block:
            break
        inner = path.removeprefix(block + ".")
        labels = (inner, type(modules[path]).__name__ if path in modules else "")
        if any(_ATTENTION.search(label) for label in labels):
            return "attention"
        if any(_MLP.search(label) for label in labels):
            return "mlp"
    return "other"


def _body(model: nn.Module) -> str:
    """Give the name of the model under the heads, with its dot; everything beside it is a head."""
    name, inner = next(
        ((n, m) for n, m in model.named_modules() if isinstance(m, PreTrainedModel)), ("", None)
    )
    body = getattr(inner, "base_model_prefix", "")
    if inner is None or not body or not isinstance(getattr(inner, body, None), nn.Module):
        return ""
    return f"{name}.{body}." if name else f"{body}."


def _outside(name: str, modules: dict[str, nn.Module], body: str) -> Role:
    if _is_norm(name, modules):
        return "norm"
    if not name.startswith(body):
        return "head"
    return "embedding" if _embeds(name, modules, body) else "other"


def _embeds(name: str, modules: dict[str, nn.Module], body: str) -> bool:
    """Return whether the parameter lies in what makes the blocks' input, by the names around it."""
    embedding = any(
        isinstance(modules[path], nn.Embedding) or "embed" in path.rpartition(".")[2].lower()
        for path in _prefixes(name)
    )
    return name.startswith(body) and (embedding or "embed" in name.rpartition(".")[2])
