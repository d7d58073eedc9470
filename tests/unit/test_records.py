from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerwise.errors import SchemaError
from layerwise.records import from_plain, to_plain


@dataclass(frozen=True)
class Part:
    index: int
    row: int | None
    value: float | None = None


@dataclass(frozen=True)
class Whole:
    name: str
    verdict: Literal["place", "flat"]
    parts: tuple[Part, ...]
    notes: Mapping[str, str] = field(default_factory=dict)
    extra: str | None = None


PARTS = st.builds(
    Part,
    index=st.integers(),
    row=st.none() | st.integers(),
    value=st.none() | st.floats(allow_nan=False),
)
WHOLES = st.builds(
    Whole,
    name=st.text(),
    verdict=st.sampled_from(["place", "flat"]),
    parts=st.lists(PARTS, max_size=3).map(tuple),
    notes=st.dictionaries(st.text(), st.text(), max_size=3),
    extra=st.none() | st.text(),
)


@given(WHOLES)
def test_there_and_back(whole):
    assert from_plain(to_plain(whole), Whole, source="test") == whole


def test_what_is_none_is_absent():
    plain = to_plain(Whole("a", "flat", (Part(0, None), Part(1, 5, 2.0))))
    assert plain == {
        "name": "a",
        "verdict": "flat",
        "parts": [{"index": 0}, {"index": 1, "row": 5, "value": 2.0}],
        "notes": {},
    }


def test_a_key_from_a_later_version_is_ignored():
    plain = to_plain(Whole("a", "flat", ())) | {"new": 1}
    assert from_plain(plain, Whole, source="test") == Whole("a", "flat", ())


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"verdict": "perhaps"}, "verdict"),
        ({"parts": [{"value": 1.0}]}, "index"),
        ({"parts": [{"index": "three"}]}, "index"),
        ({"parts": 3}, "parts"),
    ],
)
def test_a_malformed_record_names_the_place_and_the_file(change, fault):
    plain = to_plain(Whole("a", "flat", ())) | change
    with pytest.raises(SchemaError, match=rf"malformed record \(.*{fault}.*'some.json'.*a Whole"):
        from_plain(plain, Whole, source="some.json")


@pytest.mark.parametrize("plain", [None, [], "text", 3])
def test_what_is_no_mapping_is_malformed(plain):
    with pytest.raises(SchemaError, match="malformed record"):
        from_plain(plain, Whole, source="some.json")
