"""A number that is not finite is traced to the layer group that it comes from."""

from dataclasses import replace

import pytest
import torch

from layerwise.data.text import Example
from layerwise.errors import NonFiniteError
from layerwise.models.stack import all_refs

FINITE = r"expected finite numbers; try: a smaller --learning-rate"


def spoil_gradient(module, value=float("nan")):
    """Have the gradient that leaves `module` downwards be `value`, the loss being what it is."""

    def hook(_module, grads, _outputs):
        return tuple(None if g is None else torch.full_like(g, value) for g in grads)

    module.register_full_backward_hook(hook)


def spoil_output(module, value):
    """Have `module` put out `value` for every text that has the word w49 in it."""

    def hook(_module, _args, output):
        states = output[0] if isinstance(output, tuple) else output
        with torch.no_grad():
            states[0, -1] = value
        return output

    module.register_forward_hook(hook)


def blocks(loaded):
    return [loaded.model.get_submodule(ref.name) for ref in all_refs(loaded.stacks)]


@pytest.mark.parametrize("name", ["llama", "bert", "encoder", "t5"])
def test_a_nan_weight_is_found(tuning, name):
    loaded = tuning.loaded(name)
    ref = all_refs(loaded.stacks)[-1]
    with torch.no_grad():
        next(loaded.model.get_submodule(ref.name).parameters()).view(-1)[3] = float("nan")
    with pytest.raises(
        NonFiniteError, match=rf"loss \(nan\) in step 1: 'layer group {ref.name}'; {FINITE}"
    ):
        tuning.tune(loaded)


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "mamba", "t5"])
@pytest.mark.parametrize("row", [0, 1])
def test_an_infinite_activation_is_found_where_it_arises(tuning, name, row):
    loaded = tuning.loaded(name)
    spoil_output(blocks(loaded)[row], float("inf"))
    ref = all_refs(loaded.stacks)[row]
    with pytest.raises(NonFiniteError, match=rf"in step 1: 'layer group {ref.name}'"):
        tuning.tune(loaded)


def infinite_embeddings(model):
    with torch.no_grad():
        model.get_input_embeddings().weight[:] = float("inf")


def nan_final_norm(model):
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")


@pytest.mark.parametrize(
    ("name", "spoil", "options", "said"),
    [
        ("llama", infinite_embeddings, {}, "loss"),
        ("bert", lambda model: spoil_output(model.bert.embeddings, float("nan")), {}, "loss"),
        ("llama", lambda model: spoil_gradient(model.get_output_embeddings()), {}, "gradient"),
        ("bert", lambda model: spoil_gradient(model.get_output_embeddings()), {}, "gradient"),
        ("llama", nan_final_norm, {"eval_examples": 4}, "evaluation loss in step 0"),
    ],
)
def test_what_is_bad_outside_the_blocks_is_of_the_rest(tuning, name, spoil, options, said):
    loaded = tuning.loaded(name)
    spoil(loaded.model)
    with pytest.raises(NonFiniteError, match=rf"non-finite {said}.*: 'layer group rest'"):
        tuning.tune(loaded, **options)


def test_one_example_is_enough_wherever_it_comes(tuning):
    """A word that no other text has, whose embedding is infinite, late in the epoch."""
    loaded, data = tuning.loaded("llama"), tuning.data()
    texts = [Example("w0 w1 w2 w3") for _ in data.examples]
    texts[5] = Example("w0 w49 w1")
    odd = loaded.tokenizer.convert_tokens_to_ids("w49")
    loaded.model.get_input_embeddings().register_forward_hook(
        lambda _module, args, output: output.masked_fill((args[0] == odd)[..., None], float("inf"))
    )
    lines = []
    with pytest.raises(NonFiniteError, match=r"in step [2-6]"):
        tuning.tune(
            loaded, data=replace(data, examples=tuple(texts)), steps=6, on_step=lines.append
        )
    assert lines
    assert all(line["loss"] < 100 for line in lines)


@pytest.mark.parametrize("name", ["llama", "bert", "t5"])
@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_is_found_where_it_arises(tuning, name, row, value):
    """The spoilt gradient leaves the block downwards: the block beneath is the highest it is in."""
    loaded = tuning.loaded(name)
    stack = loaded.stacks[-1]
    module = loaded.model.get_submodule(stack.blocks[row])
    spoil_gradient(module, value)
    lowest = "rest" if name != "t5" else "encoder.block.1"
    with pytest.raises(NonFiniteError, match="non-finite gradient in step 1") as caught:
        tuning.tune(loaded)
    beneath = lowest if row == 0 else stack.blocks[0]
    assert caught.value.value == f"layer group {beneath}"


def test_under_lora_the_adapter_s_block_is_named(tuning):
    loaded = tuning.loaded("llama")
    spoil_gradient(blocks(loaded)[1])
    with pytest.raises(NonFiniteError, match=r"gradient .*layer group model.layers.0'"):
        tuning.tune(loaded, condition="lora")


@pytest.mark.parametrize("condition", ["standard", "equal-step"])
@pytest.mark.parametrize("log_every", [1, 10])
def test_a_rate_out_of_all_bounds_ends_within_two_steps(tuning, condition, log_every):
    """The first step is huge, and the next loss shows it at the latest."""
    options = {"tau": 1e30} if condition == "equal-step" else {"learning_rate": 1e30}
    with pytest.raises(NonFiniteError, match=r"layer group (model\.layers\.\d|rest)") as caught:
        tuning.tune("llama", condition=condition, steps=20, log_every=log_every, **options)
    assert "step 3" not in str(caught.value)


def test_the_last_step_s_weights_are_looked_at(tuning):
    """Huge but finite weights square to infinity: no step comes after to show it."""
    with pytest.raises(NonFiniteError, match="layer group"):
        tuning.tune("llama", learning_rate=3e38, weight_decay=0.0, steps=2, log_every=5)


def test_the_model_is_put_back_after_a_fault(tuning):
    loaded = tuning.loaded("llama")
    loaded.model.lm_head.weight.requires_grad_(False)
    wanted = [p.requires_grad for p in loaded.model.parameters()]
    hooks = sum(len(m._forward_hooks) for m in loaded.model.modules())
    nan_final_norm(loaded.model)
    with pytest.raises(NonFiniteError):
        tuning.tune(loaded, gradient_checkpointing=True)
    assert [p.requires_grad for p in loaded.model.parameters()] == wanted
    assert all(p.grad is None for p in loaded.model.parameters())
    assert sum(len(m._forward_hooks) for m in loaded.model.modules()) == hooks
    assert not loaded.model.training
