"""Models that see the words that they are to predict, under one way of attending alone."""

from inspect import signature
from typing import Any

import torch

from layerwise.models.head_kind import model_kind
from layerwise.models.parts import reads_tokens
from layerwise.models.stack import find_stacks

#: Tokens of the text that it is tried on (ours).
_TOKENS = 8


def keep_causal(model: Any) -> tuple[str, ...]:
    """Let `model` attend in eager where SDPA would show it later words; give a note of that.

    Where a text has no padding, transformers gives SDPA no mask and leaves it to each module to
    say that it is causal. Modules that are not (PaliGemma's, for the images before its text) then
    see all of the text, though in eager they do not. Only models with such modules are tried.
    """
    if model_kind(model) != "causal" or getattr(model.config, "_attn_implementation", "") != "sdpa":
        return ()
    inside = [b for s in find_stacks(model) if reads_tokens(model, s.name) for b in s.blocks]
    parts = (part for name in inside for part in model.get_submodule(name).modules())
    if all(getattr(part, "is_causal", True) for part in parts) or not _sees_ahead(model):
        return ()
    model.set_attn_implementation("eager")
    if _sees_ahead(model):  # It is made so.
        model.set_attn_implementation("sdpa")
        return ()
    return ("attention runs in eager: under SDPA, this model sees the words it is to predict",)


def _sees_ahead(model: Any) -> bool:
    """Return whether the last of some tokens changes what `model` says after the first."""
    device, knows = next(model.parameters()).device, signature(model.forward).parameters
    options = {"use_cache": False} if "use_cache" in knows else {}
    rows = model.get_input_embeddings().weight.shape[0]
    ids = torch.arange(2 * _TOKENS, device=device).reshape(2, _TOKENS) % rows
    ids[1, :-1] = ids[0, :-1]
    was_training = model.training
    try:
        with torch.no_grad():
            first = model.eval()(input_ids=ids, **options).logits[:, 0]
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return False  # It asks for more than text: whoever runs it hears of that.
    finally:
        model.train(was_training)
    return not bool(torch.allclose(first[0], first[1], rtol=1e-3, atol=1e-4))
