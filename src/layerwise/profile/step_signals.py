"""Signals of each block from training steps as they run: attention entropy and gradient.

Nothing is run for it. Hooks on the blocks and beside the attention function read what passes by, in
the forwards that the loss is taken from, dropout and all, and change nothing.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from layerwise import distributed
from layerwise.capture.attention import AttentionCall, QueryRows, intercepted, sample_rows
from layerwise.capture.tokens import floating
from layerwise.compat.torch import widened
from layerwise.models.load import LoadedModel, inside
from layerwise.objectives.forward import body
from layerwise.seeds import derive
from layerwise.shapes import Tensor

#: Query positions of each example whose entropy is taken, as for a card (ours).
ROWS = 16
#: The one attention function beside which entropy can be taken.
_ATTENTION = "sdpa"


@dataclass(frozen=True)
class StepSignals:
    """Signals of each block, the mean over training steps.

    Attributes:
        blocks: The blocks' names, in the order in which they run.
        steps: Over how many steps.
        attention_entropy: Of a step: in nats, the mean over its heads and a seeded sample of its
            query tokens. None where no attention was recorded.
        activation_gradient: Of a step: the norm of the gradient of its loss with respect to the
            block's output, all tokens together. None where no gradient came by: below the lowest
            block that trains.
    """

    blocks: tuple[str, ...]
    steps: int
    attention_entropy: tuple[float | None, ...]
    activation_gradient: tuple[float | None, ...]

    def frame(self) -> pd.DataFrame:
        """Return a row a block: ``block``, ``attention_entropy`` and ``activation_gradient``."""
        return pd.DataFrame(
            {
                "block": self.blocks,
                "attention_entropy": pd.array(self.attention_entropy, dtype="Float64"),
                "activation_gradient": pd.array(self.activation_gradient, dtype="Float64"),
            }
        )


@dataclass(frozen=True)
class SignalSums:
    """Sums over steps of each block's signals; how many steps is counted for each by itself."""

    steps: int = 0
    totals: Mapping[tuple[str, int], tuple[float, int]] = field(default_factory=dict)

    def merge(self, other: "SignalSums") -> "SignalSums":
        """Return the sums over the steps of both."""
        both = dict(self.totals)
        for key, (total, count) in other.totals.items():
            before, times = both.get(key, (0.0, 0))
            both[key] = (before + total, times + count)
        return SignalSums(self.steps + other.steps, both)

    def signals(self, blocks: Sequence[str]) -> StepSignals:
        """Return the means, with None for what no step had."""
        means = {key: total / count for key, (total, count) in self.totals.items()}
        entropy, gradient = (
            tuple(means.get((name, row)) for row in range(len(blocks)))
            for name in ("entropy", "gradient")
        )
        return StepSignals(tuple(blocks), self.steps, entropy, gradient)


