"""A model as named stacks of ordered blocks, found by structure."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from layerwise.errors import StackError

Residual = Literal["sequential", "parallel", "none"]
Side = Literal["encoder", "decoder"]

RECURRENT = frozenset({"rwkv", "xlstm"})
"""Model types whose blocks have a token and a channel mixer, as others do, but no attention."""

# Blocks that can be listed, yet are none through which each token runs once, in autograd's order.
_UNSUITED = {
    "blt": "some of its blocks read bytes, others patches of them",
    "funnel": "its blocks are lists in a list, each of which reads half as many tokens",
    "hrm_text": "its two lists of blocks run in turn, many times, mostly without gradients",
    "perceiver": "its blocks read latents, not tokens",
    "pi0": "its blocks write the actions of a robot, not text",
    "reformer": "its blocks are reversible and run by a backward pass of their own",
}
_DEPTH_KEYS = (
    "num_hidden_layers",
    "num_layers",
    "encoder_layers",
    "decoder_layers",
    "num_decoder_layers",
)
# As many blocks as these there are where each serves for several (ALBERT).
_GROUPS_KEY = "num_hidden_groups"
# A norm, by its class; the parts of a model that is named after its norms are none.
_NORM = re.compile(r"norm(?!\w*(attention|intermediate|output|block|mlp|coder|model))")
_ATTENTION_NAMES = ("attn", "attention")
_MLP_NAMES = ("mlp", "ffn", "feed_forward", "moe")


@dataclass(frozen=True)
class BlockRef:
    """One block: the `index`-th of `stack`, whose module is called `name`."""

    stack: str
    index: int
    name: str


@dataclass(frozen=True)
class Stack:
    """Blocks that run one after another.

    Attributes:
        name: The qualified name of the module list (``"model.layers"``, ``"encoder.block"``).
        blocks: The qualified names of the block modules, from the input to the output.
        block_class: The class that (most of) the blocks are of.
        residual: How attention and MLP share the residual stream: one after the other
            (``sequential``), both from the same input (``parallel``), or a single mixer a block,
            as in state-space and recurrent models (``none``).
        side: Which tokens it sees: the ``encoder``'s in an encoder-decoder, else ``decoder``.
    """

    name: str
    blocks: tuple[str, ...]
    block_class: str
    residual: Residual
    side: Side = "decoder"

    @property
    def refs(self) -> tuple[BlockRef, ...]:
        """The blocks as (stack, index, name)."""
        return tuple(BlockRef(self.name, i, name) for i, name in enumerate(self.blocks))


def all_refs(stacks: Sequence[Stack]) -> tuple[BlockRef, ...]:
    """Give every block of `stacks`, in order; a block's position here is its row in every array."""
    return tuple(ref for stack in stacks for ref in stack.refs)


def blocks_of(names: Iterable[str], stacks: Sequence[Stack]) -> dict[str, BlockRef]:
    """Return the block of each of `names`, of modules or parameters, that lies in one."""
    blocks = {ref.name: ref for ref in all_refs(stacks)}
    held = ((name, around(name, blocks)) for name in names)
    return {name: blocks[block] for name, block in held if block is not None}


def around(name: str, modules: Collection[str]) -> str | None:
    """Return the innermost of `modules` that is called `name` or holds what is; None without."""
    parts = name.split(".")
    paths = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((path for path in paths if path in modules), None)


def find_stacks(model: nn.Module) -> tuple[Stack, ...]:
    """Return the stacks of `model`, an encoder's before a decoder's; weights are never looked at.

    A stack is an outermost `ModuleList` whose members are gradient-checkpointing layers or of a
    class that the model forbids to split over devices; where there is none, the one `ModuleList`
    of equal members that is as long as the configured depth.

    Raises:
        StackError: No list qualifies, several could be meant, one module serves as several
            blocks, no list has the configured depth, or the blocks cannot be measured one by
            one. The lists that exist are in the message.
    """
    lists = {n: m for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m)}
    keys = (*_DEPTH_KEYS, _GROUPS_KEY)
    values = {getattr(config, key, None) for config in _configs(model) for key in keys}
    depths = {value for value in values if isinstance(value, int)}
    for kind in _types(model) & _UNSUITED.keys():
        raise _refusal(lists, _UNSUITED[kind])
    found = _outermost(_declared(model, lists)) or _by_depth(model, lists, depths)
    shared = [name for name, blocks in found if len({id(b) for b in blocks}) < len(blocks)]
    if shared:
        raise _refusal(lists, f"one module serves as several blocks of {shared[0]}")
    if not any(len(blocks) in depths for _, blocks in found):
        raise _refusal(lists, f"none has the configured depth {sorted(depths)}")
    stacks = [_stack(model, name, blocks) for name, blocks in found]
    return tuple(sorted(stacks, key=lambda stack: stack.side != "encoder"))


