"""Examples that share rows, and the proof that in them none sees another."""

from collections.abc import Sequence
from typing import Any

import torch

from layerwise.data.batches import Batch, Row, best_fit, causal_batch, packed
from layerwise.errors import BadInputError
from layerwise.models.load import LoadedModel
from layerwise.objectives.forward import accepted, token_logits
from layerwise.objectives.record import Objective
from layerwise.shapes import Tensor

#: Tokens of each of two examples by which it is seen whether a model keeps them apart.
_SHOWN = 16
#: How far logits may be from those of an example alone, relative to the largest.
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8}
_COARSE = 3e-2
_HINT = "drop --packing"


def packs_of(
    loaded: LoadedModel, objective: Objective, batches: Sequence[Batch], *, room: int
) -> list[tuple[int, ...]]:
    """Return which examples share a row of at most `room` tokens.

    Args:
        loaded: The model.
        objective: The loss.
        batches: Every example, in a row of its own.
        room: The most tokens of a row.

    Raises:
        BadInputError: The objective is not for rows that are shared, or the model mixes them.
    """
    if not objective.packs or loaded.kind != "causal":
        what = f"packing under {objective.name} in a model of kind {loaded.kind}"
        expected = "causal-lm or sft in a causal model"
        raise BadInputError(what, value="packing", expected=expected, hint=_HINT)
    if any(batch.seen for batch in batches):
        what = "packing of rows with pictures or sounds"
        raise BadInputError(what, value="packing", expected="rows of text", hint=_HINT)
    held = {
        index: ids[mask.bool()].tolist()
        for batch in batches
        for index, ids, mask in zip(
            batch.index.tolist(),
            batch.inputs["input_ids"],
            batch.inputs["attention_mask"],
            strict=True,
        )
    }
    ordered = [held[index] for index in sorted(held)]
    _refuse_mixing(loaded, ordered[0][:_SHOWN], ordered[-1][:_SHOWN])
    return best_fit([*map(len, ordered)], room=room)


def _refuse_mixing(loaded: LoadedModel, *examples: list[int]) -> None:
    """Raise where an example's logits are others behind another than alone, or hang on that one."""
    first, second = (Row(i, ids, [True] * len(ids)) for i, ids in enumerate(examples))
    with torch.no_grad():
        alone = _logits(loaded, second)
    inputs = list[Tensor]()

    def begin(_module: Any, _given: Any, made: Tensor) -> Tensor:
        inputs.append(made.detach().requires_grad_())
        return inputs[0] * 1  # Some models change it in place.

    start = len(first.ids)
    handle = loaded.model.get_input_embeddings().register_forward_hook(begin)
    try:
        with torch.enable_grad():
            behind = _logits(loaded, *packed([first, second], [(0, 1)]))[:, start:]
    finally:
        handle.remove()
    reach = torch.autograd.grad(behind.square().sum(), inputs[0])[0].float().norm(dim=-1)[0]
    # Kept apart it is nothing, in any precision.
    mixed = float(reach[:start].max() / reach[start:].max().clamp(min=1e-12))
    apart = float((behind.detach() - alone).abs().max() / alone.abs().max().clamp(min=1e-12))
    if not (apart <= _TOLERANCE.get(loaded.model.dtype, _COARSE) and mixed <= 1e-7):
        what = f"packing in a model that mixes the examples of a row ({max(apart, mixed):.1g})"
        expected = "attention that positions keep apart, as transformers' with SDPA"
        value = type(loaded.model).__name__
        raise BadInputError(what, value=value, expected=expected, hint=_HINT)


def _logits(loaded: LoadedModel, row: Row) -> Tensor:
    inputs: dict[str, Any] = dict(causal_batch([row], pad=None).to(loaded.device).inputs)
    options = accepted(loaded.model, use_cache=False)
    return token_logits(loaded.model(**accepted(loaded.model, **inputs), **options)).float()
