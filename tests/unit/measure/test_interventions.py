"""Adapters where a model moved, and elsewhere: equal parameters, the same batches, no trace."""

from dataclasses import replace

import pytest

from layerwise.errors import BadInputError, SchemaError
from layerwise.measure.interventions import adapter_placement, intervention_arms
from layerwise.measure.trial import bench
from layerwise.objectives import resolve

pytestmark = pytest.mark.slow  # Short runs, many of them.


def moved(planted_profile, *cka, stack="model.layers"):
    """A profile whose CKA change at each block is one of `cka`."""
    made = planted_profile()
    blocks = tuple(replace(made.blocks[0], index=i, cka=value) for i, value in enumerate(cka))
    return replace(made, blocks=blocks, stack=stack)


@pytest.fixture(scope="module")
def ready(tuning):
    loaded, data = tuning.loaded("llama"), tuning.data(24)
    objective = resolve("auto", loaded=loaded, data=data)
    settings = tuning.settings(steps=3)
    return bench(loaded, data, tuning.data(12), objective, settings)


def blocks_of(arm):
    return tuple(block.index for block in arm.placement.blocks)


def test_arms_have_their_blocks_and_equal_parameters(tiny, planted_profile):
    profile = moved(planted_profile, 0.1, 0.3, 0.2)
    found = intervention_arms(tiny.build("llama"), profile, blocks=2, rank=4, draws=3)
    made = {arm.name: arm for arm in found}
    assert list(made) == ["plasticity", "uniform", "random-1", "random-2", "random-3", "all"]
    assert blocks_of(made["plasticity"]) == (1, 2)
    assert blocks_of(made["uniform"]) == (0, 2)
    assert blocks_of(made["all"]) == (0, 1, 2)
    assert (made["all"].placement.rank, made["uniform"].placement.rank) == (4, 6)
    assert len({arm.placement.adapter_parameters for arm in found}) == 1
    assert all(arm.placement.alpha == 2 * arm.placement.rank for arm in found)
    level = moved(planted_profile, 0.1, 0.1, 0.1)
    plasticity, *_ = intervention_arms(tiny.build("llama"), level, blocks=1)
    assert blocks_of(plasticity) == (0,)  # The lowest of equals.
    assert plasticity.placement.rank == 24


def test_random_blocks_are_fixed_by_the_seed(tiny, planted_profile):
    profile, loaded = moved(planted_profile, 0.1, 0.2, 0.3), tiny.build("gpt2")
    profile = replace(profile, stack=loaded.stacks[0].name)
    drawn = [
        [blocks_of(a) for a in intervention_arms(loaded, profile, blocks=1, draws=8, seed=seed)]
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0][2:-1])) > 1


@pytest.fixture(scope="module")
def found(ready, planted_profile):
    profile = moved(planted_profile, 0.1, 0.4)
    return adapter_placement(
        ready, profile, blocks=1, rank=2, draws=2, seeds=(0, 1), learning_rate=1e-2
    )


def test_a_trial_an_arm_and_seed(found, ready):
    assert [(t.arm, t.seed) for t in found.trials] == [
        (arm, seed)
        for arm in ("plasticity", "uniform", "random-1", "random-2", "all")
        for seed in (0, 1)
    ]
    assert set(found.improvement) == {"plasticity", "uniform", "random", "all"}
    drawn = [t.improvement for t in found.trials if t.arm.startswith("random")]
    assert found.improvement["random"] == pytest.approx(sum(drawn) / 4)
    for t in found.trials:
        assert t.improvement == pytest.approx(ready.loss_before - t.loss)


def test_the_frame_has_a_line_an_arm_and_seed(found):
    frame = found.frame()
    assert len(frame) == 10
    assert set(frame.columns) == {
        "arm", "seed", "loss", "improvement", "rank", "adapter_parameters",
    }  # fmt: skip


def test_a_profile_of_another_model_is_refused(ready, planted_profile):
    with pytest.raises(SchemaError, match=r"profile of another model: '3 blocks of model\.layers'"):
        adapter_placement(ready, moved(planted_profile, 0.1, 0.2, 0.3), blocks=1)
    other = moved(planted_profile, 0.1, 0.2, stack="transformer")
    with pytest.raises(SchemaError, match=r"expected 2 of model\.layers"):
        adapter_placement(ready, other, blocks=1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"blocks": 0}, "number of blocks: '0'; expected 1 to 2"),
        ({"blocks": 3}, "number of blocks: '3'; expected 1 to 2"),
    ],
)
def test_numbers_out_of_range(ready, planted_profile, options, says):
    with pytest.raises(BadInputError, match=says):
        adapter_placement(ready, moved(planted_profile, 0.1, 0.2), **options)