def _configs(model: nn.Module) -> Iterator[Any]:
    """Yield the model's configuration, then its text part; wrappers hand the inner one's on."""
    config = getattr(model, "config", None)
    if config is None:
        inner = next((m for m in model.modules() if isinstance(m, PreTrainedModel)), None)
        config = getattr(inner, "config", None)
    yield config
    if config is not None and hasattr(config, "get_text_config"):
        try:
            yield config.get_text_config()
        except ValueError:  # A text encoder and a text decoder: each is a part of its own.
            yield from (getattr(config, part, None) for part in ("text_encoder", "decoder"))


def _types(model: nn.Module) -> set[str]:
    return {getattr(config, "model_type", "") for config in _configs(model)}


def _is_encoder_decoder(model: nn.Module) -> bool:
    return any(getattr(config, "is_encoder_decoder", False) for config in _configs(model))


def _declared(model: nn.Module, lists: dict[str, nn.ModuleList]) -> dict[str, nn.ModuleList]:
    """Return the lists whose members the model itself declares to be blocks."""
    unsplit = {n for m in model.modules() for n in getattr(m, "_no_split_modules", ()) or ()}

    def is_block(member: nn.Module) -> bool:
        kind = _kind(member)
        return issubclass(kind, GradientCheckpointingLayer) or kind.__name__ in unsplit

    return {name: members for name, members in lists.items() if all(map(is_block, members))}


def _kind(module: nn.Module) -> type[nn.Module]:
    """Return the class of `module`; of PEFT's wrapper of one that trains whole, of that one."""
    inner = getattr(module, "original_module", None)
    return type(inner if isinstance(inner, nn.Module) else module)


def _outermost(lists: dict[str, nn.ModuleList]) -> list[tuple[str, nn.ModuleList]]:
    return [
        (name, members)
        for name, members in lists.items()
        if not any(name.startswith(f"{other}.") for other in lists)
    ]


def _by_depth(
    model: nn.Module, lists: dict[str, nn.ModuleList], depths: Collection[object]
) -> list[tuple[str, nn.ModuleList]]:
    """Find the one list of equal, composite members as long as the depth; one a side."""
    if not _is_encoder_decoder(model):
        # Some encoders count a small decoder of their own beside their depth (Funnel).
        depths = {getattr(config, "num_hidden_layers", None) for config in _configs(model)}
    groups = {getattr(config, _GROUPS_KEY, None) for config in _configs(model)} - {None}
    depths = groups or depths
    fit = {
        name: members
        for name, members in lists.items()
        if len(members) in depths
        and len({_kind(m) for m in members}) == 1
        and any(True for _ in members[0].children())
    }
    found = _outermost(fit)
    sides = [_side(model, name) for name, _ in found]
    if not found:
        raise _refusal(lists, "none is a list of blocks")
    if len(set(sides)) < len(sides):
        raise _refusal(lists, "several could be the blocks: " + ", ".join(n for n, _ in found))
    return found


def _refusal(lists: dict[str, nn.ModuleList], why: str) -> StackError:
    shown = "; ".join(
        f"{name} ({len(members)} x {'/'.join(sorted({type(m).__name__ for m in members}))})"
        for name, members in list(_outermost(lists))[:8]
    )
    return StackError(
        f"no usable stack of blocks in this model ({why})",
        expected="a module list of blocks that run once each, in order",
        hint=f"a model with such a list; the module lists here are: {shown or 'none'}",
    )


def _side(model: nn.Module, name: str) -> Side:
    parts = name.split(".")
    is_encoder = any(part.endswith("encoder") for part in parts) and "decoder" not in parts
    return "encoder" if is_encoder and _is_encoder_decoder(model) else "decoder"


def _stack(model: nn.Module, name: str, blocks: nn.ModuleList) -> Stack:
    classes = Counter(_kind(block).__name__ for block in blocks)
    residual: Residual = "parallel" if all(map(_is_parallel, blocks)) else "sequential"
    if _types(model) & RECURRENT or all(_sublayers(block) == 1 for block in blocks):
        residual = "none"
    names = tuple(f"{name}.{index}" for index in range(len(blocks)))
    return Stack(name, names, classes.most_common(1)[0][0], residual, _side(model, name))


def is_norm(module: nn.Module) -> bool:
    """Return whether `module` normalises its input, by its class's name."""
    name = _kind(module).__name__.lower()
    return _NORM.search(name) is not None and "embed" not in name


def _sublayers(block: nn.Module) -> int:
    """Count a block's parts with weights that are no norms, those in a list (as in T5) singly."""
    members = list[nn.Module]()
    for child in block.children():
        members += child.children() if isinstance(child, nn.ModuleList) else [child]
    return sum(not is_norm(m) and any(True for _ in m.parameters()) for m in members)


def _is_parallel(block: nn.Module) -> bool:
    """Tell if attention and MLP read the same input: the block says so, or they share a norm."""
    config = getattr(block, "config", None)
    declared = (
        getattr(block, "use_parallel_residual", False),
        getattr(config, "parallel_attn", False),
        getattr(config, "new_decoder_architecture", False),
    )
    norms = sum(is_norm(child) or isinstance(child, nn.Identity) for child in block.children())
    names = " ".join(name.lower() for name, _ in block.named_children())
    both = all(any(key in names for key in keys) for keys in (_ATTENTION_NAMES, _MLP_NAMES))
    return any(declared) or (norms == 1 and both)