class StepListener:
    """A listener to the training steps of one model.

    Args:
        loaded: The model; nothing of it is changed.
        seed: Fixes which query tokens are looked at.
    """

    def __init__(self, loaded: LoadedModel, *, seed: int) -> None:
        self._model, self._seed = loaded.model, seed
        self._sides = [stack.side for stack in loaded.stacks for _ in stack.blocks]
        self._is_pair = len(set(self._sides)) > 1
        self.blocks = tuple(name for stack in loaded.stacks for name in stack.blocks)
        #: Their names in the base: an adapter's wrapper puts its own before them.
        self.names = tuple(name for stack in inside(loaded).stacks for name in stack.blocks)
        self.implementation = getattr(loaded.model.config, "_attn_implementation", None)
        # Sums over the tokens of a step, by block: entropies with their number, squared gradients.
        self._entropy: dict[int, tuple[float, float]] = {}
        self._energy: dict[int, float] = {}
        self._forwards = 0
        self._row: int | None = None
        self._masks: Mapping[str, Tensor] = {}
        self._rows: dict[tuple[int, ...], QueryRows] = {}
        self._running: tuple[nn.Module, ExitStack] | None = None
        self._hooks = ExitStack()

    @property
    def reads_attention(self) -> bool:
        """Return whether attention runs where its entropy can be taken."""
        return bool(self.implementation == _ATTENTION)

    def attach(self) -> None:
        """Begin to listen."""

        def keep(handle: Any) -> None:
            self._hooks.callback(handle.remove)

        # A head calls the body, an objective may call it alone, and PEFT may pass it by.
        for module in {id(m): m for m in (self._model, body(self._model))}.values():
            keep(module.register_forward_pre_hook(self._enter, with_kwargs=True))
            keep(module.register_forward_hook(self._leave, always_call=True))
        for row, name in enumerate(self.blocks):
            block = self._model.get_submodule(name)
            keep(block.register_forward_pre_hook(partial(self._enter_block, row)))
            keep(block.register_forward_hook(partial(self._leave_block, row)))

    def detach(self) -> None:
        """Leave the model as it was."""
        if self._running is not None:
            self._running[1].close()
            self._running = None
        self._hooks.close()

    def take(self) -> SignalSums:
        """Return the signals of the forwards since the last call, as one step; the finite ones."""
        values = {("entropy", row): total / n for row, (total, n) in self._entropy.items() if n}
        values |= {("gradient", row): energy**0.5 for row, energy in self._energy.items()}
        self._entropy, self._energy = {}, {}
        return SignalSums(1, {key: (x, 1) for key, x in values.items() if np.isfinite(x)})

    # --- Forwards ---------------------------------------------------------------------------

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Begin a forward; one without gradients is none of training's."""
        if self._running is not None or not torch.is_grad_enabled() or not (args or kwargs):
            return
        self._forwards += 1
        self._rows = {}
        self._masks = {
            name: value
            for name, value in kwargs.items()
            if name.endswith("attention_mask") and isinstance(value, Tensor) and value.ndim == 2
        }
        interception = ExitStack()
        if self.reads_attention:
            listens = intercepted(self._model, self.implementation, self._record_attention)
            interception.enter_context(listens)
        self._running = (module, interception)

    def _leave(self, module: nn.Module, _args: Any, _output: Any) -> None:
        if self._running is not None and self._running[0] is module:
            self._running[1].close()
            self._running, self._row, self._masks, self._rows = None, None, {}, {}

    def _enter_block(self, row: int, _module: nn.Module, _args: Any) -> None:
        self._row = row if self._running is not None else None

    def _leave_block(self, row: int, _module: nn.Module, _args: Any, output: Any) -> None:
        self._row = None
        hidden = next(floating(output), None)
        # Outside a forward too: reentrant checkpointing has gradients where it recomputes alone.
        if hidden is not None and hidden.requires_grad:
            hidden.register_hook(partial(self._record_gradient, row))

    def _record_gradient(self, row: int, gradient: Tensor) -> None:
        """Add the gradient's energy; padding adds nothing, as no loss depends on it."""
        with _unrecorded(gradient):
            energy = float(gradient.float().square().sum())
        self._energy[row] = self._energy.get(row, 0.0) + energy

    # --- Attention --------------------------------------------------------------------------

    def _record_attention(self, call: AttentionCall) -> None:
        """Add the entropy of a block's first call, which is its self-attention."""
        row, self._row = self._row, None
        if row is None or not call.is_whole:
            return
        with _unrecorded(call.query):
            rows = self._sampled(self._sides[row], call.query)
            entropies = call.entropy(rows)
            total, count = self._entropy.get(row, (0.0, 0.0))
            added = float((widened(entropies) * rows.weights).sum())
            self._entropy[row] = total + added, count + float(rows.counts.sum())

    def _sampled(self, side: str, query: Tensor) -> QueryRows:
        """Return the query tokens of this forward whose entropy is taken."""
        n, t = query.shape[0], query.shape[2]
        is_second = self._is_pair and side == "decoder"
        known = self._masks.get("decoder_attention_mask" if is_second else "attention_mask")
        if known is None or tuple(known.shape) != (n, t):  # Rows that are packed, say.
            known = torch.ones((n, t), dtype=torch.bool, device=query.device)
        key = (n, t, int(is_second))
        if key not in self._rows:
            seed = derive(self._seed, "training forward", self._forwards)
            index = torch.arange(n)
            self._rows[key] = sample_rows(known.bool(), index, rows=ROWS, seed=seed)
        return self._rows[key]


@contextmanager
def _unrecorded(tensor: Tensor) -> Iterator[None]:
    """Compute inside without a record for a backward, and without autocast's rounding."""
    with torch.no_grad(), torch.autocast(tensor.device.type, enabled=False):
        yield


def sum_over_processes(steps: Sequence[SignalSums]) -> SignalSums:
    """Return the sums over `steps`, of each of which every process has its share.

    A step's loss is the mean of those of the processes, and so is the gradient of each share.
    """
    whole = SignalSums()
    for parts in zip(*distributed.all_gather([*steps]), strict=True):
        shares: dict[tuple[str, int], list[float]] = {}
        for part in parts:
            for key, (value, _) in part.totals.items():
                shares.setdefault(key, []).append(value)
        step = {
            key: (math.hypot(*v) / len(parts) if key[0] == "gradient" else sum(v) / len(v), 1)
            for key, v in shares.items()
        }
        whole = whole.merge(SignalSums(1, step))
    return whole
