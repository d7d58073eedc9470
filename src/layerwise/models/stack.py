"""A model as named stacks of ordered blocks, found by structure."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["BlockRef", "Stack"]

Residual = Literal["sequential", "parallel", "none"]
Side = Literal["encoder", "decoder"]


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
        side: Which tokens the stack sees: the ``encoder``'s in an encoder-decoder, else ``decoder``.
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
