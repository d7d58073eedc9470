"""Signals of training steps, against what eager attention and retained gradients say."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AttentionInterface

from layerwise.compat.transformers import checkpoint_blocks
from layerwise.profile.step_signals import SignalSums, StepListener, sum_over_processes
from layerwise.tuning.lora import adapted, placed_on
from support.versions import since

OWN_WAY = since("5", "BERT of transformers 4 attends by code of its own")
IDS = torch.arange(11, 35).reshape(2, 12)
MASK = torch.ones_like(IDS)
MASK[1, 7:] = 0


@pytest.fixture
def heard(tuning):
    """Makes a model, and what listens to it; removed after."""
    listeners = []

    def make(name="bert", *, lora=None):
        loaded = tuning.loaded(name)
        if lora is not None:
            loaded = adapted(loaded, placed_on(loaded, lora))
        listener = StepListener(loaded, seed=0)
        listener.attach()
        listeners.append(listener)
        return loaded, listener

    yield make
    for listener in listeners:
        listener.detach()


def step(loaded, ids=IDS, mask=MASK):
    """The backward of some loss."""
    output = loaded.model(input_ids=ids, attention_mask=mask)
    logits = output.logits
    loss = (logits.float().square().mean(-1) * mask).sum() / mask.sum()
    loss.backward()


def slowly(loaded, ids=IDS, mask=MASK):
    """Entropy and gradient norm of each block, from eager attention and retained gradients."""
    model = loaded.model
    model.set_attn_implementation("eager")
    output = model(
        input_ids=ids, attention_mask=mask, output_attentions=True, output_hidden_states=True
    )
    hidden = output.hidden_states[1:]
    for state in hidden:
        state.retain_grad()
    loss = (output.logits.float().square().mean(-1) * mask).sum() / mask.sum()
    loss.backward()
    model.set_attn_implementation("sdpa")
    entropies = []
    for weights in output.attentions:
        rows = torch.special.entr(weights.detach().double()).sum(-1).mean(1)
        entropies.append(float(rows[mask.bool()].mean()))
    return entropies, [float(state.grad.norm()) for state in hidden]


@pytest.mark.parametrize("name", [pytest.param("bert", marks=OWN_WAY), "llama", "gpt2"])
def test_they_are_those_of_the_step(heard, name):
    loaded, listener = heard(name)
    step(loaded)
    found = listener.take().signals(listener.blocks)
    loaded.model.zero_grad()
    entropies, gradients = slowly(loaded)
    assert found.attention_entropy == pytest.approx(entropies, rel=1e-4)
    if name == "bert":  # The last hidden state of the others is after the final norm.
        assert found.activation_gradient == pytest.approx(gradients, rel=1e-3)
    else:
        assert found.activation_gradient[0] == pytest.approx(gradients[0], rel=1e-3)
    assert found.steps == 1


@OWN_WAY
def test_the_forwards_of_a_step_are_taken_together(heard):
    loaded, listener = heard()
    parts = [(IDS[:1], MASK[:1]), (IDS[1:], MASK[1:])]
    apart = []
    for ids, mask in parts:
        step(loaded, ids, mask)
        apart.append(listener.take().signals(listener.blocks))
    for ids, mask in parts:
        step(loaded, ids, mask)
    whole = listener.take().signals(listener.blocks)
    entropies = np.array([found.attention_entropy for found in apart])
    gradients = np.array([found.activation_gradient for found in apart])
    weighed = np.average(entropies, axis=0, weights=[12, 7])
    assert whole.attention_entropy == pytest.approx(weighed)
    assert whole.activation_gradient == pytest.approx(np.hypot(*gradients))
    assert whole.steps == 1


@pytest.mark.parametrize("reentrant", [False, True])
def test_what_is_computed_once_more_in_the_backward_is_heard_once(heard, reentrant):
    loaded, listener = heard("llama")
    step(loaded)
    plain = listener.take().signals(listener.blocks)
    checkpoint_blocks(loaded.model.train(), reentrant=reentrant)
    loaded.model.enable_input_require_grads()
    step(loaded)
    found = listener.take().signals(listener.blocks)
    assert found.activation_gradient == pytest.approx(plain.activation_gradient)
    assert found.attention_entropy == pytest.approx(plain.attention_entropy, rel=0.5)


def test_below_the_lowest_adapter_no_gradient_comes_by(heard):
    loaded, listener = heard("llama", lora=[1])
    step(loaded)
    found = listener.take().signals(listener.blocks)
    assert found.activation_gradient[0] is None
    assert found.activation_gradient[1] > 0
    assert None not in found.attention_entropy


def test_forwards_without_a_gradient_are_none_of_training_s(heard):
    loaded, listener = heard()
    with torch.no_grad():
        loaded.model(input_ids=IDS)
    assert listener.take() == SignalSums(1)


@since("5.16", "T5 of older ones attends by code of its own")
def test_both_sides_of_an_encoder_decoder_are_heard(heard):
    loaded, listener = heard("t5")
    logits = loaded.model(input_ids=IDS, attention_mask=MASK, decoder_input_ids=IDS[:, :5]).logits
    logits.square().mean().backward()
    found = listener.take().signals(listener.blocks)
    assert len(found.blocks) == 4
    assert None not in found.activation_gradient
    assert None not in found.attention_entropy
    # The decoder's five tokens see five at most, the encoder's twelve.
    assert max(found.attention_entropy[2:]) < np.log(5)


def test_a_forward_that_fails_is_not_heard_on(heard):
    original = AttentionInterface()["sdpa"]
    loaded, listener = heard()
    with pytest.raises(IndexError):
        loaded.model(input_ids=IDS + 10_000)
    assert AttentionInterface()["sdpa"] is original
    step(loaded)
    assert listener.take().steps == 1


def test_what_is_not_finite_is_left_out(heard):
    loaded, listener = heard()
    hidden = loaded.model(input_ids=IDS).logits
    (hidden.sum() * float("inf")).backward()
    found = listener.take().merge(SignalSums(1, {("gradient", 0): (3.0, 1)}))
    assert found.signals(listener.blocks).activation_gradient == (3.0, None)


def test_means_are_over_the_steps_that_had_the_number():
    first = SignalSums(2, {("entropy", 0): (4.0, 2)})
    second = SignalSums(1, {("entropy", 0): (1.0, 1), ("gradient", 1): (5.0, 1)})
    found = first.merge(second).signals(["a", "b"])
    assert (found.steps, found.attention_entropy) == (3, (5 / 3, None))
    assert found.activation_gradient == (None, 5.0)
    assert second.merge(first) == replace(first.merge(second))


def test_one_process_is_all_there_is():
    steps = [SignalSums(1, {("entropy", 0): (x, 1), ("gradient", 0): (x, 1)}) for x in (4.0, 0.1)]
    assert sum_over_processes(steps) == steps[0].merge(steps[1])
