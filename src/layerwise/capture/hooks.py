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
from layerwise.capture.tokens import by_token, floating, hidden_in
from layerwise.compat.torch import widened
from layerwise.models.linear import plain_parts
from layerwise.shapes import Bool, Float, Int, Tensor

#: Stands for the whole model among the rows of blocks whose moments are marked.
WHOLE = -1


@dataclass(frozen=True)
class Site:
    """An adapted module: where it is, and the fixed projections A of its simulated adapters."""

    name: str
    row: int
    module: nn.Module
    projection: Float[Tensor, "r d"]
    rank: int
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
        waiting: How many calls of an adapted module have no output gradient yet.
        summed: The gradients of those that have.
        runs: How often each block ran; attention was heard in each.
        unread: Adapted modules whose rows are not the batch's tokens.
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
    features: dict[int, Float[Tensor, "r r"]] = field(default_factory=dict)
    kept: dict[int, Float[Tensor, "k w"]] = field(default_factory=dict)
    waiting: dict[int, int] = field(default_factory=dict)
    summed: dict[int, Float[Tensor, "e o r"]] = field(default_factory=dict)
    runs: dict[int, int] = field(default_factory=dict)
    unread: set[int] = field(default_factory=set)
    entropy: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    gradient_energy: dict[int, Float[Tensor, "e"]] = field(default_factory=dict)
    checks: dict[int, Tensor] = field(default_factory=dict)
    saved_bytes: dict[int, int] = field(default_factory=dict)
    saved_storages: set[int] = field(default_factory=set)
    spans: list[tuple[object, object]] = field(default_factory=list)
    marks: dict[tuple[str, int], list[tuple[object, int]]] = field(default_factory=dict)

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
        #: Modules that take tokens first, then examples: told where a batch is not as long as wide.
        self.tokens_first: frozenset[nn.Module] = frozenset()
        self._heard: BatchRecord | None = None
        self._row: int | None = None
        self._attended = False
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
            moments = self._heard.marks.setdefault((what, row), [])
            moments.append((self.clock.mark(), len(self._heard.spans)))

    # -- blocks ------------------------------------------------------------------------------

    def enter_block(self, row: int, _: nn.Module, args: Any, kwargs: Any) -> None:
        """Mark that the block's forward begins; its input's gradient will end its backward."""
        if self._heard is None:
            return
        hidden = hidden_in(args, kwargs)
        if hidden is not None and hidden.requires_grad:
            hidden.register_hook(lambda _: self.mark("backward end", row))
        self._row, self._attended, self._inputs = row, False, []
        self._heard.runs[row] = self._heard.runs.get(row, 0) + 1
        self._crossed = [t for t in floating((args, kwargs)) if t.ndim > 2 and t is not hidden]
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

    def hear_output(self, row: int, module: nn.Module, _: Any, __: Any, output: Any) -> None:
        """Hear the tensor that stands for the block's output under the readout."""
        hidden = next(floating(output), None)
        if self._heard is not None and hidden is not None and hidden.requires_grad:
            hidden.register_hook(partial(self._output_gradient, row, module))

    def _output_gradient(self, row: int, module: nn.Module, gradient: Tensor) -> None:
        """Measure the gradient of the last run's output, which is the first to come."""
        if self._heard is None or row in self._heard.gradient_energy:
            return
        with self.own_work() as heard:
            rows = self._tokens(gradient, module, heard.masks[row])
            if rows is not None:
                energy = rows.float().square().sum(-1) * heard.masks[row]
                heard.gradient_energy[row] = heard.folded(energy.sum(1))

    def _tokens(self, x: Tensor, module: nn.Module, mask: Tensor) -> Float[Tensor, "n t d"] | None:
        n, t = mask.shape
        return by_token(x, n, t, tokens_first=module in self.tokens_first)

    # -- adapted modules ---------------------------------------------------------------------

    def hear_site(self, m: int, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """Project the input of an adapted module that ran, and await its output's gradient.

        One that runs several times in a forward has the sum of the gradients of its calls.
        """
        given = next(floating((args, kwargs)), None)
        if self._heard is None or given is None:
            return
        site = self.sites[m]
        with self.own_work() as heard:
            mask, rows = self._rows_of(given, site, heard)
            if rows is None or mask is None or self._tokens(output, module, mask) is None:
                heard.unread.add(m)
                return
            self._hear_input(m, given, rows, mask)
            if "gradients" not in self.needs or not output.requires_grad:
                return
            projected = rows @ site.projection.to(rows.dtype).T
            own = projected[..., : site.rank][mask].float()
            heard.features[m] = heard.features.get(m, 0) + own.T @ own
            heard.waiting[m] = heard.waiting.get(m, 0) + 1
        output.register_hook(partial(self._site_gradient, m, mask, projected))

    def _rows_of(
        self, given: Tensor, site: Site, heard: BatchRecord
    ) -> tuple[Bool[Tensor, "n t"] | None, Float[Tensor, "n t d"] | None]:
        """Return which of `given`'s tokens count, the encoder's where cross-attention reads."""
        own, crossed, width = heard.masks[site.row], heard.crossed, site.projection.shape[1]
        is_crossed = crossed is not None and any(given is t for t in self._crossed)
        for mask in (crossed, own) if is_crossed else (own, crossed):
            rows = None if mask is None else self._tokens(given.detach(), site.module, mask)
            if rows is not None and rows.shape[-1] == width:
                return mask, rows
        return None, None

    def _hear_input(self, m: int, given: Tensor, rows: Tensor, mask: Tensor) -> None:
        """Measure an input once, however many of a block's modules read it."""
        if m not in self.leaders:
            self.leaders[m] = next((lead for lead, t in self._inputs if t is given), m)
            if self.leaders[m] == m:
                self.moments[m] = FeatureMoments.zero()
        leader, heard = self.leaders[m], self._heard
        self._inputs.append((leader, given))
        if leader != m or "inputs" not in self.needs or heard is None:
            return
        energy = heard.folded((rows.float().square().mean(-1) * mask).sum(1))
        tokens = heard.folded(mask.sum(1).float())
        heard.input_energy[m] = heard.input_energy.get(m, 0) + energy
        heard.input_tokens[m] = heard.input_tokens.get(m, 0) + tokens
        if "covariance" in self.needs:
            self.moments[m].update(rows[mask])

    def _site_gradient(self, m: int, mask: Tensor, projected: Tensor, gradient: Tensor) -> None:
        if self._heard is None:
            return
        with self.own_work() as heard:
            delta = self._tokens(gradient, self.sites[m].module, mask)
            assert delta is not None, "a gradient of another shape than its output"  # noqa: S101
            found = heard.folded(delta.float().transpose(1, 2) @ projected.float())
            heard.waiting[m] -= 1
            if m in heard.summed:
                found += heard.summed.pop(m)
            if heard.waiting[m]:
                heard.summed[m] = found
            else:
                self._take_gradient(m, found, heard)

    def take_waiting(self) -> None:
        """Take the gradients of modules some of whose calls the loss does not depend on."""
        with self.own_work() as heard:
            for m in sorted(heard.summed):
                self._take_gradient(m, heard.summed.pop(m), heard)

    def _take_gradient(
        self, m: int, per_example: Float[Tensor, "e o r"], heard: BatchRecord
    ) -> None:
        site = self.sites[m]
        heard.column_energy[m] = per_example.square().sum(1)
        heard.gradient_sum[m] = per_example.sum(0)
        if "gram" in self.needs and heard.keep.numel():
            kept = per_example[heard.keep][..., : site.rank]
            sketched = kept if site.sketch is None else site.sketch @ kept
            heard.kept[m] = sketched.flatten(1)

    # -- attention ---------------------------------------------------------------------------

    def hear_attention(self, call: AttentionCall) -> None:
        """Hear a call of attention; the first of a block's run is its self-attention."""
        row = self._row
        if self._heard is None or row is None or self._attended or not call.is_whole:
            return
        with self.own_work() as heard:
            self._add_entropy(row, call.entropy(heard.query_rows[row]), heard)

    def hear_weights(self, row: int, _: nn.Module, __: Any, ___: Any, output: Any) -> None:
        """Hear a module's output, which may hold attention weights (n, h, t, t)."""
        if self._heard is None or self._attended or not isinstance(output, tuple | list):
            return
        n, t = self._heard.masks[row].shape
        found = [x for x in output if isinstance(x, Tensor) and _is_attention(x, n=n, t=t)]
        if found:
            with self.own_work() as heard:
                rows = heard.query_rows[row]
                self._add_entropy(row, entropy_of_weights(found[0], rows=rows), heard)

    def _add_entropy(self, row: int, entropies: Tensor, heard: BatchRecord) -> None:
        """Add the entropies of one run of a block; of several, the mean is kept."""
        self._attended = True
        total, variance = _entropy_sums(entropies, heard.query_rows[row], heard)
        before, spread = heard.entropy.get(row, (0.0, 0.0))
        heard.entropy[row] = (before + total, spread + variance)

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
    """Return whether `x` holds the probabilities of all tokens; beside a sink they are fewer."""
    if x.ndim != 4 or not x.is_floating_point() or x.shape[0] != n or tuple(x.shape[2:]) != (t, t):
        return False
    first = x.detach()[:, :, 0].float()
    return bool((first >= 0).all() and ((first.sum(-1) - 1).abs() < 1e-2).all())


@dataclass(frozen=True)
class Wiring:
    """Which modules to hear: blocks and, where apart, the modules that stand for their outputs.

    Those of the rows in `unheard` are left alone.
    """

    blocks: Sequence[nn.Module]
    outputs: Mapping[int, nn.Module]
    embeddings: Sequence[nn.Module]
    weigh_attention: bool
    unheard: frozenset[int] = frozenset()


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
        if site.row in wiring.unheard:
            continue
        yield after(site.module, partial(listener.hear_site, m))
    for row, block in enumerate(wiring.blocks):
        if row in wiring.unheard:
            continue
        yield block.register_forward_pre_hook(partial(listener.enter_block, row), with_kwargs=True)
        yield after(block, partial(listener.leave_block, row))
        if "outputs" in listener.needs and row in wiring.outputs:
            yield after(wiring.outputs[row], partial(listener.hear_output, row))
        if wiring.weigh_attention:
            inner = (x for x in block.modules() if x is not block and any(x.children()))
            yield from (after(x, partial(listener.hear_weights, row)) for x in inner)


def _require_grad(_: nn.Module, __: Any, output: Any) -> Any:
    """Let gradients start to flow at the embeddings' output, as every weight is frozen.

    A copy goes on: some models change what they were given in place, which a leaf may not be.
    """
    hidden = next(floating(output), None)
    if hidden is not None and hidden.is_leaf:
        hidden.requires_grad_()
    return hidden.clone() if hidden is output else None
