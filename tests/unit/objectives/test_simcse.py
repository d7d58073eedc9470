import pytest
import torch
from torch.nn.functional import cosine_similarity

from layerwise.data import Example, TextData
from layerwise.errors import BadInputError, DataError
from layerwise.objectives import OBJECTIVES
from layerwise.objectives.simcse import SimCSE

SIMCSE = OBJECTIVES["simcse"]


def texts(count):
    examples = tuple(
        Example(" ".join(f"w{(i + j) % 50}" for j in range(2 + i % 5))) for i in range(count)
    )
    return TextData("test", "", examples, {"text": "text"}, count)


def batches(tiny_text, count, *, batch_size=4, seed=0, kind="encoder"):
    tokenizer = tiny_text.tokenizer(frame=tiny_text.USUAL_FRAME[kind])
    return SIMCSE.make_batches(
        tokenizer, texts(count), batch_size=batch_size, max_length=16, seed=seed, kind=kind
    )


def test_each_text_is_there_twice_in_order(tiny_text):
    for batch in batches(tiny_text, 9).batches:
        half = len(batch) // 2
        for tensor in (*batch.inputs.values(), batch.index, batch.token_mask, batch.pooled):
            assert torch.equal(tensor[:half], tensor[half:])
        assert batch.labels is None


def test_tokens_are_counted_once(tiny_text):
    found = batches(tiny_text, 8)
    assert found.tokens * 2 == sum(int(batch.token_mask.sum()) for batch in found.batches)


@pytest.mark.parametrize(("count", "sizes"), [(8, [4, 4]), (9, [4, 5]), (10, [4, 4, 2]), (2, [2])])
def test_no_text_is_left_without_negatives(tiny_text, count, sizes):
    found = batches(tiny_text, count)
    assert [len(batch) // 2 for batch in found.batches] == sizes
    seen = sorted(i for batch in found.batches for i in batch.index[: len(batch) // 2].tolist())
    assert seen == list(range(count))


def test_the_seed_mixes_the_batches(tiny_text):
    order = [[b.index.tolist() for b in batches(tiny_text, 20, seed=s).batches] for s in (0, 0, 1)]
    assert order[0] == order[1] != order[2]


def test_one_text_has_no_negatives(tiny_text):
    with pytest.raises(DataError, match=r"other texts to tell a text from.*at least 2 examples"):
        batches(tiny_text, 1)


def test_a_batch_of_one_has_no_negatives(tiny_text):
    with pytest.raises(
        BadInputError, match=r"no negatives: '1'; expected at least 2.*--batch-size"
    ):
        batches(tiny_text, 4, batch_size=1)


@pytest.mark.parametrize(
    ("name", "kind"), [("encoder", "encoder"), ("bert", "masked"), ("llama", "causal")]
)
def test_losses_are_the_two_ways_of_infonce(tiny_text, name, kind):
    model = tiny_text.model(name)
    (batch,) = batches(tiny_text, 4, kind=kind).batches
    found = SIMCSE.losses(model, batch)
    states = model.base_model(**batch.inputs).last_hidden_state
    ends = batch.inputs["attention_mask"].sum(1) - 1
    rows = [state[ends[i] if kind == "causal" else 0] for i, state in enumerate(states)]
    expected = []
    for i in range(8):
        others = rows[4:] if i < 4 else rows[:4]
        scores = torch.stack([cosine_similarity(rows[i], other, dim=0) for other in others]) / 0.05
        expected.append(scores.logsumexp(0) - scores[i % 4])
    torch.testing.assert_close(found, torch.stack(expected))


def test_temperature_divides_the_cosines(tiny_text):
    model = tiny_text.model("encoder")
    (batch,) = batches(tiny_text, 4).batches
    cold, warm = (SimCSE(temperature=t).losses(model, batch) for t in (0.05, 1e6))
    assert not torch.allclose(cold, warm)
    torch.testing.assert_close(warm, torch.full((8,), torch.log(torch.tensor(4.0)).item()))


def test_a_batch_that_pools_nothing(tiny_text):
    from dataclasses import replace

    (batch,) = batches(tiny_text, 4).batches
    with pytest.raises(ValueError, match="says which tokens are pooled"):
        SIMCSE.losses(tiny_text.model("encoder"), replace(batch, pooled=None))


def states_of(model):
    return [(m.training, len(m._forward_hooks)) for m in model.modules()]


@pytest.mark.parametrize(("name", "noted"), [("encoder", False), ("gpt2", False), ("llama", True)])
def test_views_differ_inside_and_nothing_stays_changed(tiny_text, name, noted):
    model = tiny_text.model(name)
    model.get_submodule("").train(mode=False)
    (batch,) = batches(tiny_text, 4, kind=tiny_text.kind(name)).batches
    before = states_of(model)
    quiet = SIMCSE.losses(model, batch)
    torch.testing.assert_close(quiet, SIMCSE.losses(model, batch))
    with SIMCSE.prepare(model) as notes:
        noisy = SIMCSE.losses(model, batch)
        assert not torch.allclose(noisy, SIMCSE.losses(model, batch))
    assert states_of(model) == before
    torch.testing.assert_close(SIMCSE.losses(model, batch), quiet)
    assert notes == (
        ("the model has no dropout: 0.1 was put on its input embeddings",) if noted else ()
    )


@pytest.mark.parametrize("name", ["encoder", "llama"])
def test_nothing_stays_changed_after_an_error(tiny_text, name):
    model = tiny_text.model(name)
    before, message = states_of(model), "planted"
    with pytest.raises(RuntimeError, match="planted"), SIMCSE.prepare(model):
        raise RuntimeError(message)
    assert states_of(model) == before


# peft reads a name that transformers is about to drop.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_adapters_are_looked_through(tiny_text):
    from peft import LoraConfig, get_peft_model

    (batch,) = batches(tiny_text, 4, kind="causal").batches
    expected = SIMCSE.losses(tiny_text.model("llama"), batch)
    wrapped = get_peft_model(tiny_text.model("llama"), LoraConfig(target_modules=["q_proj"])).eval()
    torch.testing.assert_close(SIMCSE.losses(wrapped, batch), expected)
