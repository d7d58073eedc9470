"""What every objective promises, over each member of the registry and each kind that it is for."""

import pytest
import torch

from layerwise.data import Example, TextData
from layerwise.objectives import OBJECTIVES, decoder_start, resolve
from layerwise.seeds import rng_untouched

MODELS = {
    "causal": ["llama", "gpt2", "gemma2", "mamba", "rwkv"],
    "masked": ["bert"],
    "encoder": ["encoder"],
    "seq2seq": ["t5"],
}
CASES = [
    pytest.param(name, kind, model, id=f"{name}-{model}")
    for name, objective in OBJECTIVES.items()
    for kind in sorted(objective.kinds)
    for model in MODELS[kind]
]
LIMIT = 12


def words(count, start):
    return " ".join(f"w{(3 * i + start) % 50}" for i in range(count))


def data_for(objective, count=7):
    prompted = objective.needs_prompt
    examples = tuple(
        Example(words(3 + 2 * i, i), prompt=words(1 + i % 3, 7 + i) if prompted else None)
        for i in range(count)
    )
    columns = {"text": "text"} | ({"prompt": "prompt"} if prompted else {})
    return TextData("test", "", examples, columns, count)


class Case:
    """An objective with a model and the batches that it makes for it."""

    def __init__(self, tiny_text, name, kind, model):
        self.objective, self.kind = OBJECTIVES[name], kind
        self.data = data_for(self.objective)
        self.tokenizer = tiny_text.tokenizer(frame=tiny_text.USUAL_FRAME[kind])
        self.model = tiny_text.model(model)

    def batches(self, *, batch_size=3, seed=0):
        return self.objective.make_batches(
            self.tokenizer, self.data, batch_size=batch_size, max_length=LIMIT, seed=seed,
            kind=self.kind, decoder_start=decoder_start(self.model),
        )  # fmt: skip

    def losses(self, batch):
        with rng_untouched(5), self.objective.prepare(self.model):
            return self.objective.losses(self.model, batch)


@pytest.fixture
def case(tiny_text, request):
    return Case(tiny_text, *request.param)


def every(function):
    """`function` over each objective, kind and model."""
    params = [pytest.param(p.values, id=p.id) for p in CASES]
    return pytest.mark.parametrize("case", params, indirect=True)(function)


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
        assert torch.equal(one.index, two.index)
        assert all(torch.equal(one.inputs[key], two.inputs[key]) for key in one.inputs)


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
def test_what_pads_changes_no_loss(case):
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

    same = torch.allclose(by_index(2), by_index(7), atol=2e-6, rtol=1e-5)
    assert same != case.objective.coupled


@every
def test_the_same_seed_gives_the_same_loss_and_another_does_not_where_stochastic(case):
    (batch, *_) = case.batches().batches
    first = case.losses(batch)
    assert torch.equal(case.losses(batch), first)
    with rng_untouched(6), case.objective.prepare(case.model):
        other = case.objective.losses(case.model, batch)
    assert torch.equal(other, first) != case.objective.stochastic


@every
def test_gradients_reach_the_embeddings_and_only_parameters_there_are(case):
    before = {name for name, _ in case.model.named_parameters()}
    (batch, *_) = case.batches().batches
    case.losses(batch).sum().backward()
    gradient = case.model.get_input_embeddings().weight.grad
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0
    assert {name for name, _ in case.model.named_parameters()} == before


@every
def test_each_block_runs_once_a_batch(case):
    (batch, *_) = case.batches().batches
    runs = []
    names = [n for n, _ in case.model.named_modules() if n.endswith((".0", ".1"))]
    blocks = [n for n in names if n.count(".") == min(m.count(".") for m in names)]
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


@pytest.mark.parametrize("name", OBJECTIVES)
def test_members_are_found_under_their_own_name(name):
    objective = OBJECTIVES[name]
    assert objective.name == name
    for kind in objective.kinds:
        assert resolve(name, kind=kind, data=data_for(objective)) is objective
