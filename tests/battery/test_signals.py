"""Every signal: its invariances hold, and a planted change is seen where it was planted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from layerwise.capture.stats import AdaptedModule, LayerStats
from layerwise.columns import Column
from layerwise.errors import BadInputError, UnknownNameError
from layerwise.models.stack import BlockRef
from layerwise.signals import COSTS, SIGNALS, Signal, select
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
        input_energy=draw.uniform(5, 9, (N, m)),
        input_tokens=np.full((N, m), 6.0),
        spectra=tuple(np.sort(draw.uniform(0, 1, WIDTH)) for _ in range(m)),
        entropy=draw.uniform(5, 9, (N, BLOCKS)),
        entropy_variance=draw.uniform(0.1, 0.2, (N, BLOCKS)),
        gradient_energy=draw.uniform(1, 2, (N, BLOCKS)),
        gram=np.stack([g @ g.T for g in draw.normal(size=(BLOCKS, N, WIDTH))]),
        adapter_seconds=draw.uniform(0.1, 0.2, BLOCKS),
    )


def scaled(stats, name, factor, *, row=None):
    """`stats` with one array multiplied, everywhere or at one block."""
    values = np.array(getattr(stats, name), dtype=float)
    if row is None:
        return replace(stats, **{name: values * factor})
    place = [m.row == row for m in stats.modules] if values.shape[1] == 2 * BLOCKS else [row]
    if name == "mean_column_energy":
        place = np.flatnonzero([m.row == row for m in stats.modules])
        values[place] *= factor
        return replace(stats, **{name: values})
    values[:, np.flatnonzero(place) if len(place) > 1 else place] *= factor
    return replace(stats, **{name: values})


#: What each signal measures, and the power by which it follows a scaling of it.
PLANTED = {
    "residual_norm": ("column_energy", 0.5),
    "coherence": ("mean_column_energy", 0.5),
    "activation_energy": ("input_energy", 1.0),
    "attention_entropy": ("entropy", 1.0),
    "activation_gradient": ("gradient_energy", 0.5),
    "forward_seconds": ("forward_seconds", 1.0),
    "backward_seconds": ("backward_seconds", 1.0),
    "activation_bytes": ("activation_bytes", 1.0),
}


def test_every_signal_is_in_this_battery():
    assert set(PLANTED) | {"effective_rank", "gain", "adapter_seconds"} == set(ROWS)


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


@pytest.mark.parametrize("name", ROWS)
def test_the_order_of_examples_does_not_matter(stats, name):
    order = np.random.default_rng(1).permutation(N)
    per_example = ["index", "losses", "tokens", "column_energy", "input_energy", "input_tokens",
                   "entropy", "entropy_variance", "gradient_energy"]  # fmt: skip
    mixed = replace(stats, **{k: getattr(stats, k)[order] for k in per_example})
    mixed = replace(mixed, gram=stats.gram[:, order][:, :, order])
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


def test_coherence_is_one_where_all_examples_agree(stats):
    same = np.broadcast_to(stats.column_energy[:1], stats.column_energy.shape)
    agreed = replace(stats, column_energy=same.copy(), mean_column_energy=same[0].copy())
    np.testing.assert_allclose(coherence(agreed), 1.0)


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
    """Against a loop over the replicates' own draws."""
    norm, low, high = residual_norm_interval(replace(stats, seed=3))
    assert (low < norm).all()
    assert (norm < high).all()
    draw = np.random.default_rng(0)
    slow = []
    for _ in range(2000):
        take = draw.integers(0, N, N)
        slow.append(residual_norm(replace(
            stats, column_energy=stats.column_energy[take], input_energy=stats.input_energy[take],
            input_tokens=stats.input_tokens[take])))  # fmt: skip
    np.testing.assert_allclose(low, np.quantile(slow, 0.025, axis=0), rtol=0.02)
    np.testing.assert_allclose(high, np.quantile(slow, 0.975, axis=0), rtol=0.02)


def test_the_interval_of_a_card_follows_the_seed_of_the_pass(stats):
    value, low, high = residual_norm_interval(stats)
    np.testing.assert_array_equal(value, residual_norm(stats))
    tails = np.quantile(bootstrap(stats), [0.025, 0.975], axis=0)
    np.testing.assert_allclose([low, high], tails)
    assert not np.array_equal(low, residual_norm_interval(replace(stats, seed=1))[1])


def test_a_sampled_entropy_is_as_sure_as_its_variance(stats):
    error = attention_entropy(stats)[1]
    np.testing.assert_allclose(
        attention_entropy(scaled(stats, "entropy_variance", 4.0))[1], 2 * error
    )
    assert (attention_entropy(scaled(stats, "entropy_variance", 0.0))[1] == 0).all()


@pytest.mark.slow
def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    """95 % percentile intervals of a mean over 64 examples, 300 times: between 90 and 98 %."""
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
