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
    rows = sorted((row for batch in batches for row in _rows(batch)), key=lambda row: row.index)
    _refuse_mixing(loaded, rows)
    return best_fit([len(row.ids) for row in rows], room=room)


def _rows(batch: Batch) -> list[Row]:
    """Return the rows of a batch again, without what pads them."""
    ids, masks = batch.inputs["input_ids"], batch.inputs["attention_mask"].bool()
    kept = [row[mask].tolist() for row, mask in zip(ids, masks, strict=True)]
    members = zip(batch.index.tolist(), kept, strict=True)
    return [Row(index, tokens, [True] * len(tokens)) for index, tokens in members]


@torch.no_grad()
def _refuse_mixing(loaded: LoadedModel, rows: Sequence[Row]) -> None:
    """Raise where an example's logits are others behind another example than alone."""
    first, second = (
        Row(i, list(row.ids[:_SHOWN]), [True] * len(row.ids[:_SHOWN]))
        for i, row in enumerate((rows[0], rows[-1]))
    )
    alone = _logits(loaded, causal_batch([second], pad=None))
    shared = _logits(loaded, causal_batch(packed([first, second], [(0, 1)]), pad=None))
    behind = shared[:, len(first.ids) :]
    apart = float((behind - alone).abs().max() / alone.abs().max().clamp(min=1e-12))
    if not apart <= _TOLERANCE.get(loaded.model.dtype, _COARSE):
        what = f"packing in a model that mixes the examples of a row ({apart:.1g} of its logits)"
        expected = "attention that positions keep apart, as transformers' with SDPA"
        value = type(loaded.model).__name__
        raise BadInputError(what, value=value, expected=expected, hint=_HINT)


def _logits(loaded: LoadedModel, batch: Batch) -> Tensor:
    inputs: dict[str, Any] = dict(batch.to(loaded.device).inputs)
    options = accepted(loaded.model, use_cache=False)
    return token_logits(loaded.model(**accepted(loaded.model, **inputs), **options)).float()
