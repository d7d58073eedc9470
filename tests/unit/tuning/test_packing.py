import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from layerwise.data import Example
from layerwise.data.batches import IGNORED, Row, best_fit, causal_batch, packed
from layerwise.errors import BadInputError
from layerwise.models.load import wrap_model
from layerwise.objectives import OBJECTIVES, resolve
from layerwise.seeds import numpy_generator
from layerwise.tuning.material import gather
from support import architectures
from support.examples import of, words


@given(sizes=st.lists(st.integers(1, 12), min_size=1, max_size=40))
def test_every_example_is_in_one_row_that_has_room(sizes):
    rows = best_fit(sizes, room=12)
    assert sorted(i for row in rows for i in row) == list(range(len(sizes)))
    assert max(sum(sizes[i] for i in row) for row in rows) <= 12


@pytest.mark.parametrize("seed", range(4))
def test_rows_are_those_of_trl(seed):
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    sizes = numpy_generator(seed, "sizes").integers(1, 15, size=100).tolist()
    ids = [[i] * n for i, n in enumerate(sizes)]
    theirs = trl.pack_dataset(datasets.Dataset.from_dict({"input_ids": ids}), 16, "bfd")
    assert best_fit(sizes, room=16) == [tuple(sorted({*row})) for row in theirs["input_ids"]]


def test_positions_begin_anew_and_nothing_follows_from_another_example():
    rows = [Row(3, [5, 6, 7], [False, True, True]), Row(8, [8, 9], [True, True])]
    batch = causal_batch([*packed(rows, [(3, 8)]), Row(9, [4], [True], starts=(0,))], pad=0)
    assert batch.inputs["position_ids"].tolist() == [[0, 1, 2, 0, 1], [0] * 5]
    assert batch.labels.tolist() == [[6, 7, IGNORED, 9, IGNORED], [IGNORED] * 5]
    assert batch.index.tolist() == [3, 9]
    assert "attention_mask" not in batch.inputs


def gathered(tuning, name="llama", objective="causal-lm", **options):
    loaded = tuning.loaded(name) if isinstance(name, str) else name
    settings = tuning.settings(**{"packing": True, "batch_size": 2} | options)
    data = of(*(words(3 + 2 * i, start=i) for i in range(8)))
    return loaded, gather(loaded, data, resolve(objective, loaded=loaded, data=data), settings)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
def test_an_example_s_loss_is_the_same_in_a_shared_row(tuning, name):
    loaded, material = gathered(tuning, name)
    assert any(len(pack) > 1 for pack in material.packs)
    forwards = material.forwards(tuning.settings(batch_size=2), steps=2, processes=1)
    for number in range(len(forwards)):
        batch = forwards[number].batch
        logits = loaded.model(**batch.inputs, use_cache=False).logits
        for row, positions in enumerate(batch.inputs["position_ids"].tolist()):
            ids = batch.inputs["input_ids"][row]
            starts = [i for i, place in enumerate(positions) if place == 0]
            for start, end in zip(starts, [*starts[1:], len(positions)], strict=True):
                alone = loaded.model(ids[None, start:end], use_cache=False).logits[0]
                torch.testing.assert_close(logits[row, start:end], alone, atol=1e-5, rtol=1e-4)


def test_an_epoch_of_shared_rows_sees_every_token_once(tuning):
    _, material = gathered(tuning, batch_size=1)
    forwards = material.forwards(tuning.settings(batch_size=1), steps=material.rows, processes=1)
    seen = sum(int(forwards[i].batch.token_mask.sum()) for i in range(len(forwards)))
    assert seen == material.batches.tokens
    assert material.rows < 8
    assert material.batches.notes[-1] == (
        f"8 examples share {material.rows} rows; a batch is of rows"
    )


def test_a_run_with_shared_rows(tuning):
    tuned = tuning.tune(packing=True, batch_size=2, steps=4, max_length=32)
    rows = next(n for n in tuned.record.notes if "share" in n)
    assert rows.startswith("24 examples share ")
    assert tuned.record.settings.packing
    assert tuned.record.outcome.examples > 4 * 2
    assert "packing" not in tuning.tune().record.to_plain()["settings"]


@pytest.mark.parametrize(
    ("name", "objective", "message"),
    [
        ("bert", "masked-lm", "packing under masked-lm in a model of kind masked"),
        ("t5", "causal-lm", "packing under causal-lm in a model of kind seq2seq"),
        ("llama", "simcse", "packing under simcse"),
        ("mamba", "causal-lm", r"mixes the examples of a row.*'MambaForCausalLM'.*drop --packing"),
    ],
)
def test_models_and_objectives_that_cannot_share_rows(tuning, name, objective, message):
    with pytest.raises(BadInputError, match=message):
        gathered(tuning, name, objective)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_examples_that_mix_a_little_are_found_in_any_precision(tuning, dtype):
    """BLOOM's attention knows distances alone, and no rows that are shared."""
    models = (architectures.tiny_model(name, "causal").to(dtype) for name in ("llama", "bloom"))
    apart, mixing = (wrap_model(model, architectures.tokenizer()) for model in models)
    assert gathered(tuning, apart)[1].packs
    with pytest.raises(BadInputError, match=r"mixes the examples of a row.*'BloomForCausalLM'"):
        gathered(tuning, mixing)


def test_answers_share_rows_with_their_prompts(tuning):
    loaded = tuning.loaded()
    data = of(*(Example(words(2), prompt=words(2 + i)) for i in range(6)))
    settings = tuning.settings(packing=True, batch_size=1)
    material = gather(loaded, data, OBJECTIVES["sft"], settings)
    forwards = material.forwards(settings, steps=material.rows, processes=1)
    told = sum(
        int((f.batch.labels != IGNORED).sum())
        for f in map(forwards.__getitem__, range(len(forwards)))
    )
    assert told == 6 * 2
