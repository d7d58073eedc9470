"""Placements as a study describes them."""

import pytest

from layerwise.errors import BadInputError, PlacementError, UnknownNameError
from layerwise.study.placing import check_placement, placement_settings
from layerwise.tuning.lora import placed_on


def test_what_is_not_said_is_as_for_lora_elsewhere(tuning):
    usual = placed_on(tuning.loaded("llama"))
    asked = placement_settings({})
    assert (asked["rank"], asked["alpha"], asked["dropout"]) == (
        usual.rank,
        usual.alpha,
        usual.dropout,
    )


@pytest.mark.parametrize(
    ("described", "error", "match"),
    [
        ({"policy": "sky"}, UnknownNameError, "unknown policy: 'sky'"),
        ({"policy": "ski", "blocks": "0"}, BadInputError, "both blocks and a policy: 'ski'"),
        ({"layers": 2}, BadInputError, "layers of a placement without a policy: '2'.*drop layers"),
        ({"blocks": "0", "examples": 2}, BadInputError, "examples of a placement without a pol"),
    ],
)
def test_descriptions_that_say_too_much_or_too_little(described, error, match):
    with pytest.raises(error, match=match):
        placement_settings(described)


@pytest.mark.parametrize(
    ("described", "error", "match"),
    [
        ("7", PlacementError, "no such block in .*: '7'"),
        ({"blocks": "7"}, PlacementError, "no such block in .*: '7'"),
        ({"targets": ["q_pro"]}, UnknownNameError, "q_pro"),
        ({"policy": "ski", "targets": ["q_pro"]}, UnknownNameError, "q_pro"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_before_anything_runs(
    tuning, described, error, match
):
    with pytest.raises(error, match=match):
        check_placement(described, tuning.loaded("llama"))


@pytest.mark.parametrize("described", [None, "1", {}, {"policy": "ski"}, {"blocks": "1"}])
def test_what_fits_is_not(tuning, described):
    check_placement(described, tuning.loaded("llama"))
