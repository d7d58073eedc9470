"""Attention entropy beside fused attention: same output, and the entropy of sampled query rows.

Models that compute attention through transformers' `AttentionInterface` are heard by wrapping the
function that they already use, for the time of the pass: masks, output and configuration stay as
they are. Models that return attention weights from the attention module are read there.

The entropy is that of the whole softmax. Where that has a sink, an outcome that is no token, the
sink is one outcome of it: a row that attends to the sink alone is saturated.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import AttentionInterface

from layerwise.compat.torch import widest
from layerwise.seeds import derive
from layerwise.shapes import Bool, Float, Int, Tensor

# What each model's own file calls its eager attention, and looks up there at every call.
_EAGER = "eager_attention_forward"


@dataclass(frozen=True)
class QueryRows:
    """Which query positions of each example are looked at.

    Attributes:
        positions: Query positions; a row shorter than the widest repeats its last one.
        weights: How many counted tokens each position stands for; 0 on the repeats.
        counts: Counted tokens of each example.
        sampled: Distinct positions of each example.
    """

    positions: Int[Tensor, "n q"]
    weights: Float[Tensor, "n q"]
    counts: Float[Tensor, "n"]
    sampled: Float[Tensor, "n"]


def sample_rows(
    mask: Bool[Tensor, "n t"], index: Int[Tensor, "n"], *, rows: int, seed: int
) -> QueryRows:
    """At most `rows` counted positions of each example, without replacement; 0 takes them all.

    The draw depends on `seed` and the example's place in the data alone, never on its batch.
    """
    chosen = []
    for counted, place in zip(mask.cpu().numpy(), index.cpu().numpy(), strict=True):
        valid = np.flatnonzero(counted)
        if rows and len(valid) > rows:
            random = np.random.default_rng(derive(seed, "query rows", int(place)))
            valid = np.sort(random.choice(valid, size=rows, replace=False))
        chosen.append(valid)
    longest = max(1, *(len(c) for c in chosen))
    positions = np.zeros((len(chosen), longest), dtype=np.int64)
    weights = np.zeros((len(chosen), longest), dtype=np.float64)
    counts = mask.sum(1).cpu().numpy().astype(np.float64)
    for i, c in enumerate(chosen):
        positions[i, : len(c)] = c
        weights[i, : len(c)] = counts[i] / max(1, len(c))
    sampled = np.array([len(c) for c in chosen], dtype=np.float64)
    reals = [torch.from_numpy(a).to(widest(mask.device)) for a in (weights, counts, sampled)]
    return QueryRows(*(a.to(mask.device) for a in (torch.from_numpy(positions), *reals)))


@dataclass(frozen=True)
class AttentionCall:
    """A call of a model's attention function.

    Attributes:
        query: Queries (n, h, t, e), h heads.
        key: Keys (n, k, s, e), k heads, each serving h / k query heads in turn.
        mask: Boolean (true attends) or additive mask, (n|1, h|1, t, s); None for none.
        bias: Additive position bias, (n|1, h|1, t, s).
        scaling: What the products are multiplied by.
        causal: Whether later keys are hidden, where there is no mask to say so.
        sink: Scores of the sink, (h,) or (n, h, t, 1); None without one.
    """

    query: Tensor
    key: Tensor
    mask: Tensor | None
    bias: Tensor | None
    scaling: float
    causal: bool
    sink: Tensor | None = None

    @property
    def is_whole(self) -> bool:
        """Return whether all that each token attends to is here: no cache, no other text.

        Some that have a sink attend beside their tokens to compressed ones (DeepSeek V4).
        """
        return self.query.shape[2] == self.key.shape[2] or self.sink is not None

    def entropy(self, rows: QueryRows) -> Float[Tensor, "n q"]:
        """Return the entropy in nats of softmax attention at `rows`, mean over heads."""
        n, heads, _, width = self.query.shape
        keys, length = self.key.shape[1], self.key.shape[2]
        take = rows.positions[:, None, :, None].expand(n, heads, -1, width)
        picked = self.query.detach().gather(2, take).reshape(n, keys, -1, width)
        scores = (picked.float() @ self.key.detach().float().transpose(-1, -2)) * self.scaling
        scores = scores.reshape(n, heads, -1, length)
        if self.bias is not None:
            scores = scores + _rows_of(self.bias.detach(), rows)
        if self.mask is None and self.causal:
            ahead = torch.arange(length, device=scores.device) > rows.positions[:, None, :, None]
            scores = scores.masked_fill(ahead, -torch.inf)
        elif self.mask is not None:
            kept = _rows_of(self.mask, rows)
            additive = kept.dtype != torch.bool
            scores = scores + kept if additive else scores.masked_fill(~kept, -torch.inf)
        if self.sink is not None:
            sink = self.sink.detach()[None, :, None, None] if self.sink.ndim == 1 else self.sink
            scores = torch.cat([scores, _rows_of(sink.detach(), rows).to(scores.dtype)], -1)
        return _entropy(scores).mean(1)


def _call(
    module: Any,
    query: Tensor,
    key: Tensor,
    _value: Tensor,
    attention_mask: Tensor | None = None,
    _dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,  # noqa: FBT001  # the order is transformers'
    position_bias: Tensor | None = None,
    **_rest: Any,
) -> AttentionCall:
    """Return what an attention function was called with, as transformers calls it."""
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    return AttentionCall(query, key, attention_mask, position_bias, scaling, bool(causal))


def _rows_of(full: Tensor, rows: QueryRows) -> Tensor:
    """Return the chosen query rows of a mask or bias, (n, h|1, q, s)."""
    n = rows.positions.shape[0]
    if full.shape[2] == 1:  # The same for every query.
        return full.expand(n, -1, rows.positions.shape[1], -1)
    wide = full.expand(n, -1, -1, -1)
    take = rows.positions[:, None, :, None].expand(n, wide.shape[1], -1, wide.shape[3])
    return wide.gather(2, take)


def _entropy(scores: Float[Tensor, "n h q s"]) -> Float[Tensor, "n h q"]:
    """-sum p log p of softmax(scores), where hidden scores are -inf or very small."""
    log_p = scores.log_softmax(-1)
    p = log_p.exp()
    return -(p * log_p.masked_fill(p == 0, 0.0)).sum(-1)


def entropy_of_weights(
    weights: Float[Tensor, "n h t s"], *, rows: QueryRows
) -> Float[Tensor, "n q"]:
    """Entropy in nats of attention weights at the chosen query rows, mean over heads."""
    p = _rows_of(weights.detach().float(), rows)
    return -(p * p.clamp_min(torch.finfo(p.dtype).tiny).log()).sum(-1).mean(1)


@contextmanager
def intercepted(
    model: torch.nn.Module, implementation: str | None, listener: Callable[[AttentionCall], None]
) -> Iterator[None]:
    """Let `listener` hear each attention call of `model` inside; on any exit, all is put back.

    Under eager, where each model has a function of its own, only calls with a sink: elsewhere
    modules hand out their whole attention weights.
    """

    def heard(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if implementation != "eager":
            listener(_call(*args, **kwargs))
        elif (sink := kwargs.get("s_aux", kwargs.get("sinks"))) is not None:
            listener(replace(_call(*args, **kwargs), sink=sink))
        return original(*args, **kwargs)

    with ExitStack() as stack:
        for original, put in _functions(model, implementation):
            stack.callback(put, original)
            put(partial(heard, original))
        yield


def _functions(
    model: torch.nn.Module, implementation: str | None
) -> list[tuple[Callable[..., Any], Callable[[Callable[..., Any]], None]]]:
    """Return the attention functions of `model`, each with what puts another in its place."""
    mapping = AttentionInterface()
    if implementation is not None and implementation in mapping:
        return [(mapping[implementation], partial(AttentionInterface.register, implementation))]
    files = {sys.modules[type(module).__module__] for module in model.modules()}
    own = [file for file in files if implementation == "eager" and hasattr(file, _EAGER)]
    return [(getattr(file, _EAGER), partial(setattr, file, _EAGER)) for file in own]
