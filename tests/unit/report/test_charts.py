import json
import math
import struct
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise

import pytest
import vl_convert

from layerwise.report.blocks import Axis, Chart, Rule
from layerwise.report.renderers.charts import exported, heading, specification
from layerwise.report.renderers.theme import LIGHT, chart_config

HOSTILE = 'datum["x"] + ${alert(1)} </script>'
KINDS = ("blocks", "bars", "named", "intervals", "scatter", "heat")


def strings(value):
    """Every string of a specification outside its data."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in {"datasets", "domain", "sort", "description"}:
                yield key
                yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, str):
        yield value


def on_blocks(values, *, stacks=(), **axis):
    counts = stacks or (len(values),)
    spots = [(n + s, i) for s, count in enumerate(counts) for n, i in _places(counts, s, count)]
    rows = [{"x": x, "index": i, "v": v} for (x, i), v in zip(spots, values, strict=True)]
    return Chart("c", "Gain", "blocks", rows, Axis("x"), Axis("v", **axis))


def _places(counts, stack, count):
    start = sum(counts[:stack])
    return [(start + i, i) for i in range(count)]


def encoding(chart, channel):
    return specification(chart, LIGHT)["layer"][-1]["encoding"][channel]


@pytest.mark.parametrize("name", KINDS)
def test_names_from_outside_are_data_only(planted_document, name):
    spec = specification(planted_document(HOSTILE).charts()[name], LIGHT)
    texts = list(strings({k: v for k, v in spec.items() if k != "$schema"}))
    assert not any("alert" in text for text in texts if text != HOSTILE) or name == "named"
    assert not any(text in {"url", "href", "image"} or "://" in text for text in texts)
    assert HOSTILE in json.dumps(spec["datasets"]).replace('\\"', '"')


@pytest.mark.parametrize("name", KINDS)
def test_a_chart_holds_the_numbers_that_it_draws_and_no_others(planted_document, name):
    chart = planted_document().charts()[name]
    spare = [{**row, "spare": float("nan")} for row in chart.rows]
    rows = specification(replace(chart, rows=spare), LIGHT)["datasets"]["rows"]
    assert len(rows) == len(chart.rows)
    assert all("spare" not in row for row in rows)
    json.dumps(rows, allow_nan=False)


@pytest.mark.parametrize(
    ("values", "title"),
    [
        ((3.1e-5, 2e-5), "Gain (×10⁻⁶ nats)"),
        ((1.0, 19.0), "Gain (nats)"),
        ((0.0, 100.0), "Gain (nats)"),
        ((0.3, 7.0), "Gain (nats), log scale"),
    ],
)
def test_titles_name_power_unit_and_scale(values, title):
    assert heading(on_blocks(values, unit="nats", scale="log")) == title


@pytest.mark.parametrize(
    ("values", "domain", "ticks"),
    [
        ((0.3, 7.0), [0.2, 10.0], [0.2, 0.5, 1.0, 2.0, 5.0, 10.0]),
        ((0.0011, 980.0), [0.001, 1000.0], [0.001, 0.1, 10.0, 1000.0]),
    ],
)
def test_positive_numbers_over_decades_are_on_a_log_scale_with_round_ends(values, domain, ticks):
    y = encoding(on_blocks(values, scale="log"), "y")
    assert (y["scale"]["type"], y["scale"]["domain"]) == ("log", domain)
    assert y["axis"]["values"] == ticks


def test_what_is_nearly_equal_is_not_drawn_as_if_it_differed():
    def domain(values, **axis):
        return encoding(on_blocks(values, **axis), "y")["scale"].get("domain")

    low, high = domain([1.5, 1.5 + 1e-5, 1.5])
    assert low < 1.5 < 1.5 + 1e-5 < high
    assert high - low == pytest.approx(0.02 * 1.5, rel=1e-3)
    assert domain([-3.0, -3.0], scale="log") == pytest.approx([-3.03, -2.97])
    assert domain([1.5, 1.6]) is None
    assert domain([0.0, 0.0]) is None


def outside(chart):
    """Return every mark of a drawn chart that leaves its frame, or has no place at all."""
    spec = specification(chart, LIGHT) | {"config": chart_config(LIGHT)}
    frame = vl_convert.vegalite_to_scenegraph(spec)["scenegraph"]["items"][0]
    ends, marks = {"x": frame["width"], "y": frame["height"]}, [*frame["items"]]
    for mark in marks:  # Grows: what lies in a group is a mark, too.
        marks += [inner for item in mark["items"] for inner in item.get("items", ())]
    return [
        (mark["name"], key, item[key])
        for mark in marks if mark["role"] == "mark" and not mark["clip"]
        for item in mark["items"] for key in ("x", "x2", "y", "y2")
        if key in item and not -1 <= (-99 if item[key] is None else item[key]) <= ends[key[0]] + 1
    ]  # fmt: skip


NAN = float("nan")


@pytest.mark.parametrize("values", [
    [7.5, 7.51, 7.5], [3.0], [0.0, 0.0], [-1.0, 2.0], [1e-9, 5e8], [-4.0, -4.0], [-1e-9, -2e9],
    [2.0, None, 2.1], [NAN], [math.inf, 1.0, NAN],
], ids=str)  # fmt: skip
@pytest.mark.parametrize(("name", "scale"), [
    *((name, "zero") for name in KINDS),
    *((name, scale) for name in ("blocks", "intervals", "scatter") for scale in ("near", "log")),
])  # fmt: skip
def test_nothing_is_drawn_outside_its_chart(planted_document, name, scale, values):
    chart = planted_document().charts()[name]
    numbers = {"size", "low", "high", "other", "share"} & {*chart.rows[0]}
    rows = [{**row, **dict.fromkeys(numbers, value)}
            for row, value in zip(chart.rows * 3, values, strict=False)]  # fmt: skip
    side = "x" if name == "intervals" else "y"
    axis = replace(getattr(chart, side), scale=scale)
    chart = replace(chart, rows=rows, faint=chart.faint and rows, lines=(), **{side: axis})
    for rules in ([], [Rule(5.0, band=True), Rule(5.0)]):
        assert outside(replace(chart, rules=rules)) == []


@pytest.mark.parametrize("name", ["bars", "named"])
def test_bars_begin_at_0(planted_document, name):
    chart = planted_document().charts()[name]
    with pytest.raises(ValueError, match="bars begin at 0"):
        replace(chart, y=replace(chart.y, scale="near"))


def test_a_second_stack_counts_from_0_again_after_a_gap():
    axis = encoding(on_blocks([1.0] * 6, stacks=(3, 3)), "x")["axis"]
    assert axis["values"] == [0, 1, 2, 4, 5, 6]
    assert "datum.value >= 4 ? datum.value - 4" in axis["labelExpr"]


def test_what_is_in_no_block_has_a_place_and_a_name():
    chart = on_blocks([1.0, 2.0])
    rest = replace(chart, rows=[*chart.rows, {"x": 3, "index": None, "v": 3.0}])
    axis = encoding(rest, "x")["axis"]
    assert axis["values"] == [0, 1, 3]
    assert axis["labelExpr"].startswith("datum.value == 3 ? 'rest' : ")


@pytest.mark.parametrize("blocks", [1, 12, 30, 96, 128])
def test_the_block_axis_has_few_ticks(blocks):
    axis = encoding(on_blocks([1.0] * blocks), "x")["axis"]
    assert 1 <= len(axis["values"]) <= 13


def test_more_series_than_colours_still_draw(planted_document):
    chart = replace(planted_document().charts()["blocks"], names=[str(n) for n in range(9)])
    scale = encoding(chart, "color")["scale"]
    assert len(scale["range"]) == len(scale["domain"]) == 9


def test_long_names_of_points_do_not_overlap():
    rows = [{"a": float(n), "b": 1.0 + n / 1000, "name": "long name"} for n in range(4)]
    chart = Chart("c", "T", "scatter", rows, Axis("a"), Axis("b"), label="name")
    spec = specification(chart, LIGHT)
    named = [row for rows in spec["datasets"].values() for row in rows if "text" in row]
    heights = sorted({row["y"] for row in named})
    assert len(heights) == len(rows)
    assert min(b - a for a, b in pairwise(heights)) > 0.04 * 0.02  # Of what the axis spans.


def test_configuration_is_of_the_theme():
    config = chart_config(replace(LIGHT, ink="var(--ink)"))
    assert config["title"]["color"] == "var(--ink)"


def test_exports_are_drawn_pictures_in_which_names_stay_text(planted_document):
    document = planted_document("<script>1</script>")
    files = exported(document)
    assert set(files) == {f"chart-{n}.{form}" for n in KINDS for form in ("png", "svg")}
    for name, content in files.items():
        if name.endswith(".png"):
            assert content.startswith(b"\x89PNG")
            assert struct.unpack(">II", content[16:24]) > (1000, 100)
        else:
            root = ET.fromstring(content)  # noqa: S314 - our own drawing.
            assert [e for e in root.iter() if e.tag.endswith("path") and e.get("d")]
            assert b"<script" not in content
    assert b"&lt;script&gt;" in files["chart-blocks.svg"]
