"""Runs of a few steps on tiny models."""

import gc
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from layerwise.data.text import Example, TextData
from layerwise.models.load import LoadedModel
from layerwise.models.stack import find_stacks
from layerwise.objectives import resolve
from layerwise.tuning.equal_step import EqualStep
from layerwise.tuning.record import TuneSettings
from layerwise.tuning.run import fine_tune
from layerwise.tuning.steps import Persistence
from support import text

# Trainer collects garbage before each run: most of a short one's time, were all modules looked at.
gc.collect()
gc.freeze()


def data(examples=24):
    """Texts of five to twelve words."""
    made = tuple(
        Example(" ".join(f"w{(7 * i + 3 * j) % 50}" for j in range(5 + i % 8)))
        for i in range(examples)
    )
    return TextData("made", f"{examples:064d}", made, {"text": "text"}, examples)


def labelled(texts, names=("neg", "pos", "odd")):
    """The same texts with the classes `names` in turn."""
    made = [replace(e, label=names[i % len(names)]) for i, e in enumerate(texts.examples)]
    return replace(texts, examples=tuple(made), columns={"text": "text", "label": "label"})


def loaded(name="llama", **config):
    """The seeded model called `name`, as it is loaded."""
    model = text.model(name)
    for key, value in config.items():
        setattr(model.config, key, value)
    kind = text.kind(name)
    tokenizer = text.tokenizer(frame=text.USUAL_FRAME[kind])
    return LoadedModel(model, tokenizer, name, kind, find_stacks(model))


def settings(**options):
    """Settings of a short run."""
    return TuneSettings(**({"steps": 3, "batch_size": 4, "max_length": 16} | options))


def tune(
    model: Any = "llama", *, folder=None, resume=False, on_step=None, objective="auto", **options
):
    """A short run; `options` are for `fine_tune` or settings, or `labels` of the texts."""
    subject = loaded(model) if isinstance(model, str) else model
    texts = options.pop("data", None) or data()
    if "labels" in options:
        texts = labelled(texts, options.pop("labels"))
    own = {k: options.pop(k) for k in ("condition", "placement") if k in options}
    keep = Persistence(folder, resume, on_step or (lambda _: None))
    loss = resolve(objective, loaded=subject, data=texts)
    return fine_tune(subject, texts, loss, settings=settings(**options), keep=keep, **own)


def weights(tuned):
    """Copies of all weights after a run, by name."""
    model = getattr(tuned, "loaded", tuned).model
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def same(first, second):
    """Whether two sets of weights are equal to the last bit."""
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


@contextmanager
def untouched(loaded):
    """Checks that what runs inside, also where it raises, leaves no trace in a model.

    The model trains, one of its weights is frozen, one has a gradient.
    """
    model = loaded.model.train()
    first, *_, last = model.parameters()
    first.requires_grad_(False)
    last.grad = torch.ones_like(last)
    torch.manual_seed(3)

    def state():
        return (
            [m.training for m in model.modules()],
            [p.requires_grad for p in model.parameters()],
            [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
            torch.get_rng_state().tolist(),
            [None if p.grad is None else float(p.grad.sum()) for p in model.parameters()],
        )

    before, kept = state(), weights(loaded)
    try:
        yield
    finally:
        assert state() == before
        assert same(kept, weights(loaded))


def furthest(first, second):
    """The largest difference between two sets of weights, relative to each tensor's largest.

    Biases of keys are left out: they add the same to all scores of a query, which softmax ignores,
    so their gradient is rounding alone, and AdamW makes whole steps of it.
    """
    return max(
        float((value - second[name]).abs().max() / value.abs().max().clamp(min=1e-12))
        for name, value in first.items()
        if not name.endswith(("key.bias", "k_proj.bias"))
    )


def network(dtype=torch.float32):
    """Two linear layers."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 10)).to(dtype)


def by_layer(model):
    """The parameters of each layer of `network`, as layer groups."""
    return {str(i): list(layer.parameters()) for i, layer in enumerate(model)}


def wrapped(method="auto", tau=1e-2, model=None, **options):
    """A network and AdamW on it, its steps made equal."""
    model = model or network()
    inner = torch.optim.AdamW(model.parameters(), **{"lr": 1e-3, "fused": True, **options})
    return model, EqualStep(inner, by_layer(model), tau, method=method)


def saved_model(folder, name="llama"):
    """The folder of the model called `name` and its tokenizer."""
    return str(text.save(folder, name))
