"""PEFT's arguments: just these modules, each with its rank and all with one scale."""

import json
import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft.utils.other import get_pattern_key

from layerwise.errors import PlacementError
from layerwise.placement.exports.lora import alpha_pattern, peft_config, rank_pattern
from layerwise.placement.place import place

# A busy machine is no fault of the patterns.
UNTIMED = settings(deadline=None, suppress_health_check=list(HealthCheck))

PARTS = st.sampled_from(["0", "1", "11", "layers", "q", "a+b", "(x)", "w*", "[0]", "^$", "\\d"])
MODULE_NAMES = st.lists(PARTS, min_size=1, max_size=4).map(".".join)


def test_the_configuration_is_plain_json(small_card):
    config = peft_config(place(small_card(), rows="1,4", rank=4))
    assert config == {
        "peft_type": "LORA",
        "base_model_name_or_path": "org/model",
        "revision": "abc",
        "r": 4,
        "lora_alpha": 8,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": r"model\.layers\.(?:1|4)\.attn\.(?:q|v)",
        "exclude_modules": r"(?!model\.layers\.(?:1|4)\.attn\.(?:q|v)\Z).*",
    }
    assert json.loads(json.dumps(config)) == config


@UNTIMED
@given(wanted=st.sets(MODULE_NAMES, min_size=1), other=MODULE_NAMES)
def test_what_is_excluded_is_all_that_is_not_meant(small_card, wanted, other):
    config = peft_config(replace(place(small_card(), rows="1"), modules=tuple(wanted)))
    for name in {*wanted, other}:
        excluded = bool(re.fullmatch(config["exclude_modules"], name))
        assert excluded == (name not in wanted)
        assert excluded != bool(re.fullmatch(config["target_modules"], name))


def test_ranks_that_differ_are_keyed_by_escaped_patterns_from_the_start(small_card):
    placement = place(small_card(), rows="1,4,11", rank=8, ranks="1=2,4=16")
    assert rank_pattern(placement) == {
        r"^model\.layers\.1\.attn\.(?:q|v)": 2,
        r"^model\.layers\.4\.attn\.(?:q|v)": 16,
    }
    assert list(alpha_pattern(placement).values()) == [4, 32]
    assert peft_config(placement)["rank_pattern"] == rank_pattern(placement)


def test_blocks_of_one_rank_share_a_key(small_card):
    assert rank_pattern(place(small_card(), rows="1,4,7", ranks="1=2,7=2")) == {
        r"^model\.layers\.(?:1|7)\.attn\.(?:q|v)": 2
    }


@UNTIMED
@given(
    ranks=st.dictionaries(MODULE_NAMES, st.integers(1, 3), min_size=1),
    prefix=st.sampled_from(["", "x.", "encoder.", "1"]),
)
def test_pefts_own_matching_finds_each_modules_rank(small_card, ranks, prefix):
    placement = replace(
        place(small_card(), rows="1", rank=8), modules=tuple(ranks), ranks=ranks, alpha=8
    )
    keys = rank_pattern(placement)
    for name, rank in ranks.items():
        assert keys[get_pattern_key(keys, name)] == rank
        near = f"{prefix}{name}"
        assert near in ranks or get_pattern_key(keys, near) not in keys


def test_no_pattern_where_all_ranks_are_the_same(small_card):
    placement = place(small_card(), rows="1,4", rank=4, ranks="1=4")
    assert placement.ranks is None
    assert "rank_pattern" not in peft_config(placement)


def test_an_alpha_that_would_not_be_whole_is_refused(small_card):
    line = r"^LoRA alpha 12 at rank 8, for a module of rank 3: '4.5'; expected a whole number; try:"
    with pytest.raises(PlacementError, match=line + " --alpha 16"):
        peft_config(place(small_card(), rows="1,4", rank=8, alpha=12, ranks="1=3"))
