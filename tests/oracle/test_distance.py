"""Distances against whole gradient matrices, built the slow way and compared in NumPy and SciPy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr

from layerwise.distance.batches import Request, cut, matched
from layerwise.distance.choose import choose
from layerwise.distance.make import make_distance
from layerwise.distance.metrics import projected
from layerwise.distance.record import METRICS
from layerwise.objectives import OBJECTIVES
from layerwise.seeds import derive
from support.objectives import gradients, slow_gradients

BATCH, LIMIT, SEED = 6, 12, 4


def slow_matrices(loaded, data, objectives):
    """For each half of the batches, G of each objective, (n, d), and its tokens' gradients."""
    request = Request(loaded, data, objectives, BATCH, LIMIT, SEED)
    halves, tokens = ([{o.name: [] for o in objectives} for _ in range(2)] for _ in range(2))
    for number, chunk in enumerate(cut(len(data), batch_size=BATCH, seed=SEED)):
        sets = matched(request, number, chunk).sets
        for objective in objectives:
            # The two of them run on one pair of views.
            source = "simcse" if objective.name == "barlow-twins" else objective.name
            seed = derive(SEED, "dropout", number)
            batch = sets[source].batches[0]
            rows, per_row = slow_gradients(loaded, batch, objective, seed=seed)
            halves[number % 2][objective.name].append(rows.numpy())
            shown = batch.inputs["attention_mask"].bool()
            tokens[number % 2][objective.name].append(torch.stack(per_row).sum(0)[shown].numpy())
    return [
        [{name: np.concatenate(parts) for name, parts in half.items()} for half in either]
        for either in (halves, tokens)
    ]


def slow_cosine(x, y):
    return 1 - sum(x * y) / np.sqrt(sum(x * x)) / np.sqrt(sum(y * y))


def slow_procrustes(x, y):
    x, y = (m - m.mean(0) for m in (x, y))
    x, y = (m / np.linalg.norm(m) for m in (x, y))
    return np.sqrt(max(0.0, 2 - 2 * np.linalg.svd(x.T @ y, compute_uv=False).sum()))


def slow_numbers(x, y):
    """The distances between two matrices, and the statistics of the second."""
    ends = x.mean(0), y.mean(0)
    return {
        "procrustes": slow_procrustes(x, y),
        "cosine": slow_cosine(*ends),
        "cosine_128": slow_cosine(*(projected(e, width=128, seed=SEED) for e in ends)),
        "cosine_32": slow_cosine(*(projected(e, width=32, seed=SEED) for e in ends)),
        "pearson": 1 - pearsonr(*ends).statistic,
        "fisher": slow_cosine(np.mean(x * x, axis=0), np.mean(y * y, axis=0)),
        "mean_norm": np.mean([np.sqrt(sum(row * row)) for row in y]),
        "coherence": np.mean(np.abs(y.mean(0)) / y.std(0)),
        "nonzero": np.mean(y != 0),
    }


@pytest.fixture(
    scope="module", params=["llama", "gpt2", "mamba", "rwkv", "bert", "pretraining"], ids=str
)
def both(request, tuning):
    """A `Distance`, and the matrices that it never held."""
    loaded, data = tuning.loaded(request.param), tuning.data(27)
    objectives = choose(loaded, data)
    found = make_distance(loaded, data, objectives, batch_size=BATCH, max_length=LIMIT, seed=SEED)
    return found, *slow_matrices(loaded, data, objectives)


def test_every_number_of_every_objective(both):
    found, halves, tokens = both
    whole, shown = ({n: np.concatenate([h[n] for h in e]) for n in e[0]} for e in (halves, tokens))
    names = [o.name for o in found.objectives]
    assert names[0] == found.reference
    assert set(names) == set(whole)
    for objective in found.objectives:
        every = (whole, *halves), (shown, *tokens), (objective, *objective.halves)
        for part, by_token, own in zip(*every, strict=True):
            assert own.rows == len(part[objective.name])
            assert own.nonzero_tokens == pytest.approx(np.mean(by_token[objective.name] != 0))
            expected = slow_numbers(part[found.reference], part[objective.name])
            if objective.name == found.reference:
                assert [expected.pop(metric) for metric in METRICS] == pytest.approx(
                    [0] * 6, abs=1e-7
                )
            for name, value in expected.items():
                assert getattr(own, name) == pytest.approx(value, rel=1e-4, abs=1e-5), (
                    objective.name,
                    name,
                )


def test_agreement_of_the_halves(both):
    found, halves, _ = both
    others = [o.name for o in found.objectives if o.name != found.reference]
    values = [
        [slow_numbers(half[found.reference], half[name]) for name in others] for half in halves
    ]
    for metric in METRICS:
        first, second = ([v[metric] for v in half] for half in values)
        expected = spearmanr(first, second).statistic
        assert found.agreement[metric] == pytest.approx(expected, abs=1e-12)


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize("name", ["llama", "gpt_neox", "mamba", "mamba2", "rwkv"])
@pytest.mark.parametrize("labelled", ["all", "span"])
def test_the_gradient_of_a_linear_head_in_closed_form(tiny, name, labelled):
    """(p - onehot) W / m at each of m labelled positions, mean over the text's tokens."""
    loaded, batch = tiny.build(name), tiny.batch(name, n=3)
    if labelled == "span":
        labels = torch.full_like(batch.labels, -100)
        labels[:, 2:4] = batch.labels[:, 2:4]
        batch = replace(batch, labels=labels)
    weight = loaded.model.get_output_embeddings().weight.detach().double().numpy()
    expected = []
    for i in range(3):
        alone = tiny.row(batch, i)
        with torch.no_grad():
            logits = loaded.model(**alone.inputs, use_cache=False).logits[0].double().numpy()
        targets = alone.labels[0].numpy()
        mask = alone.inputs.get("attention_mask", alone.token_mask)[0].numpy().astype(bool)
        where = np.flatnonzero(targets != -100)
        errors = softmax(logits[where])
        errors[np.arange(len(where)), targets[where]] -= 1
        expected.append((errors @ weight)[mask[where]].sum(0) / len(where) / mask.sum())
    found = gradients(loaded, batch, OBJECTIVES["causal-lm"])
    np.testing.assert_allclose(found["causal-lm"], expected, rtol=2e-4, atol=1e-6)
