from dataclasses import replace
from types import SimpleNamespace

import pytest

from layerwise.data import Example
from layerwise.objectives import OBJECTIVES, resolve
from layerwise.objectives.length import MOST, fitted, reach
from support import objectives
from support.examples import of, words


@pytest.fixture
def case(request):
    return request.param


def fit(tuning, texts, name="llama", objective="auto", max_length=None, **config):
    loaded, data = tuning.loaded(name, **config), of(*texts)
    return fitted(loaded, data, resolve(objective, loaded=loaded, data=data), max_length)


def test_a_length_that_is_given_stays_without_a_word(tuning):
    texts = [words(3), words(9)]
    assert fit(tuning, texts, max_length=5) == (5, of(*texts))


def test_nineteen_of_twenty_examples_need_no_more(tuning):
    length, data = fit(tuning, [words(4)] * 90 + [words(9)] * 5 + [words(30)] * 5)
    assert length == 10  # Its start and nine words.
    assert data.notes == ("examples are cut at 10 tokens; 5% of them are longer",)


def test_few_examples_are_all_whole_and_that_is_said(tuning):
    length, data = fit(tuning, [words(n) for n in range(2, 12)])
    assert length == 12
    assert data.notes == ("no example is longer than 12 tokens",)
    length, data = fit(tuning, [words(4)] * 299 + [words(9)])
    assert data.notes == ("examples are cut at 5 tokens; less than 1% of them are longer",)


def test_an_objective_that_does_not_tell_lengths_has_none_made_up(tuning):
    loaded, data = tuning.loaded(), of(words(4), words(9))
    plain = OBJECTIVES["causal-lm"]

    def untold(*args, **options):
        return replace(plain.batches_for(*args, **options), needs=())

    mute = SimpleNamespace(batches_for=untold)
    length, data = fitted(loaded, data, mute, None)
    assert data.notes == (f"examples are cut at {length:,} tokens; some may be longer",)


def test_of_much_data_some_are_looked_at_evenly(tuning):
    texts = [words(4)] * 2000 + [words(9)] * 1000
    assert fit(tuning, texts)[0] == 10


def test_the_model_s_limit_holds(tuning):
    long = [words(100)] * 4
    assert fit(tuning, long, max_position_embeddings=50)[0] == 50
    assert fit(tuning, long, name="gpt2")[0] == min(100, reach(tuning.loaded("gpt2")))
    loaded, data = tuning.loaded(), of(*long)
    loaded.tokenizer.model_max_length = 40
    length, data = fitted(loaded, data, OBJECTIVES["causal-lm"], None)
    assert (length, data.notes) == (
        40, ("examples are cut at 40 tokens; 100% of them are longer",),
    )  # fmt: skip


def test_not_more_than_the_usual_most(tuning):
    loaded = tuning.loaded(max_position_embeddings=10_000)
    data = of(*[words(3000)] * 3)
    assert fitted(loaded, data, OBJECTIVES["causal-lm"], None)[0] == MOST


def test_the_longer_side_of_an_encoder_decoder_counts(tuning):
    data = of(Example(words(9), prompt=words(3)), Example(words(2), prompt=words(5)))
    loaded = tuning.loaded("t5")
    assert fitted(loaded, data, OBJECTIVES["sft"], None)[0] == 10


@objectives.every(seq2seq=["bart"])
def test_as_many_are_cut_as_is_said(case):
    name, kind, model = case
    loaded, data = objectives.loaded_as(kind, model), objectives.data_for(OBJECTIVES[name], 25)
    length, said = fitted(loaded, data, OBJECTIVES[name], None)
    asked = {"batch_size": 8, "seed": 0}
    found = OBJECTIVES[name].batches_for(loaded, data, max_length=length, **asked)
    share = f"{found.truncated / len(data):.0%} of them are longer"
    cut = f"examples are cut at {length} tokens; {share}"
    assert said.notes == (cut if found.truncated else f"no example is longer than {length} tokens",)
    assert found.truncated <= len(data) / 20
    shorter = OBJECTIVES[name].batches_for(loaded, data, max_length=length - 1, **asked)
    assert shorter.truncated > found.truncated


@pytest.mark.parametrize("name", ["simcse", "barlow-twins"])
def test_objectives_that_compare_texts(tuning, name):
    loaded, data = tuning.loaded(), of(*(words(n) for n in range(3, 9)))
    loaded = replace(loaded)
    assert fitted(loaded, data, OBJECTIVES[name], None)[0] == 9
