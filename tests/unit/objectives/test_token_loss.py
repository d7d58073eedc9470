import pytest
import torch
from torch.nn.functional import cross_entropy as reference

from layerwise.data import Batch
from layerwise.objectives import token_loss
from layerwise.objectives.token_loss import cross_entropy, model_losses

NONE = -100


@pytest.fixture
def made():
    """A hidden state, a head and labels; each row of the labels has at least one."""
    random = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, 5, 4, generator=random)
    head = torch.randn(4, 11, generator=random)
    labels = torch.randint(0, 11, (3, 5), generator=random)
    labels[0, 3:], labels[1, :4] = NONE, NONE
    return hidden, head, labels


def plain(logits, labels):
    """Each row's mean cross-entropy, as torch has it."""
    losses = reference(logits.transpose(1, 2), labels, ignore_index=NONE, reduction="none")
    return losses.sum(1) / (labels != NONE).sum(1)


def both(hidden, head, labels, *, through=lambda x: x, weights=1.0):
    """(losses, gradient of the weighted sum) of ours and of torch's."""
    found = []
    for loss in (cross_entropy, plain):
        leaf = hidden.clone().requires_grad_()
        losses = loss(through(leaf @ head), labels)
        (losses * weights).sum().backward()
        found.append((losses.detach(), leaf.grad))
    return found


@pytest.mark.parametrize("chunk", [1, 30, 1 << 18])
def test_losses_and_gradients_are_torchs(made, monkeypatch, chunk):
    monkeypatch.setitem(token_loss.CHUNK_ELEMENTS, "cpu", chunk)
    ours, torchs = both(*made)
    torch.testing.assert_close(ours, torchs, atol=1e-6, rtol=1e-6)


def test_upstream_weights_reach_the_gradient(made):
    ours, torchs = both(*made, weights=torch.tensor([0.5, -2.0, 3.0]))
    torch.testing.assert_close(ours, torchs, atol=1e-6, rtol=1e-6)


THROUGH = {
    "softcap": lambda x: torch.tanh(x / 3) * 3,
    "tanh last": torch.tanh,
    "view of tanh": lambda x: torch.tanh(x).view(x.shape),
    "exp last": lambda x: torch.exp(x / 8),
    "scaled": lambda x: x / 4,
    "cast": lambda x: x.double().float(),
    "not contiguous": lambda x: (
        x[:, :, ::2].repeat(1, 1, 2)[:, :, :11].transpose(0, 1).transpose(0, 1)
    ),
    "expanded": lambda x: x[:, :1].expand(-1, 5, -1),
    "leaf's own": lambda x: x,
}


@pytest.mark.parametrize("through", THROUGH.values(), ids=THROUGH)
def test_no_operation_misses_the_logits_that_were_overwritten(made, through):
    ours, torchs = both(*made, through=through)
    torch.testing.assert_close(ours, torchs, atol=1e-6, rtol=1e-6)


def test_logits_that_are_a_leaf_are_left_alone(made):
    hidden, head, labels = made
    leaf = (hidden @ head).requires_grad_()
    before = leaf.detach().clone()
    cross_entropy(leaf, labels).sum().backward()
    assert torch.equal(leaf, before)


def test_without_gradient_nothing_is_overwritten(made):
    hidden, head, labels = made
    logits = hidden @ head
    before = logits.clone()
    torch.testing.assert_close(cross_entropy(logits, labels), plain(logits, labels))
    assert torch.equal(logits, before)


def test_no_second_copy_of_the_logits_is_held(made):
    hidden, head, labels = made
    logits = hidden.requires_grad_() @ head
    place = logits.data_ptr()
    (gradient,) = torch.autograd.grad(cross_entropy(logits, labels).sum(), logits)
    assert gradient.data_ptr() == place


def test_gradcheck(made):
    hidden, head, labels = (x.double() if x.is_floating_point() else x for x in made)
    leaf = hidden.requires_grad_()
    assert torch.autograd.gradcheck(lambda h: cross_entropy(h @ head, labels), leaf)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_logits_are_summed_wide(made, dtype):
    hidden, head, labels = made
    logits = (hidden @ head).to(dtype)
    wide = logits.float().requires_grad_()
    plain(wide, labels).sum().backward()
    leaf = logits.clone().requires_grad_()
    losses = cross_entropy(leaf * 1, labels)
    losses.sum().backward()
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, plain(logits.float(), labels))
    torch.testing.assert_close(leaf.grad, wide.grad.to(dtype))


def test_large_logits_do_not_overflow(made):
    hidden, head, labels = made
    ours, torchs = both(hidden * 1e4, head, labels)
    torch.testing.assert_close(ours, torchs)


def test_what_is_not_labelled_cannot_reach_the_loss(made):
    hidden, head, labels = made
    spoilt = hidden.clone()
    spoilt[labels == NONE] = float("nan")
    losses, gradient = both(spoilt, head, labels)[0]
    torch.testing.assert_close(losses, plain(hidden @ head, labels))
    assert torch.equal(gradient[labels == NONE], torch.zeros(6, 4))


def test_a_labelled_nan_is_not_hidden(made):
    hidden, head, labels = made
    hidden[2, 2, 0] = float("nan")
    assert cross_entropy(hidden @ head, labels).isnan().tolist() == [False, False, True]


CAUSAL = ["llama", "gpt2", "gemma2", "granite", "mamba", "rwkv"]


def batch_for(vocabulary):
    random = torch.Generator().manual_seed(1)
    ids = torch.randint(12, vocabulary, (3, 7), generator=random)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    labels = torch.cat([ids[:, 1:], torch.full((3, 1), NONE)], dim=1)
    labels[:, :2] = NONE
    labels[1, 4:] = NONE
    inputs = {"input_ids": ids, "attention_mask": mask}
    return Batch(inputs=inputs, labels=labels, token_mask=mask.bool(), index=torch.arange(3))


@pytest.mark.parametrize("name", CAUSAL)
def test_models_keep_what_they_do_to_logits(tiny_text, name):
    model = tiny_text.model(name)
    batch = batch_for(len(tiny_text.VOCABULARY))
    # RWKV's cache is written in place, which its own backward pass does not survive.
    expected = plain(model(**batch.inputs, use_cache=False).logits, batch.labels)
    found = model_losses(model, batch)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    weight = model.get_input_embeddings().weight
    (ours,) = torch.autograd.grad(found.sum(), weight)
    (torchs,) = torch.autograd.grad(expected.sum(), weight)
    torch.testing.assert_close(ours, torchs, atol=1e-6, rtol=5e-5)


def test_a_batch_without_labels(tiny_text):
    from dataclasses import replace

    batch = replace(batch_for(len(tiny_text.VOCABULARY)), labels=None)
    with pytest.raises(ValueError, match="needs a batch with labels"):
        model_losses(tiny_text.model("llama"), batch)
