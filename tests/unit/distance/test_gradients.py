"""One row an example: what padding, sharing, adapters and odd models do to it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from layerwise.distance.gradients import check_rows, sharing
from layerwise.errors import BadInputError, ModelError, NonFiniteError
from layerwise.objectives import OBJECTIVES
from support.batches import FAMILIES
from support.objectives import gradients
from support.versions import since

NORMED = since("5", "ModernBERT's last hidden state is before the norm in transformers 4")


def rows_of(loaded, batch, *names):
    return gradients(loaded, batch, *(OBJECTIVES[name] for name in names))


def usual(tiny, name):
    return "masked-lm" if name in tiny.MASKED else "causal-lm"


def batch_of(tuning, loaded, name, count=4, seed=0):
    (batch,) = (
        OBJECTIVES[name]
        .batches_for(loaded, tuning.data(count), batch_size=count, max_length=16, seed=seed)
        .batches
    )
    return batch


@pytest.mark.parametrize("name", FAMILIES)
def test_padding_and_other_examples_change_nothing(tiny, name):
    loaded, batch = tiny.build(name), tiny.batch(name, n=4)
    loss = usual(tiny, name)
    together = rows_of(loaded, batch, loss)[loss]
    if name == "rwkv":  # Its batches have no attention mask: the tokens that count say the length.
        sizes = tiny.lengths(4)
        mask = torch.arange(batch.token_mask.shape[1])[None] < torch.tensor(sizes)[:, None]
        batch = replace(batch, inputs={**batch.inputs, "attention_mask": mask.long()})
        together = rows_of(loaded, batch, loss)[loss]
    alone = [rows_of(loaded, tiny.row(batch, i), loss)[loss][0] for i in range(4)]
    np.testing.assert_allclose(together, np.stack(alone), rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["opt", "llama", "mamba", "rwkv", pytest.param("modernbert", marks=NORMED)]
)
def test_the_state_is_what_transformers_gives_last(tiny, name):
    """By the head alone: from the last of `hidden_states` on, a linear map and the loss."""
    loaded, batch = tiny.build(name), tiny.batch(name, n=3)
    loss = usual(tiny, name)
    with torch.no_grad():
        output = loaded.model(**batch.inputs, output_hidden_states=True, use_cache=False)
    hidden = output.hidden_states[-1].requires_grad_()
    head = loaded.model.get_output_embeddings()
    if name == "modernbert":
        head = nn.Sequential(loaded.model.head, loaded.model.decoder)
    logits = head(hidden)
    torch.testing.assert_close(logits, output.logits, rtol=1e-4, atol=1e-4)
    flat = nn.functional.cross_entropy(
        logits.transpose(1, 2), batch.labels, ignore_index=-100, reduction="none"
    )
    losses = flat.sum(1) / (batch.labels != -100).sum(1)
    (gradient,) = torch.autograd.grad(losses.sum(), hidden)
    mask = batch.inputs.get("attention_mask", batch.token_mask)[..., None]
    expected = (gradient * mask).sum(1) / mask.sum(1)
    np.testing.assert_allclose(rows_of(loaded, batch, loss)[loss], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("model", ["llama", "gpt2", "bert", "encoder", "mamba"])
def test_one_forward_serves_both_losses_of_two_views(tuning, model):
    loaded = tuning.loaded(model)
    names = ("simcse", "barlow-twins")
    batches = {name: batch_of(tuning, loaded, name) for name in names}
    ((batch, members),) = sharing([OBJECTIVES[n] for n in names], batches)
    assert tuple(o.name for o in members) == names
    calls = []
    hook = loaded.model.base_model.register_forward_hook(lambda *_: calls.append(1))
    shared = rows_of(loaded, batch, *names)
    assert len(calls) == 1
    for name in names:
        np.testing.assert_allclose(shared[name], rows_of(loaded, batch, name)[name], rtol=1e-5)
    hook.remove()


@pytest.mark.parametrize(
    ("names", "more"),
    [(("masked-lm", "span-denoise", "simcse"), 0), (("simcse", "barlow-twins"), 1)],
)
def test_other_inputs_and_views_of_other_texts_share_nothing(tuning, names, more):
    loaded = tuning.loaded("bert")
    batches = {
        name: batch_of(tuning, loaded, name, count=4 + more * i) for i, name in enumerate(names)
    }
    found = sharing([OBJECTIVES[name] for name in names], batches)
    assert [[o.name for o in members] for _, members in found] == [[name] for name in names]


def test_two_rows_of_an_example_are_one_of_both(tuning):
    """Each view on its own: the mean over the tokens of both, of half the summed losses."""
    loaded = tuning.loaded("encoder")
    batch = batch_of(tuning, loaded, "simcse")
    apart = replace(batch, index=torch.arange(8))
    views = rows_of(loaded, apart, "simcse")["simcse"]
    tokens = batch.inputs["attention_mask"].sum(1, keepdim=True).numpy()
    expected = np.zeros((4, 16))
    for example in range(4):
        mine = batch.index.numpy() == example
        expected[example] = (views * tokens)[mine].sum(0) / tokens[mine].sum() / 2
    np.testing.assert_allclose(rows_of(loaded, batch, "simcse")["simcse"], expected, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("model", ["llama", "bert"])
def test_new_adapters_change_nothing(tuning, model):
    from peft import LoraConfig, get_peft_model

    from layerwise.models.load import wrap_model
    from layerwise.models.targets import default_targets

    loaded = tuning.loaded(model)
    name = "causal-lm" if model == "llama" else "masked-lm"
    batch = batch_of(tuning, loaded, name)
    expected = rows_of(loaded, batch, name)[name]
    targets = list(default_targets(loaded.model, loaded.stacks))
    wrapped = get_peft_model(loaded.model, LoraConfig(target_modules=targets)).eval()
    found = rows_of(wrap_model(wrapped, loaded.tokenizer), batch, name)[name]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_head_that_reads_something_else_than_the_blocks_give_is_refused(tuning):
    loaded = tuning.loaded("llama")
    batch = batch_of(tuning, loaded, "causal-lm")
    hook = loaded.model.model.norm.register_forward_hook(lambda _, __, out: out.detach())
    with pytest.raises(ModelError, match="gives no last hidden state to its head: 'llama'"):
        rows_of(loaded, batch, "causal-lm")
    hook.remove()
    loaded.model.lm_head.register_forward_hook(
        lambda _, __, out: torch.zeros_like(out).requires_grad_()
    )
    with pytest.raises(ModelError, match="does not read the last hidden state, under causal-lm"):
        rows_of(loaded, batch, "causal-lm")


@pytest.mark.parametrize(
    ("bad", "kind", "message"),
    [
        (np.nan, NonFiniteError, "not finite: 'simcse, example 17'.*--dtype float32"),
        (np.inf, NonFiniteError, "not finite: 'simcse, example 17'.*--dtype float32"),
        (0, BadInputError, "gradient of zero: 'simcse, example 17'"),
    ],
)
def test_rows_that_cannot_be_compared_are_named(bad, kind, message):
    rows = np.ones((3, 4), np.float32)
    rows[1, slice(None) if bad == 0 else 2] = bad
    with pytest.raises(kind, match=message):
        check_rows(rows, objective="simcse", examples=[4, 17, 5])
