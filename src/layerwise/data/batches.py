"""Examples as padded tensors, with what counts in the loss and in every statistic marked."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from layerwise.shapes import Bool, Int, Tensor

__all__ = ["Batch"]


@dataclass(frozen=True)
class Batch:
    """Some examples, ready for a model.

    Attributes:
        inputs: Keyword arguments of the model's forward (``input_ids``, ``attention_mask``,
            ``decoder_input_ids``, …), each (n, t). No labels: objectives compute their own loss.
        labels: Target token of each position the loss counts, -100 elsewhere, already aligned with
            the logits position that predicts it; None where the objective has no token targets.
        token_mask: Which tokens of ``input_ids`` count in statistics: not padding, not prompt.
        decoder_mask: The same for ``decoder_input_ids``; None unless encoder-decoder.
        index: The position of each example in the data: what makes sharded runs agree.
    """

    inputs: Mapping[str, Tensor]
    labels: Int[Tensor, "n t"] | None
    token_mask: Bool[Tensor, "n t"]
    index: Int[Tensor, "n"]
    decoder_mask: Bool[Tensor, "n u"] | None = None

    def __len__(self) -> int:
        return int(self.index.shape[0])

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on `device`."""
        move = lambda x: None if x is None else x.to(device)  # noqa: E731
        return replace(
            self,
            inputs={k: v.to(device) for k, v in self.inputs.items()},
            labels=move(self.labels),
            token_mask=self.token_mask.to(device),
            index=self.index.to(device),
            decoder_mask=move(self.decoder_mask),
        )
