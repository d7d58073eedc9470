"""A cell's id says what it is and is decided by its spec alone."""

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from layerwise.records import from_plain
from layerwise.study.record import Cell, is_safe

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
SETTINGS = st.dictionaries(st.text(min_size=1), VALUES, max_size=6)


def cell(settings=None, **fields):
    names = {"stage": "tune", "model": "bert", "objective": "simcse", "condition": "lora"}
    return Cell(**names | {"placement": None, "seed": 3, "settings": settings or {}} | fields)


def test_the_id_says_what_it_is():
    assert re.fullmatch(r"bert-simcse-lora-s3-[0-9a-f]{16}", cell().id)
    assert re.fullmatch(r"bert-simcse-lora-low-s3-[0-9a-f]{16}", cell(placement="low").id)
    made = cell(stage="pretrain", objective="causal-lm", condition="uniform")
    assert re.fullmatch(r"bert-pretrain-s3-[0-9a-f]{16}", made.id)
    apart = cell(stage="distance", objective=None, condition=None)
    assert re.fullmatch(r"bert-distance-s3-[0-9a-f]{16}", apart.id)


@given(settings=SETTINGS)
def test_the_order_of_keys_does_not_matter(settings):
    turned = dict(reversed(settings.items()))
    assert cell(settings).id == cell(turned).id


@given(one=SETTINGS, other=SETTINGS)
def test_different_specs_have_different_ids(one, other):
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (cell(one).id == cell(other).id) == same


def test_every_field_counts():
    others = {"stage": "distance", "model": "bart", "objective": "nsp", "condition": "uniform"}
    others |= {"placement": "low", "seed": 4, "after": ("x",), "settings": {"a": 1}}
    ids = {cell().id, *(cell(**{field: value}).id for field, value in others.items())}
    assert len(ids) == len(others) + 1


@given(name=st.text(min_size=1, max_size=400))
def test_an_id_is_a_file_name_whatever_is_in_it(name):
    made = cell(objective=name, condition=name).id
    assert is_safe(made, longest=160)


def test_a_spec_leads_back_to_its_cell():
    made = cell({"source": "demo", "where": ["a=b"], "profile": {"bootstrap": 3}}, after=("x",))
    again = from_plain(json.loads(json.dumps(made.spec())), Cell, source="spec.json")
    assert (again, again.id) == (made, made.id)
