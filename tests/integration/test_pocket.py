"""The objectives of a pretrained encoder with both heads, on one that really has them."""

from dataclasses import replace

import pytest
import torch

from layerwise.api import cards as api
from layerwise.models.load import load
from layerwise.objectives import OBJECTIVES, resolve

# The first run pretrains the model, which takes half a minute.
pytestmark = [pytest.mark.long, pytest.mark.real_model]


@pytest.fixture(scope="module")
def loaded(pocket):
    return load(str(pocket.folder), device="cpu")


@pytest.fixture(scope="module")
def passages(pocket):
    return pocket.held_out()


def rows(loaded, passages, name):
    """The batches and losses of `passages` under the objective called `name`."""
    objective = resolve(name, loaded=loaded, data=passages)
    found = objective.batches_for(loaded, passages, batch_size=100, max_length=24, seed=1)
    with torch.no_grad():
        return [(batch, objective.losses(loaded.model, batch)) for batch in found.batches]


def test_it_is_whole(loaded):
    assert type(loaded.model).__name__ == "BertForPreTraining"
    assert loaded.notes == ()
    assert 4e5 < sum(p.numel() for p in loaded.model.parameters()) < 1e6


def test_it_tells_hidden_words_better_than_their_frequency_does(pocket, loaded, passages):
    texts = [example.text for example in passages.examples]
    # From the very passages that it is asked about, which the model has not seen.
    frequency = pocket.frequencies(loaded.tokenizer, texts).log()
    gains = []
    for batch, losses in rows(loaded, passages, "masked-lm"):
        for labels, loss in zip(batch.labels, losses, strict=True):
            gains.append(-frequency[labels[labels != -100]].mean() - loss)
    gains = torch.stack(gains)
    assert gains.mean() > 0.1
    assert gains.mean() > 5 * gains.std() / len(gains) ** 0.5


def test_words_in_the_middle_of_a_span_are_harder(loaded, passages):
    means = {
        name: torch.cat([losses for _, losses in rows(loaded, passages, name)]).mean()
        for name in ("masked-lm", "span-denoise")
    }
    assert means["masked-lm"] < means["span-denoise"]


@pytest.mark.parametrize("name", ["masked-lm", "span-denoise", "nsp", "simcse", "barlow-twins"])
def test_a_card(loaded, passages, name):
    few = replace(passages, examples=passages.examples[:40])
    made = api.card(loaded, few, objective=name, batch_size=20, max_length=24, rank=2)
    assert made.data.objective == name
    assert (made.column("residual_norm") > 0).all()


@pytest.mark.parametrize("name", ["masked-lm", "span-denoise", "nsp"])
def test_it_learns_a_batch_by_heart(pocket, passages, name):
    loaded = load(str(pocket.folder), device="cpu")
    objective = OBJECTIVES[name]
    (batch, *_) = objective.batches_for(
        loaded, passages, batch_size=64, max_length=24, seed=1
    ).batches
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=1e-3)
    losses = []
    for _ in range(24):
        loss = objective.losses(loaded.model, batch).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
