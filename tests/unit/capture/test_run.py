"""The pass as a whole: no trace left, no dependence on batching, a stop on non-finites."""

import copy
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AttentionInterface

from layerwise.capture import capture, plan
from layerwise.compat.transformers import checkpoint_blocks
from layerwise.errors import NonFiniteError, UnknownNameError
from layerwise.objectives import OBJECTIVES
from layerwise.seeds import torch_generator
from layerwise.signals import COSTS, SIGNALS
from layerwise.signals.inputs import activation_energy

TIMED = ("forward_seconds", "backward_seconds", "activation_bytes")


def objective(name):
    return OBJECTIVES["masked-lm" if name == "bert" else "causal-lm"]


def passed(tiny, *batches, name="llama", **options):
    """The statistics of a model as it is built, over the usual batch where none is given."""
    wanted = options.pop("wanted", None) or plan(**options)
    return capture(tiny.build(name), objective(name), batches or [tiny.batch(name)], wanted)


def columns(stats):
    measured = [s for s in SIGNALS.values() if not stats.absent.keys() & set(s.needs)]
    return {key: values for s in measured for key, values in s.values(stats).items()}


def state(model):
    """Everything of a model and of torch that a pass could disturb."""
    return {
        "weights": {k: v.clone() for k, v in model.state_dict().items()},
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "gradients": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "modes": [m.training for m in model.modules()],
        "hooks": [
            [len(getattr(m, name)) for name in sorted(vars(m)) if name.endswith("_hooks")]
            for m in model.modules()
        ],
        "flags": [getattr(m, "gradient_checkpointing", None) for m in model.modules()],
        "config": copy.deepcopy(model.config.to_dict()),
        "attention": model.config._attn_implementation,
        "functions": dict(AttentionInterface._global_mapping),
        "rng": torch.get_rng_state(),
    }


def assert_same_state(a, b):
    for name, before in a.items():
        after = b[name]
        if name == "weights":
            assert all(torch.equal(before[k], after[k]) for k in before)
        elif name == "gradients":
            assert all((x is None) == (y is None) and (x is None or torch.equal(x, y))
                       for x, y in zip(before, after, strict=True))  # fmt: skip
        elif name == "rng":
            assert torch.equal(before, after)
        else:
            assert before == after, name


def disturbed(tiny, name):
    """A model in a state of its own: mixed flags, a gradient, train mode, checkpointing."""
    loaded = tiny.build(name)
    model = loaded.model.train()
    if model.supports_gradient_checkpointing:
        checkpoint_blocks(model)
    for i, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(i % 3 != 0)
        if i % 3 == 1:
            parameter.grad = torch.full_like(parameter, 0.5)
    torch.manual_seed(77)
    return loaded


@pytest.mark.parametrize("name", ["llama", "bert", "t5", "mamba", "codegen"])
def test_capturing_changes_nothing_in_the_model(tiny, name):
    loaded = disturbed(tiny, name)
    before = state(loaded.model)
    capture(loaded, objective(name), [tiny.batch(name)], plan())
    assert_same_state(before, state(loaded.model))


@pytest.mark.parametrize("fail_in", ["forward", "loss", "backward"])
def test_capturing_changes_nothing_when_a_batch_raises(tiny, fail_in):
    loaded = disturbed(tiny, "llama")
    good = objective("llama")

    def fail(_gradient):
        raise KeyError("planted")

    def losses(model, batch):
        if fail_in == "forward":
            model(**{**batch.inputs, "input_ids": batch.inputs["input_ids"] + 10_000})
        found = good.losses(model, batch)
        if fail_in == "loss":
            raise KeyError("planted")
        found.register_hook(fail)
        return found

    before = state(loaded.model)
    with pytest.raises((KeyError, IndexError)):
        capture(loaded, replace(good, losses=losses), [tiny.batch("llama")], plan())
    assert_same_state(before, state(loaded.model))


@pytest.mark.parametrize("name", ["llama", "bert", "t5", "mamba"])
@pytest.mark.parametrize("sizes", [[4, 4], [1, 7], [2, 2, 2, 2]])
def test_how_examples_are_batched_changes_nothing(tiny, name, sizes):
    whole = passed(tiny, tiny.batch(name, n=8), name=name)
    edges = np.cumsum([0, *sizes])
    batches = [tiny.batch(name, n=k, first=int(f)) for k, f in zip(sizes, edges, strict=False)]
    split = passed(tiny, *batches[::-1], name=name)
    assert (whole.index == split.index).all()
    for column, values in columns(whole).items():
        np.testing.assert_allclose(columns(split)[column], values, rtol=4e-5, err_msg=column)
    np.testing.assert_allclose(split.gram, whole.gram, rtol=2e-5, atol=1e-6 * whole.gram.max())


def test_padding_and_prompt_do_not_count(tiny):
    """More padding, and other prompts' statistics left out: the same card from a wider batch."""
    batch = tiny.batch("llama")
    wide = {k: torch.nn.functional.pad(v, (0, 5)) for k, v in batch.inputs.items()}
    padded = replace(
        batch,
        inputs=wide,
        labels=torch.nn.functional.pad(batch.labels, (0, 5), value=-100),
        token_mask=torch.nn.functional.pad(batch.token_mask, (0, 5)),
    )
    narrow = passed(tiny, batch, exact_entropy=True)
    widened = passed(tiny, padded, exact_entropy=True)
    for column, values in columns(narrow).items():
        np.testing.assert_allclose(columns(widened)[column], values, rtol=4e-5, err_msg=column)


