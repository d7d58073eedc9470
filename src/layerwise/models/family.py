"""The family that a model is counted in where many are compared."""

from collections.abc import Sequence
from typing import Literal

from torch import nn
from transformers import PreTrainedModel
from transformers.models.auto import modeling_auto as auto

from layerwise.models.head_kind import model_kind
from layerwise.models.stack import RECURRENT, Stack

__all__ = ["Family", "family_of"]

Family = Literal["encoder", "decoder", "encoder-decoder", "ssm", "rnn"]


def family_of(model: nn.Module, stacks: Sequence[Stack]) -> Family:
    """Get what `model`, with these `stacks`, is: by how it reads text, not by the head that it has.

    Blocks with a single mixer and no attention are state spaces (``ssm``), but for those with a
    recurrence of their own kind (``rnn``).
    """
    kind = model_kind(model)
    if kind == "seq2seq":
        return "encoder-decoder"
    name = _model_type(model)
    if all(stack.residual == "none" for stack in stacks):
        return "rnn" if name in RECURRENT else "ssm"
    if kind in ("causal", "masked"):
        return "decoder" if kind == "causal" else "encoder"
    is_causal = name in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    is_masked = name in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return "decoder" if is_causal and not is_masked else "encoder"


def _model_type(model: nn.Module) -> str:
    inner = next(m for m in model.modules() if isinstance(m, PreTrainedModel))
    return str(inner.config.model_type)
