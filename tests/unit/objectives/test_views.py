"""Two views of each text, as both losses that compare them use them."""

from dataclasses import replace

import pytest
import torch

from layerwise.errors import BadInputError, DataError
from layerwise.objectives.barlow_twins import cross_correlation_loss
from layerwise.objectives.simcse import contrast
from layerwise.objectives.views import noise, views
from support import examples
from support.examples import words

DEPRECATED = "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"  # read by peft


def batches(tiny_text, count, *, name="simcse", batch_size=4, seed=0, kind="encoder"):
    tokenizer = tiny_text.tokenizer(frame=tiny_text.USUAL_FRAME[kind])
    made = [words(2 + i % 5, start=i) for i in range(count)]
    return examples.batches(name, tokenizer, made, batch_size=batch_size, seed=seed, kind=kind)


def test_each_text_is_there_twice_in_order(tiny_text):
    for batch in batches(tiny_text, 9).batches:
        half = len(batch) // 2
        for tensor in (*batch.inputs.values(), batch.index, batch.token_mask, batch.pooled):
            assert torch.equal(tensor[:half], tensor[half:])
        assert batch.labels is None


def test_tokens_are_counted_once(tiny_text):
    found = batches(tiny_text, 8)
    assert found.tokens * 2 == sum(int(batch.token_mask.sum()) for batch in found.batches)


@pytest.mark.parametrize(
    ("name", "count", "sizes"),
    [
        ("simcse", 8, [4, 4]),
        ("simcse", 9, [4, 5]),
        ("simcse", 10, [4, 4, 2]),
        ("simcse", 2, [2]),
        ("barlow-twins", 8, [4, 4]),
        ("barlow-twins", 9, [4, 5]),
        ("barlow-twins", 10, [4, 6]),
        ("barlow-twins", 11, [4, 4, 3]),
        ("barlow-twins", 3, [3]),
    ],
)
def test_no_text_is_left_with_too_few_others(tiny_text, name, count, sizes):
    found = batches(tiny_text, count, name=name)
    assert [len(batch) // 2 for batch in found.batches] == sizes
    seen = sorted(i for batch in found.batches for i in batch.index[: len(batch) // 2].tolist())
    assert seen == list(range(count))


@pytest.mark.parametrize(("name", "least"), [("simcse", 2), ("barlow-twins", 3)])
def test_too_few_texts(tiny_text, name, least):
    with pytest.raises(DataError, match=f"{name} needs other texts .*at least {least} examples"):
        batches(tiny_text, least - 1, name=name)
    with pytest.raises(
        BadInputError,
        match=f"leaves {name} too few texts .*'{least - 1}'; expected at least {least}; try",
    ):
        batches(tiny_text, 9, name=name, batch_size=least - 1)


@pytest.mark.parametrize(
    ("name", "kind"), [("encoder", "encoder"), ("bert", "masked"), ("llama", "causal")]
)
def test_vectors_are_the_states_of_the_token_that_sees_most(tiny_text, name, kind):
    model = tiny_text.model(name)
    (batch,) = batches(tiny_text, 4, kind=kind).batches
    states = model.base_model(**batch.inputs).last_hidden_state
    ends = batch.inputs["attention_mask"].sum(1) - 1
    rows = [state[ends[i] if kind == "causal" else 0] for i, state in enumerate(states)]
    torch.testing.assert_close(torch.cat(views(model, batch)), torch.stack(rows))


def test_a_batch_that_pools_nothing(tiny_text):
    (batch,) = batches(tiny_text, 4).batches
    with pytest.raises(ValueError, match="says which tokens are pooled"):
        views(tiny_text.model("encoder"), replace(batch, pooled=None))


def states_of(model):
    return [(m.training, len(m._forward_hooks)) for m in model.modules()]


@pytest.mark.parametrize(("name", "noted"), [("encoder", False), ("gpt2", False), ("llama", True)])
def test_views_differ_inside_and_nothing_stays_changed(tiny_text, name, noted):
    model = tiny_text.model(name)
    model.get_submodule("").train(mode=False)
    (batch,) = batches(tiny_text, 4, kind=tiny_text.kind(name)).batches
    before = states_of(model)
    quiet = views(model, batch)
    torch.testing.assert_close(quiet[0], quiet[1])
    with noise(model) as notes:
        first, second = views(model, batch)
        assert not torch.allclose(first, second)
    assert states_of(model) == before
    torch.testing.assert_close(views(model, batch), quiet)
    assert notes == (
        ("the model has no dropout: 0.1 was put on its input embeddings",) if noted else ()
    )


@pytest.mark.parametrize("name", ["encoder", "llama"])
def test_nothing_stays_changed_after_an_error(tiny_text, name):
    model = tiny_text.model(name)
    before, message = states_of(model), "planted"
    with pytest.raises(RuntimeError, match="planted"), noise(model):
        raise RuntimeError(message)
    assert states_of(model) == before


def adapted(model, **options):
    from peft import LoraConfig, get_peft_model

    return get_peft_model(model, LoraConfig(**options)).eval()


@pytest.mark.filterwarnings(DEPRECATED)
def test_dropout_of_a_new_adapter_tells_no_views_apart(tiny_text):
    (batch,) = batches(tiny_text, 4, kind="causal").batches
    wrapped = adapted(tiny_text.model("llama"), target_modules=["q_proj"], lora_dropout=0.1)
    with noise(wrapped) as notes:
        first, second = views(wrapped, batch)
    assert not torch.allclose(first, second)
    assert notes == ("the model has no dropout: 0.1 was put on its input embeddings",)


@pytest.mark.parametrize("loss", [contrast, cross_correlation_loss])
def test_losses_of_views_are_not_rounded_under_autocast(loss):
    pair = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(*pair)
    assert torch.equal(found, loss(*pair))
