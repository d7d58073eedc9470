"""The kind of a model's head, told by the family that its class belongs to; and its own family."""

from collections.abc import Sequence
from typing import Any, Literal

from torch import nn
from transformers import PreTrainedModel
from transformers.models.auto import modeling_auto as auto

from layerwise.models.stack import RECURRENT, Stack

ModelKind = Literal["causal", "masked", "encoder", "seq2seq", "classifier"]
Family = Literal["encoder", "decoder", "encoder-decoder", "ssm", "rnn"]


def _classes(names: Any) -> frozenset[str]:
    """Return the class names in a table of transformers, some of whose entries are tuples."""
    values = (value if isinstance(value, tuple | list) else (value,) for value in names.values())
    return frozenset(name for group in values for name in group)


_CAUSAL = _classes(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
_MASKED = _classes(auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES)
_PRETRAINING = _classes(auto.MODEL_FOR_PRETRAINING_MAPPING_NAMES)
_SEQ2SEQ = _classes(auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES)
_CLASSIFIER = _classes(auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)
_NEXT_SENTENCE = _classes(auto.MODEL_FOR_NEXT_SENTENCE_PREDICTION_MAPPING_NAMES)
# Families whose pretraining head has a next-sentence part, beside those that have it alone.
_PAIRED = frozenset(
    name.replace("ForNextSentencePrediction", "ForPreTraining") for name in _NEXT_SENTENCE
) | {"BigBirdForPreTraining"}
_VISION_TEXT = _classes(auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)


def is_vision_text(name: str) -> bool:
    """Return whether the class called `name` reads images beside text and writes text."""
    return name in _VISION_TEXT - _CAUSAL - _SEQ2SEQ


def is_next_sentence(name: str) -> bool:
    """Give whether the class called `name` tells, beside other things or alone, if B follows A."""
    return name in _PAIRED | _NEXT_SENTENCE


def has_next_sentence_head(model: nn.Module) -> bool:
    """Return whether `model` tells if one text follows another."""
    return any(is_next_sentence(type(m).__name__) for m in model.modules())


def model_kind(model: nn.Module) -> ModelKind:
    """Give what the head of `model` does; ``encoder`` for a model without a language-model head."""
    inner = next((m for m in model.modules() if isinstance(m, PreTrainedModel)), None)
    name = type(inner).__name__
    if inner is not None and name in _SEQ2SEQ | _VISION_TEXT - _CAUSAL:
        # Both tables hold models with an encoder for images or sound and either kind of decoder.
        return "seq2seq" if getattr(inner.config, "is_encoder_decoder", False) else "causal"
    return kind_of(name)


def kind_of(name: str) -> ModelKind:
    """Return what the head of the model class called `name` does."""
    if name in _SEQ2SEQ:
        return "seq2seq"
    if name in _CAUSAL | _VISION_TEXT or name.endswith("ForCausalLM"):
        return "causal"
    if name in _CLASSIFIER or name.endswith("ForSequenceClassification"):
        return "classifier"
    is_masked = name in _MASKED | _PRETRAINING or name.endswith("ForMaskedLM")
    return "masked" if is_masked else "encoder"


def family_of(model: nn.Module, stacks: Sequence[Stack]) -> Family:
    """Get what `model`, with these `stacks`, is: by how it reads text, not by the head that it has.

    Blocks with a single mixer and no attention are state spaces (``ssm``), but for those with a
    recurrence of their own kind (``rnn``).
    """
    kind = model_kind(model)
    if kind == "seq2seq":
        return "encoder-decoder"
    inner = next(m for m in model.modules() if isinstance(m, PreTrainedModel))
    name = str(inner.config.model_type)
    if all(stack.residual == "none" for stack in stacks):
        return "rnn" if name in RECURRENT else "ssm"
    if kind in ("causal", "masked"):
        return "decoder" if kind == "causal" else "encoder"
    is_causal = name in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    is_masked = name in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return "decoder" if is_causal and not is_masked else "encoder"
