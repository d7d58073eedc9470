"""What every objective promises, over each member of the registry and each kind that it is for."""

from dataclasses import replace

import pytest
import torch

from layerwise.models.heads import class_ids
from layerwise.models.load import LoadedModel
from layerwise.models.stack import find_stacks
from layerwise.models.targets import default_targets
from layerwise.objectives import OBJECTIVES, decoder_start, resolve
from layerwise.seeds import rng_untouched
from support import objectives

DEPRECATED = "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"  # read by peft

LIMIT = 12
every = objectives.every()


class Case:
    """An objective with a model and the batches that it makes for it."""

    def __init__(self, name, kind, model):
        self.objective, self.kind, self.name = OBJECTIVES[name], kind, model
        self.data = objectives.data_for(self.objective, 7)
        loaded = objectives.loaded_as(kind, model)
        self.model, self.tokenizer = loaded.model, loaded.tokenizer

    @property
    def loaded(self):
        stacks = find_stacks(self.model)
        return LoadedModel(self.model, self.tokenizer, "test", self.kind, stacks)

    def batches(self, *, batch_size=3, seed=0, data=None):
        return self.objective.make_batches(
            self.tokenizer, data or self.data, batch_size=batch_size, max_length=LIMIT, seed=seed,
            kind=self.kind, decoder_start=decoder_start(self.model), classes=class_ids(self.model),
        )  # fmt: skip

    def losses(self, batch):
        with rng_untouched(5), self.objective.prepare(self.model):
            return self.objective.losses(self.model, batch)


@pytest.fixture
def case(request):
    return Case(*request.param)


