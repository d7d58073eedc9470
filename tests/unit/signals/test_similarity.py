"""What every measure promises whatever the numbers are, and the streaming form."""

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from layerwise.errors import BadInputError, NonFiniteError
from layerwise.signals.ranks import centred_ranks
from layerwise.signals.similarity import (
    CrossMoments,
    align,
    cka_of,
    represent,
    rsa_of,
    shared_pca_of,
)
from support.profiles import procrustes

MEASURES = {
    "procrustes": procrustes,
    "cka": lambda x, y: cka_of(represent(x), represent(y)),
    "rsa": lambda x, y: rsa_of(represent(x), represent(y)),
    "shared pca": lambda x, y: shared_pca_of(represent(x), represent(y)),
}
SHAPES = [(20, 50), (40, 12)]


@pytest.fixture
def states():
    """Makes two states of a shape that differ by some share."""

    def made(shape=(20, 50), share=0.5):
        generator = np.random.default_rng(0)
        x = generator.standard_normal(shape) + 3.0
        return x, x + share * generator.standard_normal(shape)

    return made


def rotation(p):
    return np.linalg.qr(np.random.default_rng(5).standard_normal((p, p)))[0]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["procrustes", "cka"])
def test_rotation_scale_and_shift_change_nothing(states, shape, name):
    x, y = states(shape)
    moved = 7.0 * y @ rotation(shape[1]) + np.arange(shape[1])
    assert MEASURES[name](x, moved) == pytest.approx(MEASURES[name](x, y), rel=1e-9)


@pytest.mark.parametrize("name", MEASURES)
def test_scale_and_shift_of_both_change_nothing(states, name):
    x, y = states()
    shift = np.arange(x.shape[1])
    assert MEASURES[name](0.1 * x - shift, 0.1 * y - shift) == pytest.approx(
        MEASURES[name](x, y), rel=1e-9
    )


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_no_change_is_nothing_and_order_does_not_matter(states, shape, name):
    x, y = states(shape)
    assert MEASURES[name](x, x.copy()) == pytest.approx(0.0, abs=1e-7)
    assert MEASURES[name](y, x) == pytest.approx(MEASURES[name](x, y), rel=1e-9)


@pytest.mark.parametrize("name", MEASURES)
def test_a_larger_change_is_larger(states, name):
    sizes = [MEASURES[name](*states(share=share)) for share in (0.01, 0.1, 1.0)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2] / 10


@pytest.mark.parametrize("name", MEASURES)
def test_float32_is_taken_in_float64(states, name):
    x, y = (z.astype(np.float32) for z in states())
    assert MEASURES[name](x, y) == MEASURES[name](x.astype(float), y.astype(float))


@pytest.mark.parametrize("name", MEASURES)
def test_inputs_are_left_as_they_were(states, name):
    x, y = states()
    before = x.copy(), y.copy()
    MEASURES[name](x, y)
    assert np.array_equal(x, before[0])
    assert np.array_equal(y, before[1])


@pytest.mark.parametrize("name", MEASURES)
def test_what_is_not_finite_is_refused(states, name):
    x, y = states()
    y[3, 4] = np.nan
    with pytest.raises(NonFiniteError, match="representation that is not finite"):
        MEASURES[name](x, y)


@pytest.mark.parametrize("name", MEASURES)
def test_what_does_not_vary_is_refused(states, name):
    x, _ = states()
    with pytest.raises(BadInputError, match="without variance: '20 equal rows'"):
        MEASURES[name](x, np.tile(x[0] * 0.1, (20, 1)))


def test_rsa_refuses_an_input_that_is_the_same_in_all_features(states):
    x, y = states()
    y[0] = y[1:].mean(0)
    with pytest.raises(BadInputError, match="an input that is the same in all features"):
        MEASURES["rsa"](x, y)


def test_the_nearly_singular_go_by_qr_and_agree(states, monkeypatch):
    """Both ways into the row space give one distance; the fast one is not tried where it loses."""
    from layerwise.signals import similarity

    x, y = states((20, 50), 0.03)
    fast = procrustes(x, y)
    monkeypatch.setattr(similarity, "_SINGULAR", np.inf)
    assert procrustes(x, y) == pytest.approx(fast, rel=1e-9)


