"""The ladder of unfrozen blocks: who trains, from where, and when more no longer matter."""

import pytest

from layerwise.errors import BadInputError, UnknownNameError
from layerwise.objectives import resolve
from layerwise.probing.ladder import adaptation_depth, default_tops

pytestmark = pytest.mark.slow  # Short runs, many of them.


@pytest.fixture(scope="module")
def climb(tuning):
    def climb(name="llama", *, objective="auto", loaded=None, budget=(), **options):
        loaded, data = loaded or tuning.loaded(name), tuning.data(24)
        settings = tuning.settings(**{"eval_examples": 6, "learning_rate": 1e-2} | dict(budget))
        loss = resolve(objective, loaded=loaded, data=data)
        return adaptation_depth(loaded, data, loss, settings=settings, **options)

    return climb


@pytest.fixture(scope="module")
def climbed(climb):
    return climb(seeds=(0, 1))


def test_a_rung_a_number_of_blocks_and_the_full_one(climbed):
    assert [rung.top for rung in climbed.rungs] == [1, 2]
    assert climbed.full.top is None
    assert climbed.rungs[0].trained < climbed.rungs[1].trained < climbed.full.trained
    assert climbed.seeds == (0, 1)
    assert climbed.measured == "held-out"
    for rung in (*climbed.rungs, climbed.full):
        assert len(rung.losses) == 2
        assert rung.loss == pytest.approx(sum(rung.losses) / 2)


def test_a_rung_is_the_run_that_tune_makes(tuning, climbed):
    tuned = tuning.tune(
        "llama", condition="top-m", top=1, seed=1, eval_examples=6, learning_rate=1e-2
    )
    assert climbed.rungs[0].losses[1] == pytest.approx(tuned.record.outcome.eval_loss)
    full = tuning.tune("llama", condition="uniform", seed=0, eval_examples=6, learning_rate=1e-2)
    assert climbed.full.losses[0] == pytest.approx(full.record.outcome.eval_loss)


def test_the_model_is_left_as_it_was(tuning, climb):
    loaded = tuning.loaded("bert")
    before = tuning.weights(loaded)
    climb(loaded=loaded, tops=[2])
    assert tuning.same(before, tuning.weights(loaded))
    assert all(p.requires_grad and p.grad is None for p in loaded.model.parameters())


def test_saturation_is_the_fewest_blocks_within_the_tolerance(climb, climbed):
    worst = max(rung.loss for rung in climbed.rungs) / climbed.full.loss - 1
    assert climb(seeds=(0, 1), tolerance=worst + 1e-6).saturation == 1
    never = climb(seeds=(0, 1), tolerance=-0.5)
    assert never.saturation is None
    limit = climbed.full.loss * 1.05
    fits = [rung.top for rung in climbed.rungs if rung.loss <= limit]
    assert climbed.saturation == (fits[0] if fits else None)


def test_without_held_out_examples_it_is_the_training_loss(climb):
    found = climb(tops=[1], budget={"eval_examples": 0})
    assert found.measured == "training"
    assert found.rungs[0].loss > 0.0


@pytest.mark.parametrize("tops", [[], [0], [3], [1, 1]])
def test_rungs_that_cannot_be(climb, tops):
    with pytest.raises(BadInputError, match=r"rungs of the ladder.*from 1 to 2"):
        climb(tops=tops)


def test_settings_that_no_run_reads_are_refused(climb):
    with pytest.raises(BadInputError, match="tau has no meaning"):
        climb(budget={"tau": 0.1})
    with pytest.raises(UnknownNameError, match="unknown objective"):
        climb(objective="none")


def test_the_frame_has_a_line_a_rung_and_seed(climbed):
    frame = climbed.frame()
    assert list(frame.columns) == ["top", "seed", "loss", "trained"]
    assert frame.top.tolist() == [1, 1, 2, 2, -1, -1]


@pytest.mark.parametrize(
    ("blocks", "tops"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))]
)
def test_default_rungs(blocks, tops):
    assert default_tops(blocks) == tops