def tensors(batch):
    """Each tensor of `batch` by its name."""
    found = {name: value for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    return {**found, **batch.inputs}


def same(one, two):
    left, right = tensors(one), tensors(two)
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@every
def test_one_finite_loss_a_row(case):
    for batch in case.batches().batches:
        losses = case.losses(batch)
        assert losses.shape == (len(batch),)
        assert losses.dtype == torch.float32
        assert (losses.isfinite() & (losses >= 0)).all()


@every
def test_every_example_is_in_one_batch(case):
    found = case.batches()
    seen = [set(batch.index.tolist()) for batch in found.batches]
    assert sorted(i for batch in seen for i in batch) == list(range(len(case.data)))
    assert found.dropped == 0
    assert found.truncated > 0


@every
def test_the_same_arguments_make_the_same_batches(case):
    for one, two in zip(case.batches().batches, case.batches().batches, strict=True):
        assert same(one, two)
    asked = {"batch_size": 3, "max_length": LIMIT, "seed": 0}
    told = case.objective.batches_for(case.loaded, case.data, **asked)
    assert all(same(a, b) for a, b in zip(told.batches, case.batches().batches, strict=True))


SEEDED = {"causal-span", "masked-lm", "span-denoise", "nsp", "simcse", "barlow-twins"}


@every
def test_another_seed_makes_other_batches_where_something_is_drawn(case):
    pairs = zip(case.batches().batches, case.batches(seed=1).batches, strict=True)
    assert all(same(one, two) for one, two in pairs) == (case.objective.name not in SEEDED)


@every
def test_some_of_the_examples_make_one_batch_of_their_own(case):
    some = replace(case.data, examples=case.data.examples[2:6])
    (batch,) = case.batches(data=some, batch_size=4, seed=9).batches
    assert set(batch.index.tolist()) == {0, 1, 2, 3}
    assert case.losses(batch).isfinite().all()


@every
def test_padding_is_on_the_right_and_counts_nowhere(case):
    for batch in case.batches().batches:
        attended = batch.inputs["attention_mask"].bool()
        assert batch.inputs["input_ids"].shape[1] <= LIMIT
        assert attended.any(0).all()
        assert torch.equal(attended.int().cummin(1).values.bool(), attended)
        assert not (batch.token_mask & ~attended).any()
        assert batch.token_mask.any(1).all()
        if batch.labels is not None:
            assert (batch.labels != -100).any(1).all()


@every
def test_there_is_one_kind_of_target(case):
    for batch in case.batches().batches:
        targets = (batch.labels, batch.pooled, batch.classes)
        assert sum(target is not None for target in targets) == 1


@every
def test_what_pads_changes_no_loss(case):
    if case.name == "llama_classifier":
        pytest.skip("transformers finds the last token of a causal classifier by the padding's id")
    for batch in case.batches().batches:
        before = case.losses(batch)
        padding = ~batch.inputs["attention_mask"].bool()
        batch.inputs["input_ids"][padding] = 20
        torch.testing.assert_close(case.losses(batch), before, atol=2e-6, rtol=1e-5)


@every
def test_how_rows_are_batched_changes_no_loss_unless_coupled(case):
    def by_index(batch_size):
        with torch.no_grad():
            pairs = [(b.index, case.losses(b)) for b in case.batches(batch_size=batch_size).batches]
        order = torch.cat([index for index, _ in pairs]).argsort(stable=True)
        return torch.cat([losses for _, losses in pairs])[order]

    same = torch.allclose(by_index(3), by_index(7), atol=2e-6, rtol=1e-5)
    assert same != case.objective.coupled


@every
def test_the_same_seed_gives_the_same_loss_and_another_does_not_where_stochastic(case):
    (batch, *_) = case.batches().batches
    first = case.losses(batch)
    assert torch.equal(case.losses(batch), first)
    with rng_untouched(6), case.objective.prepare(case.model):
        other = case.objective.losses(case.model, batch)
    assert torch.equal(other, first) != case.objective.stochastic


def is_finite_and_not_zero(gradient):
    return gradient is not None and gradient.isfinite().all() and gradient.abs().sum() > 0


def first_block(model):
    return model.get_submodule(find_stacks(model)[0].blocks[0])


@every
def test_gradients_reach_the_first_block_and_only_parameters_there_are(case):
    before = {name for name, _ in case.model.named_parameters()}
    (batch, *_) = case.batches().batches
    case.losses(batch).sum().backward()
    assert is_finite_and_not_zero(case.model.get_input_embeddings().weight.grad)
    assert any(is_finite_and_not_zero(p.grad) for p in first_block(case.model).parameters())
    assert {name for name, _ in case.model.named_parameters()} == before


@every
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
def test_gradients_are_the_same_under_checkpointing(case):
    (batch, *_) = case.batches().batches
    if not case.model.supports_gradient_checkpointing:
        pytest.skip("transformers 4 has no checkpointing of this architecture")

    def gradient():
        case.model.zero_grad()
        case.losses(batch).mean().backward()
        return case.model.get_input_embeddings().weight.grad.clone()

    case.model.train()
    plain = gradient()
    case.model.gradient_checkpointing_enable({"use_reentrant": False})
    torch.testing.assert_close(gradient(), plain)


@every
def test_losses_under_bfloat16_are_near(case):
    (batch, *_) = case.batches().batches
    exact = case.losses(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = case.losses(batch)
    found.mean().backward()
    assert found.dtype == torch.float32
    assert is_finite_and_not_zero(case.model.get_input_embeddings().weight.grad)
    torch.testing.assert_close(found.mean(), exact.mean(), rtol=0.1, atol=0.02)


@every
@pytest.mark.filterwarnings(DEPRECATED)
def test_adapters_get_gradients_and_change_no_loss_before_they_are_trained(case):
    from peft import LoraConfig, get_peft_model

    (batch, *_) = case.batches().batches
    expected = case.losses(batch).detach()
    targets = list(default_targets(case.model, find_stacks(case.model)))
    is_transposed = case.name == "gpt2"
    config = LoraConfig(target_modules=targets, fan_in_fan_out=is_transposed)
    case.model = get_peft_model(case.model, config).eval()
    losses = case.losses(batch)
    torch.testing.assert_close(losses.detach(), expected, atol=2e-6, rtol=1e-5)
    losses.mean().backward()
    block = first_block(case.model.get_base_model())
    assert any(is_finite_and_not_zero(p.grad) for n, p in block.named_parameters() if "lora_B" in n)


@every
def test_each_block_runs_once_a_batch(case):
    (batch, *_) = case.batches().batches
    runs = []
    blocks = [name for stack in find_stacks(case.model) for name in stack.blocks]
    for name in blocks:
        case.model.get_submodule(name).register_forward_hook(
            lambda *_, name=name: runs.append(name)
        )
    case.losses(batch)
    assert sorted(runs) == sorted(blocks)


@every
def test_the_model_is_as_it_was(case):
    state = {name: value.clone() for name, value in case.model.state_dict().items()}
    case.losses(case.batches().batches[0]).sum().backward()
    assert not any(module.training for module in case.model.modules())
    assert not any(module._forward_hooks for module in case.model.modules())
    assert all(torch.equal(state[name], v) for name, v in case.model.state_dict().items())


@every
def test_members_are_found_under_their_own_name(case):
    name = case.objective.name
    assert resolve(name, loaded=case.loaded, data=case.data) is OBJECTIVES[name]
