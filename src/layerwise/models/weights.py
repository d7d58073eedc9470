"""Checks that a model is what its files say."""

from typing import Any

import torch
from torch import nn

from layerwise.errors import ModelError


def check_finite(model: nn.Module, *, source: str) -> None:
    """Raise unless every weight of `model` is a finite number.

    Raises:
        ModelError: A weight is NaN or infinite; the first such tensor is named.
    """
    for name, parameter in model.named_parameters():
        weight = parameter.detach()
        if not weight.is_floating_point() or bool(weight.sum(dtype=torch.float32).isfinite()):
            continue  # The sum needs no mask as large as the weight; an overflow proves nothing.
        if not bool(weight.isfinite().all()):
            message = f"weights with NaN or infinite values, first in {name}"
            raise ModelError(message, value=source, expected="finite weights")


def refuse_more_tokens(model: Any, tokenizer: Any, *, source: str, hint: str = "") -> None:
    """Pass a model that embeds every token of its tokenizer; more rows than tokens are usual.

    Raises:
        ModelError: It has fewer; both numbers are given.
    """
    try:
        rows = getattr(model.get_input_embeddings(), "num_embeddings", None)
    except NotImplementedError:
        return
    if rows is None:
        return
    tokens = 1 + max(tokenizer.get_vocab().values(), default=-1)
    if tokens > rows:
        message = f"tokenizer of {tokens} tokens with a model that embeds {rows}"
        hint = hint or f"model.resize_token_embeddings({tokens}), saved anew, or its own tokenizer"
        raise ModelError(message, value=source, expected=f"at most {rows}", hint=hint)
