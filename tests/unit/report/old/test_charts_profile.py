import json
import re
from dataclasses import replace

import numpy as np
import pytest

from layerwise.report.old.charts_profile import (
    depth_labels,
    export_profile_charts,
    ols_rows,
    profile_charts,
    seven,
)

NAMES = {
    "depth-profile",
    "readout-hf",
    "readout-residual",
    "readout-normed",
    "cka",
    "rsa",
    "shared-pca-cka",
    "width",
}
HOSTILE = "</script>${alert(1)}"


def test_a_chart_for_each_question(planted_profile):
    assert set(profile_charts(planted_profile())) == NAMES


def test_one_readout_is_not_drawn_twice(planted_profile):
    made = profile_charts(planted_profile(scales={"hf": 1.0}))
    assert set(made) == {name for name in NAMES if not name.startswith("readout-")}


def test_where_nothing_moved_there_is_no_width(still_profile):
    made = profile_charts(still_profile())
    assert set(made) == NAMES - {"width"}
    top = made["depth-profile"]["layer"][1]["encoding"]["y"]["scale"]["domain"][1]
    assert top > 0


def test_every_block_is_drawn_with_its_own_numbers(planted_profile):
    profile = planted_profile(blocks=12)
    rows = profile_charts(profile)["depth-profile"]["datasets"]["blocks"]
    assert [row["x"] for row in rows] == list(range(12))
    for row, block in zip(rows, profile.blocks, strict=True):
        for key in ("procrustes", "cka", "rsa", "shared_pca_cka"):
            assert row[key] == pytest.approx(getattr(block, key), rel=1e-5)
    assert [row["x"] for row in rows if row["marked"]] == sorted({d.index for d in profile.depths})


def test_a_block_may_stand_for_two_depths(planted_profile):
    profile = planted_profile(blocks=6)
    assert seven(profile)[1] == [0.25, 0.40]
    assert depth_labels(profile)[1] == "25 %, 40 %"


def test_the_line_is_that_of_least_squares_through_the_seven_depths(planted_profile):
    profile = planted_profile(blocks=20)
    rows = profile_charts(profile)["depth-profile"]["datasets"]["line"]
    slope, start = np.polyfit(
        [d.relative for d in profile.depths], [d.procrustes for d in profile.depths], 1
    )
    for row, relative in zip((rows[0], rows[-1]), (0.1, 1.0), strict=True):
        assert row["x"] == pytest.approx(20 * relative - 1)
        assert row["line"] == pytest.approx(start + slope * relative, rel=1e-4)
        assert row["low"] != row["high"]
    assert rows[1]["low"] == rows[1]["high"] == rows[1]["line"]


def test_the_fan_turns_about_the_mean(planted_profile):
    depths = planted_profile().depths
    rows = ols_rows(depths, (0.5, 0.4, 0.7), blocks=10)
    run = (rows[-1]["x"] - rows[1]["x"]) / 10
    assert rows[-1]["high"] - rows[1]["line"] == pytest.approx(0.7 * run, rel=1e-4)
    assert rows[-1]["low"] - rows[1]["line"] == pytest.approx(0.4 * run, rel=1e-4)


def test_readouts_share_one_scale(planted_profile):
    made = profile_charts(planted_profile(scales={"hf": 1.0, "residual": 0.1, "normed": 2.0}))
    domains = {
        str(layer["encoding"]["y"]["scale"]["domain"])
        for name, spec in made.items()
        if name.startswith("readout-")
        for layer in spec["layer"]
    }
    assert len(domains) == 1


def test_the_noise_floor_is_a_band_where_there_is_one(planted_profile):
    def bands(profile):
        layers = profile_charts(profile)["depth-profile"]["layer"]
        return [layer for layer in layers if layer["mark"].get("type") == "rect"]

    assert len(bands(planted_profile(noise=0.01))) == 1
    assert bands(planted_profile(noise=0.0)) == []


def test_widths_are_the_record_s(planted_profile):
    profile = planted_profile()
    rows = profile_charts(profile)["width"]["datasets"]["width"]
    assert [row["share"] for row in rows] == pytest.approx(list(profile.width), rel=1e-5)
    assert [row["depth"] for row in rows][-1] == "100 %"


def test_no_name_from_outside_is_in_a_specification(planted_profile):
    profile = planted_profile(before=HOSTILE, after=HOSTILE, stack=HOSTILE)
    readouts = {**profile.readouts, HOSTILE: profile.readouts["hf"]}
    made = profile_charts(replace(profile, readouts=readouts))
    assert set(made) == NAMES
    assert "alert" not in json.dumps(made, allow_nan=False)


def test_exports_are_pictures(planted_profile):
    files = export_profile_charts(planted_profile(blocks=4))
    assert {name for name in files if name.endswith(".png")} == {f"chart-{n}.png" for n in NAMES}
    assert all(
        content.startswith(b"\x89PNG" if name.endswith(".png") else b"<svg")
        for name, content in files.items()
    )


@pytest.mark.parametrize("top", [1.13e-3, 2.7e-6, 0.038, 0.7])
def test_ticks_of_small_changes_are_told_apart(planted_profile, top):
    profile = planted_profile(blocks=12)
    largest = max(block.cka for block in profile.blocks)
    blocks = tuple(replace(b, cka=b.cka * top / largest) for b in profile.blocks)
    drawn = export_profile_charts(replace(profile, blocks=blocks))["chart-cka.svg"].decode()
    ticks = [float(found) for found in re.findall(r">(\d*\.?\d+)</text>", drawn)]
    below = sorted(tick for tick in ticks if tick <= 1.3 * top)
    assert len(below) > 3
    assert sorted({*below}) == below[below.count(0.0) - 1 :]  # 0 stands on both axes.
