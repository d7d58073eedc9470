"""What moved between two states: planted changes are seen where they are, and only there."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from layerwise.card.record import ModelInfo, StackInfo
from layerwise.depths import slope
from layerwise.errors import BadInputError, NonFiniteError
from layerwise.files import canonical_json, write_atomic
from layerwise.profile.changes import MEASURES, Resampling, measure_change
from layerwise.profile.probe_reading import ProbeReading
from layerwise.profile.record import Profile
from layerwise.profile.states import States, make_probe_set
from layerwise.provenance import collect
from layerwise.signals.similarity import (
    align,
    cka_of,
    held_out,
    represent,
    rsa_of,
    shared_pca_of,
    unrotated,
)
from support.profiles import procrustes

BLOCKS, PROBES, WIDTH = 10, 40, 24
TEXTS = make_probe_set([f"probe {i}" for i in range(PROBES)], source="planted")
SAMPLES = Resampling.draw(PROBES, bootstrap=200, seed=0)


def states(*, moved=None, share=0.3, normed=True, seed=0):
    """States of a made-up model; those of the blocks in `moved` have `share` of noise added."""
    generator = np.random.default_rng(seed)
    residual = generator.standard_normal((BLOCKS, PROBES, WIDTH)) + 4.0
    noise = np.random.default_rng(9).standard_normal(residual.shape)
    for block in moved or ():
        residual[block] += share * noise[block]
    pooled = {"residual": residual}
    if normed:
        pooled["normed"] = residual / np.linalg.norm(residual, axis=-1, keepdims=True)
    stack = StackInfo("layers", BLOCKS, "Block", "sequential")
    return States(
        model=ModelInfo("planted", "Model", 7, (stack,)),
        stack="layers",
        token_ids=tuple((i, i + 1) for i in range(PROBES)),
        pooled=pooled,
    )


def profile(before, after, **options):
    reading = ProbeReading(TEXTS, **({"bootstrap": 200} | options))
    return reading.profile(before, after, provenance=collect(device="cpu"))


def test_a_change_is_the_measures():
    before, after = states().pooled["residual"][3], states(moved=[3]).pooled["residual"][3]
    found = measure_change(before, after, SAMPLES, components=8).values
    assert found.pop("procrustes") == pytest.approx(procrustes(before, after), rel=1e-12)
    both = represent(before), represent(after)
    assert found.pop("noise") > 0
    assert found == {
        "cka": cka_of(*both),
        "rsa": rsa_of(*both),
        "shared_pca_cka": shared_pca_of(*both, components=8),
        "held_out": held_out(before, after, SAMPLES.halves[0] > 0),
        "unrotated": unrotated(*both),
    }


def test_a_change_is_seen_where_it_is():
    made = profile(states(), states(moved=[4]))
    for readout in made.readouts.values():
        moved = [block.index for block in readout.blocks if block.procrustes > 0]
        assert moved == [4]
        quiet = [b for b in readout.blocks if b.index != 4]
        assert {getattr(b, name) for b in quiet for name in MEASURES} == {0.0}
    assert [b.index for b in made.blocks] == list(range(BLOCKS))
    assert [b.relative for b in made.blocks] == pytest.approx(np.arange(1, 11) / 10)


def test_no_change_is_nothing_at_all():
    made = profile(states(), states())
    every = [b for r in made.readouts.values() for b in r.blocks]
    assert {getattr(b, name) for b in every for name in MEASURES} == {0.0}
    assert (made.slope, made.slope_low, made.slope_high) == (0.0, 0.0, 0.0)
    assert (made.held_out_slope, made.unrotated_slope) == (0.0, 0.0)
    assert made.width == ()
    assert made.noise_floor == 0.0


def test_change_that_rises_has_a_positive_slope():
    after = states()
    rising = after.pooled["residual"].copy()
    noise = np.random.default_rng(2).standard_normal(rising.shape)
    rising += 0.2 * np.arange(BLOCKS)[:, None, None] / BLOCKS * noise
    made = profile(states(normed=False), replace(after, pooled={"residual": rising}))
    assert 0 < made.slope_low < made.slope < made.slope_high
    assert made.cka_slope > 0
    assert made.rsa_slope > 0
    values = [d.procrustes for d in made.depths]
    expected = np.polyfit([d.relative for d in made.depths], values, 1)[0]
    assert made.slope == pytest.approx(expected, rel=1e-12)
    assert sum(made.width) == pytest.approx(1.0)
    assert made.width == pytest.approx(
        [d.cka / sum(e.cka for e in made.depths) for d in made.depths]
    )


@pytest.mark.slow
def test_the_interval_covers_as_often_as_it_says():
    """Probes drawn anew from one distribution: 95 % intervals hold the mean slope, mostly."""
    mixing = np.random.default_rng(4).standard_normal((2, 7, WIDTH, WIDTH))
    rise = np.linspace(0.05, 0.4, 7)[:, None, None]
    slopes, held = [], []
    for draw in range(60):
        source = np.random.default_rng(100 + draw).standard_normal((2, 1, 200, WIDTH))
        before = source[0] @ mixing[0]
        after = before + rise * (source[1] @ mixing[1])
        sample = Resampling.draw(200, bootstrap=200, seed=draw).replicates
        aligned = [align(represent(b), represent(a)) for b, a in zip(before, after, strict=True)]
        slopes.append(float(slope(np.array([one.distance for one in aligned]))))
        replicates = np.stack([one.weighted(sample) for one in aligned], axis=1)
        held.append(np.percentile(slope(replicates), (2.5, 97.5)))
    centre = np.mean(slopes)
    share = np.mean([low <= centre <= high for low, high in held])
    assert 0.85 <= share <= 1.0
    widths = np.diff(held, axis=1)[:, 0]
    assert np.median(widths) == pytest.approx(4 * np.std(slopes), rel=0.4)


def test_noise_is_what_halves_disagree_by():
    """A few probes that moved far: halves with more of them moved further."""
    before, after = states().pooled["residual"][0], states(moved=[0]).pooled["residual"][0]
    uneven = before + 0.1 * (after - before)
    uneven[:4] += 3.0 * (after - before)[:4]
    even = measure_change(before, after, SAMPLES, components=8).values
    found = measure_change(before, uneven, SAMPLES, components=8).values
    assert 0 < even["noise"] / even["procrustes"] < 0.1
    assert found["noise"] / found["procrustes"] > 0.1


def test_halves_share_out_the_probes():
    drawn = Resampling.draw(41, bootstrap=10, seed=3)
    assert set(drawn.halves.sum(1)) == {20}
    assert set(drawn.replicates.sum(1)) == {41}
    again, other = (Resampling.draw(41, bootstrap=10, seed=s) for s in (3, 4))
    assert np.array_equal(again.replicates, drawn.replicates)
    assert not np.array_equal(other.replicates, drawn.replicates)


def test_threads_change_nothing():
    threads = torch.get_num_threads()
    wide = [profile(states(), states(moved=range(3, 9)))]
    torch.set_num_threads(2)
    try:
        wide.append(profile(states(), states(moved=range(3, 9))))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert wide[0].readouts == wide[1].readouts


def test_readouts_share_what_they_have_in_common():
    made = profile(states(), states(moved=range(3, 9)))
    hf, residual, normed = (made.readouts[r].blocks for r in ("hf", "residual", "normed"))
    assert hf[:-1] == residual[:-1]
    assert hf[-1] == normed[-1]
    assert hf[5] != normed[5]


def test_the_record_shows_the_readout_asked_for():
    before, after = (replace(states(moved=moved), notes=("n",)) for moved in ((), [9]))
    made = profile(before, after, readout="normed", seed=4)
    assert made.blocks == made.readouts["normed"].blocks
    assert made.slope == made.readouts["normed"].slope
    assert (made.probes.inputs, made.probes.tokens, made.probes.seed) == (PROBES, 2 * PROBES, 4)
    assert made.probes.width == WIDTH
    assert made.notes == ("n",)
    assert len(made.frame()) == 3 * BLOCKS
    again = profile(before, after, readout="normed", seed=4)
    assert replace(again, provenance=made.provenance).to_json() == made.to_json()


def test_a_profile_of_the_first_schema_says_what_its_slope_depends_on(tmp_path):
    plain = profile(states(), states(moved=[9])).to_plain() | {"schema": "layerwise/profile/1"}
    for key in ("held_out_slope", "unrotated_slope"):
        del plain[key]
    del plain["probes"]["width"]
    write_atomic(tmp_path / "profile.json", canonical_json(plain))
    read = Profile.load(tmp_path)
    assert (read.held_out_slope, read.probes.width) == (None, None)
    assert "depend on how many probes there were" in read.notes[-1]


# -- what cannot be compared -----------------------------------------------------------------------


def test_a_depth_that_cannot_be_measured_is_named():
    broken = states()
    broken.pooled["residual"][6, 2, 3] = np.inf
    with pytest.raises(NonFiniteError, match=r"not finite at block 6 of layers \(residual read"):
        profile(states(), broken)
    flat = states()
    flat.pooled["normed"][2] = 1.0
    with pytest.raises(BadInputError, match=r"variance at block 2 of layers \(normed readout\)"):
        profile(flat, states())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stack": "other"}, "models of different stacks: 'other'; expected layers, as in planted"),
        ({"pooled": {"residual": np.ones((9, 40, 24))}}, "different numbers of blocks: '9'"),
        ({"pooled": {"residual": np.ones((10, 40, 23))}}, "different widths: '23'; expected 24"),
        ({"pooled": {"residual": np.ones((10, 40, 24))}}, "models of different readouts"),
        ({"token_ids": ((1,),) * 40}, "different tokenizers: they read 'probe 0' as other tokens"),
        ({"token_ids": ((1,),) * 39}, "states of another number of probes"),
    ],
)
def test_models_that_differ_in_more_than_weights_are_refused(change, message):
    with pytest.raises(BadInputError, match=message):
        profile(states(), replace(states(), **change))
