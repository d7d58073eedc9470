"""Cross-entropy over a large vocabulary without a second copy of the logits.

A batch of 8 x 128 tokens over 49,152 words is 200 MB of float32 logits. The usual way holds the
log-probabilities and the gradient beside them. Here one pass over the logits gives the loss and,
in the same memory, the gradient.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from layerwise.data.batches import IGNORED, Batch
from layerwise.errors import ModelError
from layerwise.objectives.forward import accepted, token_logits
from layerwise.shapes import Tensor

# Logits handled at a time. On a CPU, few enough to stay in a core's cache between the steps of the
# softmax (measured: 1 MB beats 64 kB, 4 MB and all at once); elsewhere, few enough launches.
CHUNK_ELEMENTS = {"cpu": 1 << 18}
CHUNK_ELSEWHERE = 1 << 26

# These operations do not read their own result when they compute their gradient, so it may be
# overwritten. (tanh does; autograd's version counter would refuse, so no error goes unseen.)
REUSABLE = frozenset(
    {"MmBackward0", "AddmmBackward0", "BmmBackward0", "ToCopyBackward0", "DivBackward0"}
    | {"MulBackward0", "AddBackward0"}
)
VIEWS = frozenset({"ViewBackward0", "UnsafeViewBackward0"})


def model_losses(model: Any, batch: Batch) -> Tensor:
    """Return each row's mean cross-entropy under `model`, shape (n,).

    Logits are the model's own, with whatever it does to them (softcapping, scaling), and are
    computed only at sequence positions where some row has a label, if the model can be told so.
    """
    labels = batch.labels
    if labels is None:
        message = "a token loss needs a batch with labels"
        raise ValueError(message)
    labelled = (labels != IGNORED).any(dim=0).nonzero().squeeze(1)
    options = accepted(model, use_cache=False, logits_to_keep=labelled, **batch.shown())
    if model.training and not batch.seen:  # Molmo2 wants to be told then that all of it is text.
        options |= accepted(model, mm_token_type_ids=torch.zeros_like(labels))
    if "logits_to_keep" in options:
        labels = labels[:, labelled]
    logits = token_logits(model(**batch.inputs, **options))
    if logits.shape[:2] != labels.shape:  # A model that writes whole blocks (DiffusionGemma).
        message, expected = "model whose logits are no row a token", "one that predicts each token"
        raise ModelError(message, value=tuple(logits.shape), expected=expected)
    return cross_entropy(logits, labels)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Each row's mean cross-entropy over its labelled positions, shape (n,), at least float32.

    The memory of `logits` may be overwritten: do not read them again. Cheapest where the losses
    are summed, which leaves the gradient as it was made.

    Args:
        logits: Shape (n, t, v), of any float type.
        labels: Shape (n, t), the token that each position should predict or -100; every row has
            at least one.
    """
    losses: Tensor = _RowLosses.apply(logits, labels)  # type: ignore[no-untyped-call]  # torch's
    return losses


class _RowLosses(torch.autograd.Function):
    """The mean cross-entropy of each row; its gradient replaces the logits in memory."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        wanted = ctx.needs_input_grad[0]
        buffer = logits.detach()
        if wanted and not (buffer.is_contiguous() and _is_reusable(logits)):
            buffer = buffer.clone(memory_format=torch.contiguous_format)
        weights = 1.0 / (labels != IGNORED).sum(dim=1, keepdim=True).expand_as(labels)
        rows, targets = buffer.reshape(-1, buffer.shape[-1]), labels.reshape(-1)
        step = _consume if wanted else _evaluate
        elements = CHUNK_ELEMENTS.get(logits.device.type, CHUNK_ELSEWHERE)
        scales, size = weights.reshape(-1), max(1, elements // rows.shape[1])
        chunks = [slice(i, i + size) for i in range(0, len(rows), size)]
        losses = torch.cat([step(rows[c], targets[c], scales[c]) for c in chunks])
        ctx.gradient = buffer if wanted else None
        return losses.view(labels.shape).sum(dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, None]:
        if bool((upstream == 1).all()):
            return ctx.gradient, None
        return ctx.gradient * upstream.to(ctx.gradient.dtype)[:, None, None], None


def _is_reusable(logits: Tensor) -> bool:
    """Return whether the operation that made `logits` can do without them."""
    node: Any = logits.grad_fn
    while node is not None and node.name() in VIEWS:
        node = node.next_functions[0][0]
    return node is not None and node.name() in REUSABLE


def _wide(logits: Tensor) -> Tensor:
    """Return `logits` in at least float32; the same memory where they already are."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _evaluate(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return each position's weighted cross-entropy, 0 where there is no target."""
    wide = _wide(logits)
    found = wide.gather(1, targets.clamp(min=0)[:, None]).squeeze(1)
    losses = (wide.logsumexp(dim=1) - found) * weights
    return losses.masked_fill(targets == IGNORED, 0.0)


def _consume(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return `_evaluate`'s losses; leaves in `logits` the gradient of their sum.

    With p the softmax, the gradient is weight * (p - onehot(target)).
    """
    wide, column = _wide(logits), targets.clamp(min=0)[:, None]
    scale = weights.to(wide.dtype)[:, None]
    highest, found = wide.amax(dim=1, keepdim=True), wide.gather(1, column)
    total = wide.sub_(highest).exp_().sum(dim=1, keepdim=True)
    losses = (total.log() + highest - found) * scale
    wide.mul_(scale / total).scatter_add_(1, column, -scale)
    ignored = (targets == IGNORED).nonzero().squeeze(1)
    wide.index_fill_(0, ignored, 0.0)
    if wide.data_ptr() != logits.data_ptr():
        logits.copy_(wide)
    return losses.squeeze(1).index_fill(0, ignored, 0.0)
