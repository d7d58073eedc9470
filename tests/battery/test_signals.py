"""Every signal: its invariances hold, and a planted change is seen where it was planted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import skew
from scipy.stats import t as student

from layerwise.capture.stats import AdaptedModule, LayerStats
from layerwise.columns import Column
from layerwise.errors import BadInputError, UnknownNameError
from layerwise.models.stack import BlockRef
from layerwise.signals import COSTS, SIGNALS, Signal, select
from layerwise.signals.gain import gain
from layerwise.signals.inputs import effective_rank
from layerwise.signals.residual import bootstrap, coherence, residual_norm, residual_norm_interval
from layerwise.signals.saturation import attention_entropy

N, BLOCKS, RANK, WIDTH, BATCHES = 12, 4, 3, 5, 6
METHODS = (Path(__file__).parents[2] / "docs" / "methods.md").read_text()
ROWS = {row.name: row for row in (*SIGNALS.values(), *COSTS.values())}


@pytest.fixture
def stats():
    """A pass of random numbers: two modules a block, one input each two blocks share in shape."""
    draw = np.random.default_rng(5)
    modules = tuple(
        AdaptedModule(f"b.{row}.{part}", row, 2 * row + i, WIDTH, WIDTH)
        for row in range(BLOCKS)
        for i, part in enumerate(("q", "o"))
    )
    m = len(modules)
    return LayerStats(
        blocks=tuple(BlockRef("b", i, f"b.{i}") for i in range(BLOCKS)),
        modules=modules,
        source_rows=np.repeat(np.arange(BLOCKS), 2),
        index=np.arange(N),
        losses=draw.uniform(1, 2, N),
        tokens=np.tile(draw.integers(5, 9, (N, 1)).astype(float), (1, BLOCKS)),
        batch_tokens=draw.uniform(50, 60, BATCHES),
        forward_seconds=draw.uniform(0.1, 0.2, (BATCHES, BLOCKS)),
        backward_seconds=draw.uniform(0.1, 0.2, (BATCHES, BLOCKS)),
        outside_seconds=draw.uniform(0.1, 0.2, (BATCHES, 2)),
        activation_bytes=draw.uniform(1e5, 2e5, (BATCHES, BLOCKS)),
        seconds=1.0,
        peak_memory_bytes=1,
        column_energy=draw.uniform(1, 2, (N, m, RANK)),
        mean_column_energy=draw.uniform(0.1, 0.2, (m, RANK)),
        mean_gradient_products=products(draw, m),
        feature_products=products(draw, m),
        input_energy=draw.uniform(5, 9, (N, m)),
        input_tokens=np.full((N, m), 6.0),
        spectra=tuple(np.sort(draw.uniform(0, 1, WIDTH)) for _ in range(m)),
        moments=tuple(np.sort(draw.uniform(0, 1, WIDTH)) for _ in range(m)),
        entropy=draw.uniform(5, 9, (N, BLOCKS)),
        entropy_variance=draw.uniform(0.1, 0.2, (N, BLOCKS)),
        gradient_energy=draw.uniform(1, 2, (N, BLOCKS)),
        gram=np.stack([g @ g.T for g in draw.normal(size=(BLOCKS, N, WIDTH))]),
        adam_gram=np.stack([g @ g.T for g in draw.normal(0.5, 1, size=(BLOCKS, N, WIDTH))]),
        adapter_seconds=draw.uniform(0.1, 0.2, BLOCKS),
    )


def products(draw, m):
    return np.stack([g @ g.T for g in draw.normal(size=(m, RANK, WIDTH))])


def scaled(stats, name, factor, *, row=None):
    """`stats` with one array multiplied, everywhere or at one block."""
    values = np.array(getattr(stats, name), dtype=float)
    if row is None:
        return replace(stats, **{name: values * factor})
    if name in GRAMS:
        values[row] *= factor
        return replace(stats, **{name: values})
    place = [m.row == row for m in stats.modules] if values.shape[1] == 2 * BLOCKS else [row]
    if name in {"mean_column_energy", "mean_gradient_products", "feature_products"}:
        place = np.flatnonzero([m.row == row for m in stats.modules])
        values[place] *= factor
        return replace(stats, **{name: values})
    values[:, np.flatnonzero(place) if len(place) > 1 else place] *= factor
    return replace(stats, **{name: values})


#: What each signal measures, and the power by which it follows a scaling of it.
PLANTED = {
    "residual_norm": ("column_energy", 0.5),
    "coherence": ("mean_column_energy", 0.5),
    "gradient_norm": ("column_energy", 0.5),
    "projected_residual": ("feature_products", -1.0),
    "norm_budget": ("mean_gradient_products", 0.5),
    "adam_gain": ("adam_gram", 1.0),
    "activation_energy": ("input_energy", 1.0),
    "attention_entropy": ("entropy", 1.0),
    "activation_gradient": ("gradient_energy", 0.5),
    "forward_seconds": ("forward_seconds", 1.0),
    "backward_seconds": ("backward_seconds", 1.0),
    "activation_bytes": ("activation_bytes", 1.0),
}


def test_every_signal_is_in_this_battery():
    free = {
        "effective_rank",
        "effective_rank_uncentred",
        "ski",
        "gain",
        "gain_by_chance",
        "noise_amplification",
        "coherence_floor",
    }
    assert set(PLANTED) | free | {"adapter_seconds"} == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_one_finite_number_a_block_in_every_field(stats, name):
    found = ROWS[name].values(stats)
    assert tuple(found) == ROWS[name].column.fields
    for values in found.values():
        assert values.shape == (BLOCKS,)
        assert np.isfinite(values).all()


@pytest.mark.parametrize("name", ROWS)
def test_every_column_is_explained(name):
    column = ROWS[name].column
    assert column.title
    assert column.short
    assert column.meaning.endswith(".")
    assert all(f"`{key}`" in METHODS for key in (column.key, column.error) if key)
    assert bool(column.low or column.error) == bool(column.band)


def test_all_signals_are_selected_by_default_and_each_once():
    assert select() == tuple(SIGNALS.values())
    assert select(["gain", "coherence", "gain"]) == (SIGNALS["gain"], SIGNALS["coherence"])


def test_a_selection_names_what_it_does_not_know_and_is_not_empty():
    with pytest.raises(UnknownNameError, match=r"'residual_nrm'.*did you mean 'residual_norm'"):
        select(["residual_nrm"])
    with pytest.raises(BadInputError, match=r"signals.*at least one"):
        select([])


def test_a_signal_and_its_column_have_one_name():
    with pytest.raises(ValueError, match="'noise' has a column 'hum'"):
        Signal("noise", (), residual_norm, Column("hum", "Hum"))


@pytest.mark.parametrize("made", [np.ones(BLOCKS + 1), (np.ones(BLOCKS),) * 2, 1.0])
def test_a_signal_that_gives_something_else_than_one_number_a_block_is_refused(stats, made):
    signal = Signal("hum", (), lambda _: made, Column("hum", "Hum"))
    with pytest.raises(BadInputError, match=r"arrays of signal hum: .*expected shapes \[\(4,\)\]"):
        signal.values(stats)


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_change_is_seen_at_its_block_alone(stats, name):
    array, power = PLANTED[name]
    whole = ROWS[name].values
    before, after = whole(stats)[name], whole(scaled(stats, array, 4.0, row=2))[name]
    assert after[2] == pytest.approx(before[2] * 4.0**power)
    np.testing.assert_array_equal(np.delete(after, 2), np.delete(before, 2))


GRAMS = ("gram", "adam_gram")


@pytest.mark.parametrize(
    "name", [name for name in ROWS if name != "gain_by_chance"]
)  # Its signs are drawn by the order.
def test_the_order_of_examples_does_not_matter(stats, name):
    order = np.random.default_rng(1).permutation(N)
    per_example = ["index", "losses", "tokens", "column_energy", "input_energy", "input_tokens",
                   "entropy", "entropy_variance", "gradient_energy"]  # fmt: skip
    mixed = replace(stats, **{k: getattr(stats, k)[order] for k in per_example})
    mixed = replace(mixed, **{k: getattr(stats, k)[:, order][:, :, order] for k in GRAMS})
    values, again = ROWS[name].values(stats)[name], ROWS[name].values(mixed)[name]
    np.testing.assert_allclose(again, values, rtol=1e-12)


@pytest.mark.parametrize("name", ROWS)
def test_a_signal_leaves_what_it_reads_as_it_was(stats, name):
    before = {k: np.array(v) for k, v in vars(stats).items() if isinstance(v, np.ndarray)}
    ROWS[name].values(stats)
    for k, v in before.items():
        np.testing.assert_array_equal(getattr(stats, k), v)


def test_residual_norm_is_free_of_the_inputs_scale(stats):
    """An input c times as large makes B gradients c times as large: the same error to correct."""
    rescaled = scaled(scaled(stats, "column_energy", 9.0), "input_energy", 9.0)
    np.testing.assert_allclose(residual_norm(rescaled), residual_norm(stats))


def test_the_readings_of_the_residual_norm(stats):
    """Equation 1 has the width of the inputs under the root; the mean gradient has no scatter."""
    plain = residual_norm(stats)
    by_norm = residual_norm(replace(stats, reading="equation-1"))
    np.testing.assert_allclose(by_norm, plain / np.sqrt(WIDTH))
    mean = replace(stats, reading="algorithm-1-of-mean")
    np.testing.assert_allclose(residual_norm(mean), coherence(stats) * plain)
    np.testing.assert_allclose(coherence(mean), coherence(stats))
    agreed = np.broadcast_to(stats.column_energy[:1], stats.column_energy.shape).copy()
    one = replace(stats, column_energy=agreed, mean_column_energy=agreed[0])
    for reading in ("algorithm-1", "algorithm-1-of-mean"):
        np.testing.assert_allclose(residual_norm(replace(one, reading=reading)), residual_norm(one))


def test_coherence_is_one_where_all_examples_agree(stats):
    same = np.broadcast_to(stats.column_energy[:1], stats.column_energy.shape)
    agreed = replace(stats, column_energy=same.copy(), mean_column_energy=same[0].copy())
    np.testing.assert_allclose(coherence(agreed), 1.0)


def test_coherence_of_gradients_that_share_nothing_is_its_floor(stats):
    """Independent gradients in many dimensions, all of one size: 1 / sqrt(n)."""
    draw = np.random.default_rng(3)
    g = draw.normal(size=(N, len(stats.modules), RANK, 4000))
    noise = replace(
        stats,
        column_energy=np.square(g).sum(-1),
        mean_column_energy=np.square(g.mean(0)).sum(-1),
    )
    floor = ROWS["coherence_floor"].compute(noise)
    np.testing.assert_allclose(floor, 1 / np.sqrt(N), rtol=0.01)
    np.testing.assert_allclose(coherence(noise), floor, rtol=0.03)


def test_noise_gains_no_more_than_chance_gives(stats):
    """Of gradients without a mean, one gain in twenty is above all of its nineteen draws."""
    draw, above = np.random.default_rng(4), []
    for i in range(25):
        g = draw.normal(size=(BLOCKS, N, 40))
        noise = replace(stats, gram=np.einsum("lnd,lmd->lnm", g, g), seed=i)
        above += list(gain(noise) > ROWS["gain_by_chance"].compute(noise))
    assert np.mean(above) <= 0.12  # Binomial(100, 1/20): 13 or more in 1 of 700.
    agreed = replace(stats, gram=np.einsum("lnd,lmd->lnm", g + 1.0, g + 1.0))
    assert (gain(agreed) > ROWS["gain_by_chance"].compute(agreed)).all()
    assert (gain(agreed) < 0.5).all()


def test_what_is_free_of_scale_is(stats):
    """A step is the same whatever the gradients' size; noise whatever the inputs'."""
    of = {"gain": "gram", "gain_by_chance": "gram", "coherence_floor": "column_energy",
          "noise_amplification": "feature_products"}  # fmt: skip
    for name, array in of.items():
        before = ROWS[name].compute(stats)
        np.testing.assert_allclose(ROWS[name].compute(scaled(stats, array, 7.0)), before)


def test_even_features_amplify_no_noise_beyond_their_number(stats):
    even = replace(stats, feature_products=np.tile(6.0 * np.eye(RANK), (len(stats.modules), 1, 1)))
    np.testing.assert_allclose(ROWS["noise_amplification"].compute(even), RANK / 2)
    weak = np.tile(np.diag([1.0, 1.0, 0.01]), (len(stats.modules), 1, 1))
    assert (ROWS["noise_amplification"].compute(replace(stats, feature_products=weak)) > 30).all()


def test_coherence_is_zero_without_a_gradient(stats):
    silent = scaled(scaled(stats, "column_energy", 0.0), "mean_column_energy", 0.0)
    np.testing.assert_array_equal(coherence(silent), 0.0)


def test_effective_rank_does_not_know_the_scale(stats):
    wider = replace(stats, spectra=tuple(s * 7 for s in stats.spectra))
    np.testing.assert_allclose(effective_rank(wider), effective_rank(stats))


def test_effective_rank_falls_where_one_direction_is_planted(stats):
    spectra = list(stats.spectra)
    for source in (4, 5):
        spectra[source] = np.r_[np.zeros(WIDTH - 1), 1.0]
    planted = effective_rank(replace(stats, spectra=tuple(spectra)))
    before = effective_rank(stats)
    assert planted[2] == pytest.approx(1.0)
    np.testing.assert_array_equal(np.delete(planted, 2), np.delete(before, 2))


def test_a_slow_first_batch_does_not_move_the_times(stats):
    slow = stats.forward_seconds.copy()
    slow[0] *= 50
    before = ROWS["forward_seconds"].compute(stats)
    after = ROWS["forward_seconds"].compute(replace(stats, forward_seconds=slow))
    assert (np.abs(after / before - 1) < 0.5).all()


@pytest.mark.slow
def test_the_bootstrap_is_a_resampling_of_examples(stats):
    """Against a loop over draws of our own."""
    draw = np.random.default_rng(0)
    slow = []
    for _ in range(2000):
        take = draw.integers(0, N, N)
        slow.append(residual_norm(replace(
            stats, column_energy=stats.column_energy[take], input_energy=stats.input_energy[take],
            input_tokens=stats.input_tokens[take])))  # fmt: skip
    ends = np.quantile(bootstrap(replace(stats, seed=3)), [0.025, 0.975], axis=0)
    np.testing.assert_allclose(ends, np.quantile(slow, [0.025, 0.975], axis=0), rtol=0.02)


def slow_interval(stats, row):
    """Both errors of a block by hand: resampled examples, and each row of A left out."""
    replicates = bootstrap(stats)[:, row]
    error = replicates.std() * np.sqrt(N / (N - 1))
    skewness = skew(replicates)
    rank = stats.column_energy.shape[2] // stats.draws
    left_out = []
    for d in range(stats.draws):
        for r in range(rank):
            norms = []
            for draw in range(stats.draws):
                own = stats.column_energy[:, :, draw * rank : (draw + 1) * rank]
                if draw == d:
                    own = np.delete(own, r, axis=2) * rank / (rank - 1)
                norms.append(np.sqrt(own.sum(2)))
            energy = np.square(np.mean(norms, axis=0))
            one = replace(stats, column_energy=energy[:, :, None], draws=1)
            left_out.append(residual_norm(one)[row])
    count = len(left_out)
    spread = np.sqrt((count - 1) / count * np.square(np.array(left_out) - np.mean(left_out)).sum())
    total = np.hypot(error, spread)
    freedom = total**4 / (error**4 / (N - 1) + spread**4 / (count - 1))
    t = student.ppf(0.975, freedom)
    lean = 2 * (2 * t**2 + 1) / (6 * t) * skewness * (error / total) ** 3
    middle = residual_norm(stats)[row]
    return middle - t * total * (1 + max(0, -lean)), middle + t * total * (1 + max(0, lean))


@pytest.mark.parametrize("draws", [1, 4])
def test_the_interval_counts_examples_and_draws(stats, draws):
    energy = np.random.default_rng(1).uniform(1, 2, (N, len(stats.modules), draws * RANK))
    made = replace(stats, column_energy=energy, mean_column_energy=None, draws=draws)
    value, low, high = residual_norm_interval(made)
    np.testing.assert_array_equal(value, residual_norm(made))
    for row in range(BLOCKS):
        assert (low[row], high[row]) == pytest.approx(slow_interval(made, row))
    assert not np.array_equal(low, residual_norm_interval(replace(made, seed=1))[1])


def test_a_sampled_entropy_is_as_sure_as_its_variance(stats):
    error = attention_entropy(stats)[1]
    np.testing.assert_allclose(
        attention_entropy(scaled(stats, "entropy_variance", 4.0))[1], 2 * error
    )
    assert (attention_entropy(scaled(stats, "entropy_variance", 0.0))[1] == 0).all()


@pytest.mark.slow
def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    """95 % intervals of a mean over 64 examples, 300 times: between 90 and 98 %."""
    draw = np.random.default_rng(2)
    held = []
    for i in range(300):
        energy = draw.lognormal(0, 0.5, (64, 1, 1))
        one = LayerStats(
            blocks=(BlockRef("b", 0, "b.0"),), modules=(AdaptedModule("b.0.q", 0, 0, 1, 1),),
            source_rows=np.zeros(1, dtype=int), index=np.arange(64), losses=np.ones(64),
            tokens=np.ones((64, 1)), batch_tokens=np.ones(1), forward_seconds=np.ones((1, 1)),
            backward_seconds=np.ones((1, 1)), outside_seconds=np.ones((1, 2)),
            activation_bytes=np.ones((1, 1)), seconds=1.0, peak_memory_bytes=1,
            column_energy=energy, input_energy=np.ones((64, 1)), input_tokens=np.ones((64, 1)),
        )  # fmt: skip
        _, low, high = residual_norm_interval(replace(one, seed=i))
        truth = np.exp(0.25**2 / 2)  # the mean of the root of a lognormal(0, 0.5)
        held.append(low[0] <= truth <= high[0])
    assert 0.90 <= np.mean(held) <= 0.98
