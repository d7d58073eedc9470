"""Checks that a model is what its files say."""

from itertools import chain
from typing import Any

import torch
from torch import nn

from layerwise.errors import ModelError
from layerwise.models.linear import is_coded, packed_modules, weight_of


def check_finite(model: nn.Module, *, source: str) -> None:
    """Raise unless every weight of `model` is a finite number.

    Raises:
        ModelError: A weight is NaN or infinite; the first such tensor is named.
    """
    plain = ((n, p.detach()) for n, p in model.named_parameters() if not is_coded(p))
    coded = ((f"{n}.weight", weight_of(m)) for n, m in packed_modules(model).items())
    for name, weight in chain(plain, coded):
        if bool(weight.sum(dtype=torch.float32).isfinite()):
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
