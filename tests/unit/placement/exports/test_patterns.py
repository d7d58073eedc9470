"""Patterns that mean just these modules."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layerwise.errors import PlacementError
from layerwise.placement.exports.patterns import target_regex

# A busy machine is no fault of the patterns.
UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

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
    ("blocks", "expected"),
    [
        ((0, 6, 12), r"model\.layers\.(?:0|6|12)\.self_attn\.(?:q_proj|v_proj)"),
        ((3,), r"model\.layers\.3\.self_attn\.(?:q_proj|v_proj)"),
    ],
)
def test_what_blocks_share_is_written_once(blocks, expected):
    names = [f"model.layers.{i}.self_attn.{t}" for i in blocks for t in ("q_proj", "v_proj")]
    assert target_regex(names) == expected


def test_blocks_that_differ_are_kept_apart():
    names = ["h.0.attn", "h.0.mlp", "h.1.attn", "h.2.mlp", "h.3.attn"]
    assert target_regex(names) == r"h\.(?:0\.(?:attn|mlp)|(?:1|3)\.attn|2\.mlp)"


def test_a_pattern_for_many_blocks_stays_short():
    names = [f"model.layers.{i}.mlp.{t}_proj" for i in range(80) for t in ("up", "down", "gate")]
    assert len(target_regex(names)) < 320


def test_no_module_is_refused():
    with pytest.raises(PlacementError, match=r"^no module to adapt; expected at least one module"):
        target_regex([])
