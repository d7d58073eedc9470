"""Minimal pairs: what is read, what is refused and how, and which pairs belong together."""

import json

import pytest

from layerwise.errors import DataError
from layerwise.probing.pairs import MinimalPair, given_pairs, pair_set, read_pairs


def written(folder, rows):
    file = folder / "pairs.jsonl"
    file.write_text(
        "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)
    )
    return str(file)


def rows(count=12):
    return [{"a": f"w{i} dull", "b": f"w{i} sharp"} for i in range(count)]


def test_pairs_in_their_order_blank_lines_and_other_keys_aside(tmp_path):
    file = written(tmp_path, [rows(12)[0] | {"id": 7}, "\n", *rows(12)[1:]])
    found = read_pairs(file)
    assert found.pairs == tuple(MinimalPair(row["a"], row["b"]) for row in rows(12))
    assert found.groups == tuple(range(12))
    assert found.notes == ()
    assert read_pairs(file).sha256 == found.sha256
    assert read_pairs(written(tmp_path, rows(11))).sha256 != found.sha256


def test_a_draw_is_fixed_by_its_seed(tmp_path):
    file = written(tmp_path, rows(40))
    first, again, other = (read_pairs(file, examples=15, seed=s) for s in (1, 1, 2))
    assert len(first) == 15
    assert first == again
    assert first.pairs != other.pairs
    assert len(read_pairs(file, examples=90)) == 40


def test_the_demo_s_pairs_ship_with_the_package():
    found = read_pairs("demo")
    assert len(found) >= 60
    assert len(set(found.groups)) == len(found)  # No text stands in two of them.
    assert all(len(set(p.a.split()) & set(p.b.split())) >= 2 for p in found.pairs)


def test_pairs_that_share_a_text_are_one_group_in_steps_too():
    many = [MinimalPair(f"w{i}", f"w{i} not") for i in range(10)]
    linked = [MinimalPair("x", "y"), MinimalPair("y", "z"), MinimalPair("u", "z")]
    found = pair_set([*many, *linked, MinimalPair("x", "y")], source="made")
    assert len(found) == 13
    assert len(set(found.groups)) == 11
    assert len(set(found.groups[10:])) == 1
    assert found.notes == (
        "1 pairs that stand there twice were left out",
        "pairs that share a text stay on one side of a split: 11 groups",
    )


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"a": "only one"}, "pair on line 3 without both members"),
        ({"a": "one", "b": " "}, "pair on line 3 without both members"),
        ({"a": "one", "b": None}, "pair on line 3 without both members"),
        ({"a": "one", "b": 2}, "pair on line 3 without both members"),
        (["one", "two"], "pair on line 3 without both members"),
        ({"a": "same", "b": "same"}, "pair on line 3 whose members are the same: 'same'"),
        ("{'a': 1}\n", "line 3 of the pairs is not JSON"),
    ],
)
def test_what_is_no_pair_is_refused_with_its_line(tmp_path, row, says):
    file = written(tmp_path, [rows()[0], "\n", row, *rows()])
    with pytest.raises(DataError, match=says):
        read_pairs(file)


def test_too_few_pairs(tmp_path):
    with pytest.raises(DataError, match="too few pairs: '9'; expected at least 10"):
        read_pairs(written(tmp_path, rows(9)))
    with pytest.raises(DataError, match="too few pairs: '0'"):
        read_pairs(written(tmp_path, []))
    alike = [MinimalPair("the same", f"w{i}") for i in range(20)]
    with pytest.raises(DataError, match="too few pairs that share no text: '1'"):
        pair_set(alike, source="made")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="no such file of pairs"):
        read_pairs(str(tmp_path / "none.jsonl"))
    with pytest.raises(DataError, match="unreadable file of pairs"):
        read_pairs(str(tmp_path))
    file = tmp_path / "latin.jsonl"
    file.write_bytes(b'{"a": "caf\xe9"}')
    with pytest.raises(DataError, match=r"unreadable file of pairs \(not UTF-8\)"):
        read_pairs(str(file))


def test_pairs_in_hand():
    found = given_pairs([(f"w{i}", f"w{i} not") for i in range(10)])
    assert found.source == "given"
    assert found.pairs[3] == MinimalPair("w3", "w3 not")
    with pytest.raises(DataError, match="pair on line 2 without both members"):
        given_pairs([("a", "b"), ("c",)])
