"""PEFT's arguments: just these modules, by patterns, each with its rank and all of one scale."""

import json
import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft.utils.other import get_pattern_key

from layerwise.errors import PlacementError
from layerwise.placement.exports.lora import alpha_pattern, peft_config, rank_pattern, target_regex
from layerwise.placement.place import place

# A busy machine is no fault of the patterns.
UNTIMED = settings(deadline=None, suppress_health_check=list(HealthCheck))

PARTS = st.sampled_from(
    [
        "0",
        "1",
        "10",
        "11",
        "layers",
        "q",
        "q_proj",
        "a+b",
        "(x)",
        "w*",
        "[0]",
        "^$",
        "\\d",
        "|",
        "é",
    ]
)
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


@UNTIMED
@given(st.sets(MODULE_NAMES, min_size=1, max_size=25), st.sets(MODULE_NAMES, max_size=25))
def test_the_pattern_matches_these_names_and_no_others(wanted, others):
    pattern = re.compile(target_regex(wanted))
    assert all(pattern.fullmatch(name) for name in wanted)
    assert not any(pattern.fullmatch(name) for name in others - wanted)


@pytest.mark.slow
@UNTIMED
@given(st.sets(st.text(min_size=1, max_size=6), min_size=1), st.text(max_size=6))
def test_no_character_of_a_name_has_a_meaning(wanted, other):
    pattern = re.compile(target_regex(wanted))
    assert all(pattern.fullmatch(name) for name in wanted)
    assert bool(pattern.fullmatch(other)) == (other in wanted)


@UNTIMED
@given(st.sets(MODULE_NAMES, min_size=1))
def test_a_name_with_more_in_front_or_behind_does_not_match(wanted):
    pattern = re.compile(target_regex(wanted))
    for name in wanted:
        for near in (f"x.{name}", f"{name}.x", f"x{name}", f"{name}x", f"{name}\n"):
            assert bool(pattern.fullmatch(near)) == (near in wanted)


@UNTIMED
@given(st.lists(MODULE_NAMES, min_size=1, unique=True), st.randoms())
def test_the_order_of_names_does_not_matter(names, random):
    shuffled = list(names)
    random.shuffle(shuffled)
    assert target_regex(shuffled) == target_regex(names)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([f"x.{i}.at.{t}" for i in (0, 6, 12) for t in "qv"], r"x\.(?:0|6|12)\.at\.(?:q|v)"),
        (["x.3.at.q", "x.3.at.v"], r"x\.3\.at\.(?:q|v)"),
        (
            ["h.0.attn", "h.0.mlp", "h.1.attn", "h.2.mlp", "h.3.attn"],
            r"h\.(?:0\.(?:attn|mlp)|(?:1|3)\.attn|2\.mlp)",
        ),
    ],
)
def test_what_blocks_share_is_written_once(names, expected):
    assert target_regex(names) == expected


def test_a_pattern_for_many_blocks_stays_short():
    names = [f"model.layers.{i}.mlp.{t}_proj" for i in range(80) for t in ("up", "down", "gate")]
    assert len(target_regex(names)) < 320
