"""A model's forward: what it understands, what it gives, and how many tokens it reaches."""

import inspect
from collections.abc import Iterable
from itertools import chain
from typing import Any

from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss
from transformers import PreTrainedModel

from layerwise.data.batches import Batch
from layerwise.errors import BadInputError
from layerwise.models.parts import position_limit
from layerwise.shapes import Tensor


def without_adapter(model: Any) -> Any:
    """`model` itself, or the model inside an adapter's wrapper; its modules keep the adapter."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def body(model: Any) -> Any:
    """Return `model` without adapter's wrapper and without head."""
    return without_adapter(model).base_model


def accepted(model: Any, **options: Any) -> dict[str, Any]:
    """Return those of `options` that `model`'s forward names among its parameters.

    A wrapper that names none hands all on to the model in it.
    """
    whole = without_adapter(model)
    inner = whole.modules() if isinstance(whole, nn.Module) else ()
    models = chain([whole], (m for m in inner if isinstance(m, PreTrainedModel)))
    known = (set(inspect.signature(each.forward).parameters) for each in models)
    names = next((each for each in known if not each <= {"args", "kwargs"}), set[str]())
    return {name: value for name, value in options.items() if name in names}


def decoder_start(model: Any) -> int | None:
    """Return the token that `model`'s decoder starts from, where its configuration names one."""
    for config in (model.config, getattr(model, "generation_config", None)):
        token = getattr(config, "decoder_start_token_id", None)
        if token is not None:
            return int(token)
    return None


def token_logits(output: Any) -> Tensor:
    """Return the logits of each token in a model's output, whatever else its head gives."""
    logits: Tensor = output["prediction_logits" if "prediction_logits" in output else "logits"]
    return logits


def class_losses(logits: Tensor, batch: Batch) -> Tensor:
    """Return the loss of each row's class under `logits`, (n, c): shape (n,), float32.

    The cross-entropy of its class; of labels that may hold together the mean of each one's, of a
    score the squared error.
    """
    if batch.classes is None:
        message = "a class loss needs a batch with classes"
        raise ValueError(message)
    if not batch.classes.is_floating_point():
        return cross_entropy(logits.float(), batch.classes, reduction="none")
    loss = mse_loss if batch.classes.shape[1] == 1 else binary_cross_entropy_with_logits
    return loss(logits.float(), batch.classes, reduction="none").mean(dim=1)


def told(logits: Tensor, classes: Tensor) -> Tensor:
    """Return what `logits` are taken for, in the form of `classes`: a class, truths or a score."""
    if not classes.is_floating_point():
        return logits.argmax(-1)
    return logits.float() if classes.shape[1] == 1 else (logits > 0).float()


def refuse_too_long(model: Any, batches: Iterable[Batch]) -> None:
    """Raise where a text is longer than the model's learned positions reach.

    Raises:
        BadInputError: One is; the message says how long they may be.
    """
    limit = position_limit(model)
    longest = max((t.shape[1] for batch in batches for t in batch.inputs.values()), default=0)
    if limit is not None and longest > limit:
        raise BadInputError(
            what="texts longer than the model's positions",
            value=longest,
            expected=f"at most {limit} tokens",
            hint=f"--max-length {limit}",
        )