@pytest.mark.parametrize("signal", SIGNALS)
def test_each_signal_alone_is_what_it_is_among_all(tiny, signal):
    row = SIGNALS[signal]
    alone = passed(tiny, needs=row.needs)
    among = passed(tiny)
    for key, values in row.values(alone).items():
        np.testing.assert_array_equal(values, row.values(among)[key])


def test_only_the_first_examples_are_kept_for_the_gram_matrices(tiny):
    batches = [tiny.batch("llama", n=4), tiny.batch("llama", n=4, first=4)]
    whole = passed(tiny, *batches)
    kept = passed(tiny, *batches, wanted=replace(plan(), gram_examples=3))
    np.testing.assert_allclose(kept.gram, whole.gram[:, :3, :3], rtol=1e-6)


def test_a_sketch_keeps_inner_products(tiny):
    """Johnson-Lindenstrauss: relative error about sqrt(2 / width), on average over pairs."""
    batch = tiny.batch("llama", n=8)
    exact = passed(tiny, batch)
    sketched = passed(tiny, batch, wanted=replace(plan(), sketch_width=16))
    scale = np.sqrt(np.einsum("lii,ljj->lij", exact.gram, exact.gram))
    error = np.abs(sketched.gram - exact.gram) / scale
    assert 0 < error.mean() < 2 * np.sqrt(2 / 16)


@pytest.mark.parametrize("block", [0, 1, 2])
def test_a_non_finite_activation_names_batch_and_block(tiny, block):
    loaded = tiny.build("llama")
    loaded.model.model.layers[block].mlp.down_proj.weight.data[0, 0] = float("inf")
    with pytest.raises(NonFiniteError, match=rf"batch 0, block model.layers.{block}'"):
        capture(loaded, objective("llama"), [tiny.batch("llama")], plan())


def test_a_non_finite_loss_names_the_batch(tiny):
    loaded = tiny.build("llama")
    loaded.model.lm_head.weight = torch.nn.Parameter(loaded.model.lm_head.weight.clone())
    loaded.model.lm_head.weight.data[:] = float("nan")
    with pytest.raises(NonFiniteError, match=r"non-finite loss.*batch 0.*head"):
        capture(loaded, objective("llama"), [tiny.batch("llama")], plan())


def test_a_non_finite_gradient_names_batch_and_block(tiny):
    loaded = tiny.build("llama")

    def explode(_, args):
        args[0].register_hook(lambda gradient: gradient * float("inf"))

    loaded.model.model.layers[2].register_forward_pre_hook(explode)
    with pytest.raises(NonFiniteError, match=r"non-finite gradient.*batch 0.*model.layers.1"):
        capture(loaded, objective("llama"), [tiny.batch("llama")], plan())


def test_an_unknown_target_is_named(tiny):
    with pytest.raises(UnknownNameError, match=r"q_prj.*did you mean 'q_proj'"):
        passed(tiny, targets=["q_prj"])


def test_a_routed_expert_cannot_be_measured_by_example(tiny):
    stats = passed(tiny, name="qwen3_moe")
    assert not any("experts" in m.name for m in stats.modules)


def test_times_and_bytes_are_the_models_own(tiny):
    stats = passed(tiny)
    for name in TIMED:
        assert (COSTS[name].compute(stats) > 0).all()
    inside = np.nansum(stats.forward_seconds) + np.nansum(stats.backward_seconds)
    assert inside + stats.outside_seconds.sum() < stats.seconds


def test_saved_bytes_grow_with_the_batch_and_hold_no_weights(tiny):
    small = passed(tiny, tiny.batch("llama", n=2))
    large = passed(tiny, tiny.batch("llama", n=8))
    ratio = large.activation_bytes.sum() / small.activation_bytes.sum()
    assert 3.5 < ratio < 4.5


def test_simcse_folds_both_views_into_one_example(tiny):
    loaded = tiny.build("bert")
    loaded.model.config.hidden_dropout_prob = 0.1
    single = tiny.batch("bert", n=3)
    twice = replace(
        single,
        inputs={k: torch.cat([v, v]) for k, v in single.inputs.items()},
        labels=torch.cat([single.labels] * 2),
        token_mask=torch.cat([single.token_mask] * 2),
        index=torch.cat([single.index] * 2),
    )
    once = capture(loaded, objective("bert"), [single], plan())
    folded = capture(loaded, objective("bert"), [twice], plan())
    assert list(folded.index) == [0, 1, 2]
    np.testing.assert_allclose(folded.losses, 2 * once.losses, rtol=1e-5)
    np.testing.assert_allclose(folded.column_energy, 4 * once.column_energy, rtol=1e-4)
    np.testing.assert_allclose(activation_energy(folded), activation_energy(once), rtol=1e-5)


def test_a_module_that_runs_twice_has_the_sum_of_both_gradients(tiny):
    loaded, batch = tiny.build("llama"), tiny.batch("llama", n=1)
    attention = loaded.model.model.layers[1].self_attn
    attention.k_proj = attention.v_proj
    stats = capture(loaded, objective("llama"), [batch], plan(["gradients"], rank=4))
    name = next(m.name for m in stats.modules if re.search(r"1.self_attn.[kv]_proj", m.name))
    down = torch.randn(4, 32, generator=torch_generator(0, "lora_A", name)) / 32**0.5
    up = torch.zeros(attention.v_proj.out_features, 4, requires_grad=True)
    loaded.model.requires_grad_(False)
    attention.v_proj.register_forward_hook(lambda _, args, out: out + args[0] @ down.T @ up.T)
    objective("llama").losses(loaded.model, batch).sum().backward()
    m = [module.name for module in stats.modules].index(name)
    np.testing.assert_allclose(stats.column_energy[0, m, :4], up.grad.square().sum(0), rtol=1e-3)
