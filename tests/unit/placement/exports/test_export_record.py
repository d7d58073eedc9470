"""Exports as records, and lines of YAML that say what was meant."""

import yaml
from hypothesis import given
from hypothesis import strategies as st

from layerwise.placement.exports.record import Export, yaml_lines

# What a module name, a path or a pattern may hold: anything that is not a lone half of a character.
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
VALUES = st.one_of(TEXT, st.integers(), st.booleans(), st.lists(TEXT), st.dictionaries(TEXT, TEXT))


@given(VALUES)
def test_what_yaml_reads_is_what_was_written(value):
    assert yaml.safe_load(yaml_lines({"key": value}, about="a test")) == {"key": value}


def test_none_is_left_out_and_a_comment_stands_first():
    lines = yaml_lines({"a": None, "b": 0.0, "c": r"\d\.(?:1|2)"}, about="Why")
    assert lines.decode() == '# Why\nb: 0.0\nc: "\\\\d\\\\.(?:1|2)"\n'


def test_a_file_is_taken_out_everywhere():
    two = dict.fromkeys(["a", "b"], "x")
    export = Export({"a": b"", "b": b""}, {}, two, two, ("before",)).without("a", why="so")
    assert [*export.files, *export.usage, *export.trained] == ["b", "b", "b"]
    assert export.notes == ("before", "no a: so")
