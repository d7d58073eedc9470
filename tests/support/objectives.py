"""Every objective with each kind of tiny model that it is for, and texts that it can use."""

from collections import Counter

import pytest
import torch

from layerwise.capture.restore import frozen
from layerwise.data import Example, TextData
from layerwise.distance.gradients import example_gradients, last_states, prepared
from layerwise.models.load import LoadedModel
from layerwise.models.stack import find_stacks
from layerwise.objectives import OBJECTIVES
from support import text

MODELS = {
    "causal": ["llama", "gpt2", "gemma2", "mamba", "rwkv"],
    "masked": ["bert", "pretraining", "mobilebert"],
    "encoder": ["encoder", "next_sentence"],
    "seq2seq": ["t5"],
    "classifier": ["bert_classifier", "llama_classifier"],
}
PAIRED = {"pretraining", "mobilebert", "next_sentence"}


def every(**more):
    """A test over each objective's name, kind and model; `more` models by their kind."""
    params = [
        pytest.param((name, kind, model), id=f"{name}-{model}")
        for name, objective in OBJECTIVES.items()
        for kind in sorted(objective.kinds)
        for model in (*MODELS[kind], *more.get(kind, ()))
        if model in PAIRED or not objective.needs_next_sentence
    ]
    return pytest.mark.parametrize("case", params, indirect=True)


def words(count, start):
    return " ".join(f"w{(3 * i + start) % 50}" for i in range(count))


def data_for(objective, count):
    """Texts of growing length, with prompts and labels where they are needed."""
    prompted, labelled = objective.needs_prompt, objective.needs_label
    examples = tuple(
        Example(
            words(3 + 2 * i, i),
            prompt=words(1 + i % 3, 7 + i) if prompted else None,
            label=("neg", "pos", "odd")[i % 3] if labelled else None,
        )
        for i in range(count)
    )
    columns = {"text": "text"} | ({"prompt": "prompt"} if prompted else {})
    columns |= {"label": "label"} if labelled else {}
    return TextData("test", "", examples, columns, count)


def loaded_as(kind, name):
    """The tiny model called `name`, as one of a kind, with its tokenizer."""
    model, tokenizer = text.model(name), text.tokenizer(frame=text.USUAL_FRAME[kind])
    return LoadedModel(model, tokenizer, "test", kind, find_stacks(model))


def gradients(loaded, batch, *objectives):
    """The gradients at the last hidden state of `objectives`, by name: a row an example."""
    with (
        frozen(loaded.model, training=False, seed=0),
        last_states(loaded) as states,
        prepared(objectives[0], loaded.model),
    ):
        torch.manual_seed(3)
        return example_gradients(loaded.model, batch, objectives, states, Counter())


def slow_gradients(loaded, batch, objective, *, seed=3):
    """The same with no weight frozen and no graph cut, float64 (n, d); and each row's backward."""
    model, heard = loaded.model, []
    body = model.decoder if loaded.kind == "seq2seq" else model.base_model
    hook = body.register_forward_hook(lambda _, __, out: heard.append(out.last_hidden_state))
    model.train(objective.stochastic)
    with objective.prepare(model):
        torch.manual_seed(seed)
        losses = objective.losses(model, batch)
    model.eval()
    hook.remove()
    (hidden,) = heard
    per_row = [torch.autograd.grad(loss, hidden, retain_graph=True)[0] for loss in losses]
    whole = torch.stack(per_row).sum(0).double()
    counted = batch.inputs.get("decoder_attention_mask", batch.inputs["attention_mask"])
    found = []
    for example in sorted(set(batch.index.tolist())):
        mine = [r for r in range(len(batch)) if batch.index[r] == example]
        tokens = [whole[r, t] for r in mine for t in range(whole.shape[1]) if counted[r, t]]
        found.append(torch.stack(tokens).mean(0) / len(mine))
    return torch.stack(found), per_row
