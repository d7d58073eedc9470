import json
import struct
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from layerwise.errors import PlacementError
from layerwise.placement.record import PlacedBlock
from layerwise.report.old.charts_card import SIGNALS, charts, export_charts
from layerwise.report.old.drawing import LIGHT, chart_config

NAMES = {key.replace("_", "-") for key in SIGNALS} | {"time", "memory", "cost-gain"}
HOSTILE = 'datum["x"] + ${alert(1)} </script>'


def strings(value):
    """Every string of a specification outside its data."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in {"datasets", "domain"}:
                yield key
                yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, str):
        yield value


def test_one_chart_a_column_and_one_of_cost(planted_card, planted_placement):
    card = planted_card()
    assert set(charts(card, planted_placement(card))) == NAMES


@pytest.mark.parametrize("key", ["attention_entropy", "gain", "activation_bytes"])
def test_an_absent_column_has_no_chart(planted_card, key):
    card = planted_card({"model.layers": 3})
    card = replace(card, layers=tuple(replace(row, **{key: None}) for row in card.layers))
    gone = {
        "attention_entropy": {"attention-entropy"},
        "gain": {"gain", "cost-gain"},
        # Without the bytes there is no cost of a placement either.
        "activation_bytes": {"memory", "cost-gain"},
    }
    assert set(charts(card)) == NAMES - gone[key]


def test_specifications_are_json_without_nan(planted_card):
    card = planted_card({"model.layers": 3})
    holed = (replace(card.layers[0], gain=float("nan")), *card.layers[1:])
    json.dumps(charts(replace(card, layers=holed)), allow_nan=False)


def test_names_from_outside_are_data_only(planted_card):
    card = planted_card({HOSTILE: 2, "decoder": 2}, source=HOSTILE)
    for spec in charts(card).values():
        assert HOSTILE in {row["stack"] for row in spec["datasets"]["blocks"]}
        assert not any("alert" in text for text in strings(spec))


def test_a_colour_for_each_stack_and_indices_per_stack(planted_card):
    spec = charts(planted_card({"encoder": 3, "decoder": 3}))["residual-norm"]
    encoding = spec["layer"][0]["encoding"]
    assert encoding["color"]["scale"]["domain"] == ["encoder", "decoder"]
    assert encoding["color"]["scale"]["range"] == list(LIGHT.series[:2])
    assert encoding["x"]["axis"]["values"] == [0, 1, 2, 4, 5, 6]
    assert "datum.value >= 4 ? datum.value - 4" in encoding["x"]["axis"]["labelExpr"]


def test_more_stacks_than_colours_still_draw(planted_card):
    many = planted_card({f"stack{n}": 1 for n in range(9)})
    scale = charts(many)["coherence"]["layer"][0]["encoding"]["color"]["scale"]
    assert len(scale["range"]) == len(scale["domain"]) == 9


@pytest.mark.parametrize("blocks", [1, 12, 30, 96, 128])
def test_the_block_axis_has_few_ticks(planted_card, blocks):
    axis = charts(planted_card({"h": blocks}))["gain"]["layer"][0]["encoding"]["x"]["axis"]
    assert 1 <= len(axis["values"]) <= 13


def test_no_specification_asks_for_anything_from_outside(planted_card):
    for spec in charts(planted_card()).values():
        texts = list(strings({k: v for k, v in spec.items() if k != "$schema"}))
        assert not any(text in {"url", "href", "image"} or "://" in text for text in texts)


def test_a_placement_of_another_model_is_refused(planted_card, planted_placement):
    card = planted_card({"model.layers": 3})
    foreign = replace(planted_placement(card, [0]), blocks=(PlacedBlock("other", 0),))
    with pytest.raises(PlacementError, match="the card does not"):
        charts(card, foreign)


def test_configuration_is_of_the_theme():
    config = chart_config(replace(LIGHT, ink="var(--ink)"))
    assert config["title"]["color"] == "var(--ink)"


def test_exports_are_drawn_pictures(planted_card):
    card = planted_card({"encoder": 2, "decoder": 2})
    files = export_charts(card)
    assert {name for name in files if name.endswith(".png")} == {f"chart-{n}.png" for n in NAMES}
    for name, content in files.items():
        if name.endswith(".png"):
            assert content.startswith(b"\x89PNG")
            width, height = struct.unpack(">II", content[16:24])
            assert width > 1000
            assert height > 300
        else:
            root = ET.fromstring(content)  # noqa: S314 - our own drawing.
            paths = [e for e in root.iter() if e.tag.endswith("path") and e.get("d")]
            assert len(paths) > 3


def test_hostile_names_stay_text_in_exports(planted_card):
    files = export_charts(planted_card({"<script>alert(1)</script>": 2, "d": 2}))
    drawn = files["chart-gain.svg"]
    assert b"<script" not in drawn
    assert b"&lt;script&gt;" in drawn
