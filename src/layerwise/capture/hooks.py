"""What is heard while one batch runs: hooks on blocks, adapted modules and attention.

The hooks return None and change nothing. Each marks the time of its own work, so that a block's
time is the model's alone. What they compute of a batch stays in a `BatchRecord`, additive over
tokens, and becomes rows of the accumulators once the batch has passed.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from layerwise.capture.accumulators import FeatureMoments
from layerwise.capture.attention import AttentionCall, QueryRows, entropy_of_weights
from layerwise.capture.clock import Clock
from layerwise.compat.torch import widened
from layerwise.errors import ModelError
from layerwise.models.linear import plain_parts
from layerwise.shapes import Bool, Float, Int, Tensor

#: Stands for the whole model among the rows of blocks whose moments are marked.
WHOLE = -1


@dataclass(frozen=True)
class Site:
    """An adapted module: where it is, and the fixed projection A of its simulated adapter."""

    name: str
    row: int
    module: nn.Module
    projection: Float[Tensor, "r d"]
    sketch: Float[Tensor, "k o"] | None = None


@dataclass
class BatchRecord:
    """What one batch said so far. Rows are the batch's examples, e of them.

    Attributes:
        masks: Tokens that count, for each block's side of the model.
        fold: The example that each batch row belongs to (two rows each under two views).
        examples: How many examples that makes.
        keep: The examples whose gradients are kept for the Gram matrices.
        query_rows: The sampled query positions, for each block's side.
        crossed: The encoder's tokens that count, for what a decoder's cross-attention reads.
    """

    masks: Mapping[int, Bool[Tensor, "n t"]]
    fold: Int[Tensor, "n"]
    examples: int
    keep: Int[Tensor, "g"]
    query_rows: Mapping[int, QueryRows]
    crossed: Bool[Tensor, "n u"] | None = None
    input_energy: dict[int, Float[Tensor, "e"]] = field(default_factory=dict)
    input_tokens: dict[int, Float[Tensor, "e"]] = field(default_factory=dict)
    column_energy: dict[int, Float[Tensor, "e r"]] = field(default_factory=dict)
    gradient_sum: dict[int, Float[Tensor, "o r"]] = field(default_factory=dict)
    kept: dict[int, Float[Tensor, "k w"]] = field(default_factory=dict)
    called: set[int] = field(default_factory=set)
    entropy: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    gradient_energy: dict[int, Float[Tensor, "e"]] = field(default_factory=dict)
    checks: dict[int, Tensor] = field(default_factory=dict)
    saved_bytes: dict[int, int] = field(default_factory=dict)
    saved_storages: set[int] = field(default_factory=set)
    spans: list[tuple[object, object]] = field(default_factory=list)
    marks: dict[tuple[str, int], tuple[object, int]] = field(default_factory=dict)

    def folded(self, rows: Float[Tensor, "n *rest"]) -> Float[Tensor, "e *rest"]:
        """Return `rows` added up by example."""
        if self.examples == rows.shape[0]:
            return rows
        zero = torch.zeros((self.examples, *rows.shape[1:]), dtype=rows.dtype, device=rows.device)
        return zero.index_add_(0, self.fold, rows)


class Listener:
    """Hears one model, as far as the plan `needs`; `start` gives it the batch to write to."""

    def __init__(self, *, sites: Sequence[Site], needs: frozenset[str], clock: Clock) -> None:
        self.sites, self.needs, self.clock = sites, needs, clock
        #: The first site that reads the same input as each site, as the first batch shows it;
        #: and the moments of each such distinct input.
        self.leaders: dict[int, int] = {}
        self.moments: dict[int, FeatureMoments] = {}
        self._heard: BatchRecord | None = None
        self._row: int | None = None
        self._inputs: list[tuple[int, Tensor]] = []
        self._crossed: list[Tensor] = []

    def start(self, heard: BatchRecord) -> None:
        """Write to `heard` from now on."""
        self.stop()
        self._heard = heard

    def stop(self) -> None:
        """Let go of the batch: tensors must not outlive it."""
        self._heard, self._row, self._inputs, self._crossed = None, None, [], []

    @contextmanager
    def own_work(self) -> Iterator[BatchRecord]:
        """Marks what runs inside as the listener's own, not the model's."""
        assert self._heard is not None, "a hook fired outside a batch"  # noqa: S101
        start = self.clock.mark()
        with torch.no_grad():
            yield self._heard
        self._heard.spans.append((start, self.clock.mark()))

    def mark(self, what: str, row: int) -> None:
        """Note the moment at which `what` happened to block `row`."""
        if self._heard is not None:
            self._heard.marks[what, row] = (self.clock.mark(), len(self._heard.spans))

    # -- blocks ------------------------------------------------------------------------------

    def enter_block(self, row: int, _: nn.Module, args: Any, kwargs: Any) -> None:
        """Mark that the block's forward begins; its input's gradient will end its backward."""
        if self._heard is None:
            return
        given = [t for t in floating((args, kwargs)) if t.ndim == 3]
        hidden = kwargs.get("hidden_states", given[0] if given else None)
        if hidden is not None and hidden.requires_grad:
            hidden.register_hook(lambda _: self.mark("backward end", row))
        self._row, self._inputs = row, []
        self._crossed = [t for t in given if t is not hidden]
        self.mark("forward start", row)

    def leave_block(self, row: int, _: nn.Module, __: Any, ___: Any, output: Any) -> None:
        """Mark that the block's forward ended; its output's gradient will begin its backward."""
        if self._heard is None:
            return
        self.mark("forward end", row)
        self._row, self._inputs, self._crossed = None, [], []
        hidden = next(floating(output), None)
        if hidden is None:
            return
        with self.own_work() as heard:
            heard.checks[row] = hidden.detach().float().sum()
        if hidden.requires_grad:
            hidden.register_hook(lambda _: self.mark("backward start", row))

    def hear_output(self, row: int, _: nn.Module, __: Any, ___: Any, output: Any) -> None:
        """Hear the tensor that stands for the block's output under the readout."""
        hidden = next(floating(output), None)
        if self._heard is not None and hidden is not None and hidden.requires_grad:
            hidden.register_hook(partial(self._output_gradient, row))

    def _output_gradient(self, row: int, gradient: Tensor) -> None:
        if self._heard is None:
            return
        with self.own_work() as heard:
            energy = gradient.float().square().sum(-1) * heard.masks[row]
            heard.gradient_energy[row] = heard.folded(energy.sum(1))

    # -- adapted modules ---------------------------------------------------------------------

    def hear_site(self, m: int, _: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """Project the input of an adapted module that ran, and await its output's gradient.

        Raises:
            ModelError: It ran before in this batch, or its rows are not the batch's tokens.
        """
        given = next(floating((args, kwargs)), None)
        if self._heard is None or given is None:
            return
        site = self.sites[m]
        with self.own_work() as heard:
            if m in heard.called:  # The adapter's gradient would be the sum of both calls'.
                raise ModelError(
                    what="adapted module runs more than once in a forward",
                    value=site.name,
                    expected="modules that run once",
                    hint="--targets with other module names",
                )
            heard.called.add(m)
            mask = self._mask_of(given, site, heard)
            rows = _by_example(given.detach(), mask, site)
            self._hear_input(m, given, rows, mask)
            if "gradients" not in self.needs or not output.requires_grad:
                return
            projected = rows @ site.projection.to(rows.dtype).T
        output.register_hook(partial(self._site_gradient, m, mask, projected))

    def _mask_of(self, given: Tensor, site: Site, heard: BatchRecord) -> Bool[Tensor, "n t"]:
        """Return which of `given`'s tokens count: the encoder's where cross-attention reads."""
        if heard.crossed is not None and any(given is t for t in self._crossed):
            return heard.crossed
        return heard.masks[site.row]

    def _hear_input(self, m: int, given: Tensor, rows: Tensor, mask: Tensor) -> None:
        """Measure an input once, however many of a block's modules read it."""
        if m not in self.leaders:
            self.leaders[m] = next((lead for lead, t in self._inputs if t is given), m)
            if self.leaders[m] == m:
                self.moments[m] = FeatureMoments.zero()
        leader = self.leaders[m]
        self._inputs.append((leader, given))
        if leader != m or "inputs" not in self.needs or self._heard is None:
            return
        energy = rows.float().square().mean(-1) * mask
        self._heard.input_energy[m] = self._heard.folded(energy.sum(1))
        self._heard.input_tokens[m] = self._heard.folded(mask.sum(1).float())
        if "covariance" in self.needs:
            self.moments[m].update(rows[mask])

    def _site_gradient(self, m: int, mask: Tensor, projected: Tensor, gradient: Tensor) -> None:
        if self._heard is None:
            return
        with self.own_work() as heard:
            site = self.sites[m]
            delta = _by_example(gradient, mask, site).float()
            per_example = heard.folded(delta.transpose(1, 2) @ projected.float())
            heard.column_energy[m] = per_example.square().sum(1)
            heard.gradient_sum[m] = per_example.sum(0)
            if "gram" in self.needs and heard.keep.numel():
                kept = per_example[heard.keep]
                sketched = kept if site.sketch is None else site.sketch @ kept
                heard.kept[m] = sketched.flatten(1)

    # -- attention ---------------------------------------------------------------------------

    def hear_attention(self, call: AttentionCall) -> None:
        """Hear a call of attention; a block's first is its self-attention."""
        row = self._row
        if self._heard is None or row is None or row in self._heard.entropy or not call.is_whole:
            return
        with self.own_work() as heard:
            entropies = call.entropy(heard.query_rows[row])
            heard.entropy[row] = _entropy_sums(entropies, heard.query_rows[row], heard)

    def hear_weights(self, row: int, _: nn.Module, __: Any, ___: Any, output: Any) -> None:
        """Hear a module's output, which may hold attention weights (n, h, t, t)."""
        if self._heard is None or row in self._heard.entropy or not isinstance(output, tuple):
            return
        n, t = self._heard.masks[row].shape
        found = [x for x in output if isinstance(x, Tensor) and _is_attention(x, n=n, t=t)]
        if found:
            with self.own_work() as heard:
                entropies = entropy_of_weights(found[0], rows=heard.query_rows[row])
                heard.entropy[row] = _entropy_sums(entropies, heard.query_rows[row], heard)

    # -- memory ------------------------------------------------------------------------------

    def hear_saved(self, weights: frozenset[int], tensor: Tensor) -> Tensor:
        """Return a tensor that autograd keeps: counted once a batch, weights not at all."""
        if self._heard is not None and self._row is not None:
            for part in plain_parts(tensor):
                storage = part.untyped_storage()
                place = storage.data_ptr()
                if place not in weights and place not in self._heard.saved_storages:
                    self._heard.saved_storages.add(place)
                    size = self._heard.saved_bytes.get(self._row, 0)
                    self._heard.saved_bytes[self._row] = size + storage.nbytes()
        return tensor


def _entropy_sums(
    entropies: Float[Tensor, "n q"], rows: QueryRows, heard: BatchRecord
) -> tuple[Float[Tensor, "e"], Float[Tensor, "e"]]:
    """Each example's sum over counted tokens, and sampling variance (Cochran 1977, eq. 2.20)."""
    values = widened(entropies)
    used = rows.weights > 0
    total = (values * rows.weights).sum(1)
    q = rows.sampled.clamp_min(1)
    mean = (values * used).sum(1) / q
    spread = ((values - mean[:, None]).square() * used).sum(1) / (q - 1).clamp_min(1)
    left_out = (1 - rows.sampled / rows.counts.clamp_min(1)).clamp_min(0)
    variance = rows.counts.square() * spread / q * left_out
    return heard.folded(total), heard.folded(variance)


def _is_attention(x: Tensor, *, n: int, t: int) -> bool:
    if x.ndim != 4 or not x.is_floating_point() or x.shape[0] != n or tuple(x.shape[2:]) != (t, t):
        return False
    sums = x.detach()[:, :, 0].float().sum(-1)
    return bool(torch.allclose(sums, torch.ones_like(sums), atol=1e-2))


def floating(value: Any) -> Iterator[Tensor]:
    """Yield the floating-point tensors in a module's arguments or output, in order."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping | tuple | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from floating(item)


def _by_example(rows: Tensor, mask: Bool[Tensor, "n t"], site: Site) -> Float[Tensor, "n t d"]:
    """Return `rows` as (examples, tokens, width); some modules flatten the first two."""
    n, t = mask.shape
    if rows.numel() != n * t * rows.shape[-1]:
        raise ModelError(
            what=f"adapted module {site.name} with rows of shape",
            value=tuple(rows.shape),
            expected=f"one row for each token of {n} examples of {t}",
            hint="--targets with modules that see every token, such as the attention's",
        )
    return rows.reshape(n, t, rows.shape[-1])


@dataclass(frozen=True)
class Wiring:
    """Which modules to hear: blocks and, where apart, the modules that stand for their outputs."""

    blocks: Sequence[nn.Module]
    outputs: Mapping[int, nn.Module]
    embeddings: Sequence[nn.Module]
    weigh_attention: bool


@contextmanager
def attached(listener: Listener, wiring: Wiring) -> Iterator[None]:
    """Let `listener` hear the model inside; every hook is gone after, also when it raises."""
    with ExitStack() as stack:
        for handle in _register(listener, wiring):
            stack.callback(handle.remove)
        yield


def _register(listener: Listener, wiring: Wiring) -> Iterator[RemovableHandle]:
    after = partial(nn.Module.register_forward_hook, with_kwargs=True)
    for module in wiring.embeddings:
        yield module.register_forward_hook(_require_grad)
    for m, site in enumerate(listener.sites):
        yield after(site.module, partial(listener.hear_site, m))
    for row, block in enumerate(wiring.blocks):
        yield block.register_forward_pre_hook(partial(listener.enter_block, row), with_kwargs=True)
        yield after(block, partial(listener.leave_block, row))
        if "outputs" in listener.needs and row in wiring.outputs:
            yield after(wiring.outputs[row], partial(listener.hear_output, row))
        if wiring.weigh_attention:
            inner = (x for x in block.modules() if x is not block and any(x.children()))
            yield from (after(x, partial(listener.hear_weights, row)) for x in inner)


def _require_grad(_: nn.Module, __: Any, output: Any) -> None:
    """With every weight frozen, gradients start to flow at the embeddings' output."""
    hidden = next(floating(output), None)
    if hidden is not None and hidden.is_leaf:
        hidden.requires_grad_()
