"""Probes read what is there, nothing where there is nothing, and only what their kind can."""

import numpy as np
import pytest
import torch

from layerwise.probing.classifiers import KINDS, Sides, accuracy_of, best_depth, wilson
from layerwise.probing.record import ProbeSettings

pytestmark = pytest.mark.slow  # Short runs, many of them.

SETTINGS = ProbeSettings(hidden=64, epochs=80)


def sides(of, *, train=600, test=400, features=8, seed=0):
    """Standard normal features with the classes that `of` gives them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(train + test, features, generator=generator)
    classes = of(x, generator)
    return Sides(x[:train], classes[:train], x[train:], classes[train:]).standardised()


def line(x, _):
    return (x[:, 0] + x[:, 1] > 0).long()


def crossed(x, _):
    return (x[:, 0] * x[:, 1] > 0).long()


def chance(x, generator):
    return torch.randint(2, (len(x),), generator=generator)


def read(kind, of, **options):
    return accuracy_of(kind, sides(of, **options), classes=2, settings=SETTINGS)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_line_parts_is_read_and_chance_is_not(kind):
    assert read(kind, line).accuracy > 0.95
    assert 0.42 < read(kind, chance).accuracy < 0.58


def test_what_no_line_parts_is_read_by_two_layers_alone():
    assert read("mlp", crossed).accuracy > 0.9
    assert read("linear", crossed).accuracy < 0.65


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_probe_and_leaves_the_generator(kind):
    torch.manual_seed(4)
    before = torch.random.get_rng_state()
    assert read(kind, line) == read(kind, line)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_features_of_any_scale_are_read_alike():
    plain = sides(line)
    scale = torch.logspace(-4, 4, 8)
    scaled = Sides(plain.train * scale, plain.train_classes, plain.test * scale, plain.test_classes)
    (first, second) = (
        accuracy_of("linear", s.standardised(), classes=2, settings=SETTINGS)[0]
        for s in (plain, scaled)
    )
    assert first.accuracy == pytest.approx(second.accuracy, abs=0.01)


def test_a_feature_that_does_not_vary_is_zero_on_both_sides():
    train, test = torch.full((4, 2), 7.0), torch.full((2, 2), 9.0)
    train[:, 1] = torch.tensor([0.0, 1.0, 2.0, 3.0])
    found = Sides(train, torch.zeros(4), test, torch.zeros(2)).standardised()
    assert torch.equal(found.train[:, 0], torch.zeros(4))
    assert torch.equal(found.test[:, 0], torch.zeros(2))
    assert found.train[:, 1].std(correction=0) == pytest.approx(1.0)


@pytest.mark.parametrize(("right", "total"), [(0, 5), (5, 5), (50, 100), (399, 400)])
def test_wilson_against_the_roots_of_its_equation(right, total):
    """Both ends p solve (share - p)^2 = z^2 p (1 - p) / total."""
    share, z2 = right / total, 1.959963984540054**2
    low, high = wilson(right, total)
    assert 0.0 <= low <= share <= high <= 1.0
    for end in (low, high):
        assert (share - end) ** 2 == pytest.approx(z2 * end * (1 - end) / total, abs=1e-12)


def test_the_best_of_many_depths_that_read_nothing_is_chance_once_the_choice_is_counted():
    """Null: of 24 depths that guess the best seems to read; chosen on other examples none does."""
    right = np.random.default_rng(0).random((100, 24, 200)) < 0.5
    best = [best_depth(depths, seed=seed) for seed, depths in enumerate(right)]
    assert right.mean(2).max(1).mean() > 0.56
    assert np.mean([found.accuracy for found in best]) == pytest.approx(0.5, abs=0.015)
    assert np.mean([found.low <= 0.5 <= found.high for found in best]) > 0.9


def test_a_depth_that_reads_is_chosen_and_each_example_is_judged_once():
    right = np.zeros((3, 10), bool)
    right[1, :9] = right[2, :5] = True
    found = best_depth(right, seed=0)
    assert (found.blocks, found.accuracy) == ((1, 1), 0.9)
    assert (found.low, found.high) == wilson(9, 10)