def test_one_of_both_nearly_singular(states):
    """One state by Cholesky, the other by QR: the coordinates still fit together."""
    x, y = states((20, 50), 1.0)
    thin = x[:, :3] @ np.random.default_rng(2).standard_normal((3, 50))
    centred = [z - z.mean(0) for z in (thin, y)]
    unit = [z / np.linalg.norm(z) for z in centred]
    nuclear = np.linalg.norm(unit[0].T @ unit[1], "nuc")
    assert procrustes(thin, y) == pytest.approx(np.sqrt(2 - 2 * nuclear), rel=1e-10)


def test_equal_values_share_their_mean_rank():
    values = np.random.default_rng(6).integers(0, 9, 200).astype(float)
    np.testing.assert_array_equal(centred_ranks(values[None])[0], rankdata(values) - 100.5)


def test_one_dissimilarity_has_no_order():
    assert not represent(np.eye(2)).ranks.any()


# -- under weights -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_weights_of_one_give_the_distance(states, shape):
    aligned = align(*map(represent, states(shape)))
    found = aligned.weighted(np.ones((2, shape[0])))
    assert found == pytest.approx(aligned.distance, rel=1e-12)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_weights_are_repeats_under_one_rotation(states, shape):
    """Rows repeated as often as they weigh, centred and normalised anew, rotation kept."""
    x, y = states(shape)
    aligned = align(represent(x), represent(y))
    weights = np.random.default_rng(3).integers(0, 4, (5, shape[0]))
    for row, found in zip(weights, aligned.weighted(weights.astype(float)), strict=True):
        parts = [z.numpy().repeat(row, axis=0) for z in (aligned.turned, aligned.target)]
        parts = [z - z.mean(0) for z in parts]
        parts = [z / np.linalg.norm(z) for z in parts]
        assert found == pytest.approx(np.linalg.norm(parts[0] - parts[1]), rel=1e-9)


def test_the_rotation_is_second_order_in_the_weights(states):
    """The envelope theorem: a tenth of the step leaves a hundredth of the error."""
    x, y = states((40, 12), 0.3)
    aligned = align(represent(x), represent(y))
    step = np.random.default_rng(4).uniform(-1, 1, 40)

    def refitted(weights):
        scaled = []
        for z in (x, y):
            centred = z - (weights[:, None] * z).sum(0) / weights.sum()
            scaled.append(np.sqrt(weights)[:, None] * centred)
        a, b = (z / np.linalg.norm(z) for z in scaled)
        return np.sqrt(2 - 2 * np.linalg.norm(a.T @ b, "nuc"))

    errors = [
        float(aligned.weighted((1 + size * step)[None])[0]) - refitted(1 + size * step)
        for size in (0.3, 0.03)
    ]
    assert errors[0] > errors[1] > 0
    assert errors[1] == pytest.approx(errors[0] / 100, rel=0.3)


# -- streamed ------------------------------------------------------------------------------------


def streamed(x, y, *, parts):
    moments = CrossMoments.zero(x.shape[1], y.shape[1])
    for rows in np.array_split(np.arange(len(x)), parts):
        moments = moments.update(x[rows], y[rows])
    return moments


@pytest.mark.parametrize("parts", [1, 3, 40])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_streaming_is_one_shot(states, parts, offset):
    x, y = states((200, 12))
    found = streamed(x + offset, y + offset, parts=parts).result()
    assert found == pytest.approx(procrustes(x, y), rel=1e-8)


def test_widths_may_differ_when_streamed(states):
    x, y = states((200, 12))
    padded = np.concatenate([y, np.zeros((200, 5))], axis=1)
    assert streamed(x, padded, parts=4).result() == pytest.approx(procrustes(x, y), rel=1e-8)


def test_streamed_rows_must_vary_and_be_finite(states):
    x, y = states((30, 5))
    with pytest.raises(BadInputError, match="without variance: '30 equal rows'"):
        streamed(x, np.ones((30, 5)) * 0.1, parts=3).result()
    y[2, 2] = np.inf
    with (
        pytest.warns(RuntimeWarning, match="invalid value"),
        pytest.raises(NonFiniteError, match="not finite"),
    ):
        streamed(x, y, parts=3).result()


def test_torch_keeps_its_threads(states):
    before = torch.get_num_threads()
    procrustes(*states())
    assert torch.get_num_threads() == before
