import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from importlib import import_module
from typing import Annotated, Literal, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerwise import late_methods
from layerwise.analysis.record import Analysis
from layerwise.card.record import LayerCard
from layerwise.distance.record import Distance
from layerwise.errors import SchemaError
from layerwise.measure.interventions import Interventions
from layerwise.measure.record import Measure
from layerwise.placement.compare import Comparison
from layerwise.placement.record import Coverage, Placement
from layerwise.probing.ladder import Ladder
from layerwise.probing.record import Erasure, Probing
from layerwise.profile.audit_record import Audit
from layerwise.profile.record import Control, Profile
from layerwise.records import ABSENT, DocumentRecord, FileRecord, JsonRecord, from_plain, to_plain
from layerwise.study.status import Status
from layerwise.tuning.record import TuneRecord


@dataclass(frozen=True)
class Part:
    index: int
    row: Annotated[int | None, ABSENT]
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


@pytest.mark.slow
@given(WHOLES)
def test_there_and_back(whole):
    assert from_plain(to_plain(whole), Whole, source="test") == whole


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


def parts_of(kind):
    if is_dataclass(kind):
        yield kind
        for hint in get_type_hints(kind).values():
            yield from parts_of(hint)
    for each in get_args(kind):
        yield from parts_of(each)


def test_what_is_left_out_of_a_file_is_read_again():
    """As None is an absent key, a field that may be None has a default or is marked."""
    records = {
        part for kind in (*FileRecord.__subclasses__(), LayerCard) for part in parts_of(kind)
    }
    loose = [
        (kind.__name__, f.name)
        for kind in records - {Part, Whole, Kept}
        for f in fields(kind)
        if f.default is MISSING and type(None) in get_args(f.type)
    ]
    assert loose == []


@dataclass(frozen=True)
class Kept(JsonRecord, FileRecord, DocumentRecord):
    SCHEMA = "layerwise/kept/1"
    FILE = "kept.json"
    DOCUMENT = "kept"

    name: str
    parts: tuple[Part, ...] = ()
    extra: str | None = None


KEPT = Kept("a", (Part(0, None), Part(1, 5, 2.0)))


def test_the_schema_comes_first_and_none_is_absent_in_the_file():
    assert KEPT.to_json() == (
        b'{\n "schema": "layerwise/kept/1",\n "name": "a",\n "parts": [\n  {\n   "index": 0\n  },\n'
        b'  {\n   "index": 1,\n   "row": 5,\n   "value": 2.0\n  }\n ]\n}\n'
    )
    assert list(KEPT.to_plain()) == ["schema", "name", "parts"]
    assert json.loads(KEPT.to_json()) == KEPT.to_plain()


def test_what_a_record_is_saved_as_is_no_field():
    assert [f.name for f in fields(Kept)] == ["name", "parts", "extra"]
    assert repr(Kept("a")) == "Kept(name='a', parts=(), extra=None)"


def test_saved_and_loaded_by_file_or_folder_is_equal(tmp_path):
    (tmp_path / "kept.json").write_bytes(KEPT.to_json())
    for path in (tmp_path, tmp_path / "kept.json", str(tmp_path)):
        assert Kept.load(path) == KEPT
        assert Kept.load(path).to_json() == KEPT.to_json()
    (tmp_path / "kept.json").rename(tmp_path / "other.json")
    assert Kept.load(tmp_path / "other.json") == KEPT


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, r"no such file.*kept\.json'; expected a layerwise/kept/1 record"),
        ("{", r"unreadable record.*kept\.json'; expected a layerwise/kept/1 record"),
        ('{"schema": "layerwise/card/1"}', "'layerwise/card/1'; expected 'layerwise/kept/1'"),
        ('{"schema": "layerwise/kept/1"}', r"malformed record \(.*name.*kept\.json'.*a Kept"),
    ],
)
def test_another_or_no_record_is_refused(tmp_path, content, says):
    if content is not None:
        (tmp_path / "kept.json").write_text(content)
    with pytest.raises(SchemaError, match=says):
        Kept.load(tmp_path)


def test_a_record_is_shown_by_its_late_methods(monkeypatch):
    monkeypatch.setattr(late_methods, "_bound", {})
    late_methods.bind("text", lambda record: f"table of {record.name}")
    late_methods.bind("notebook", lambda record: f"<iframe>{record.name}")
    assert str(KEPT) == f"{KEPT}" == "table of a"
    assert KEPT._repr_html_() == "<iframe>a"


@pytest.mark.parametrize(
    ("record", "name"),
    [
        (Placement, "placement"),
        (TuneRecord, "tune"),
        (Profile, "profile"),
        (Audit, "audit"),
        (Control, "control"),
        (Distance, "distance"),
        (Analysis, "analysis"),
        (Measure, "measure"),
        (Probing, "probe"),
        (Erasure, "erase"),
        (Ladder, "ladder"),
        (Interventions, "interventions"),
        (Status, "status"),
    ],
)
def test_files_are_called_and_marked_as_those_that_are_there_already(record, name):
    assert issubclass(record, JsonRecord)
    assert issubclass(record, FileRecord) is (record not in {Ladder, Interventions, Status})
    schema, file = record.SCHEMA, getattr(record, "FILE", f"{name}.json")
    version = 2 if record in {Control, Analysis, Measure, TuneRecord, Profile} else 1
    assert (schema, file) == (f"layerwise/{name}/{version}", f"{name}.json")
    older = {f"layerwise/{name}/{n}" for n in range(1, version)}
    assert {*getattr(record, "OLDER", {})} == older


@pytest.mark.parametrize(
    "record",
    [
        *(LayerCard, Placement, Coverage, Comparison, Distance, Probing, Erasure, Measure),
        *(TuneRecord, Status, Analysis, Profile, Audit, Control),
    ],
)
def test_what_is_shown_has_a_document(record):
    assert issubclass(record, DocumentRecord)
    module = import_module(f"layerwise.report.documents.{record.DOCUMENT}")
    assert callable(module.document)
    assert {"text", "notebook"} <= set(late_methods._bound)
