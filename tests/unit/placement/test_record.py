"""Placements and coverage as records."""

import json
from dataclasses import replace

from layerwise.placement.place import place
from layerwise.placement.record import Placement, Verification


def test_what_was_checked_is_kept_in_the_file(small_card, tmp_path):
    placement = replace(place(small_card(), rows="1"), verified=Verification(2, 2))
    (tmp_path / "placement.json").write_bytes(placement.to_json())
    assert Placement.load(tmp_path / "placement.json") == placement
    assert json.loads(placement.to_json())["verified"] == {"expected": 2, "matched": 2}


def test_what_is_unknown_is_not_in_the_file(small_card):
    placement = replace(place(small_card(), rows="1"), cost=None, revision=None)
    assert {"cost", "revision", "verified"} & placement.to_plain().keys() == set()


def test_ranks_of_modules_are_kept_in_the_file(small_card, tmp_path):
    placement = place(small_card(), rows="1,4", rank=8, ranks={4: 2})
    assert placement.ranks == {"model.layers.4.attn.q": 2, "model.layers.4.attn.v": 2}
    assert [placement.rank_of(module) for module in placement.modules] == [8, 8, 2, 2]
    (tmp_path / "placement.json").write_bytes(placement.to_json())
    assert Placement.load(tmp_path) == placement
    assert "ranks" not in place(small_card(), rows="1,4").to_plain()
