"""Charts of a measurement."""

import json
from dataclasses import replace

import pytest
from layerwise.report.old.charts_measure import export_measure_charts, measure_charts


def test_each_arm_is_a_row_with_its_interval(planted_measure):
    made = planted_measure()
    spec = measure_charts(made)["leaderboard"]
    rows = {row["arm"]: row for row in spec["datasets"]["arms"]}
    assert list(rows) == [arm.name for arm in made.arms if arm.outcome]
    for name, row in rows.items():
        found = made.arm(name).outcome
        assert row["improvement"] == pytest.approx(found.improvement, rel=1e-5)
        assert row["low"] == pytest.approx(found.low, rel=1e-5)
        assert row["high"] == pytest.approx(found.high, rel=1e-5)
        assert row["seconds"] == pytest.approx(found.seconds_per_step)
    assert len(spec["datasets"]["seeds"]) == 3 * len(rows)


def test_a_copy_does_not_cover_the_arm_that_it_is_of(planted_measure):
    made = planted_measure()
    copies = [replace(a, same_as="recommended") if a.name == "top" else a for a in made.arms]
    charts = measure_charts(replace(made, arms=tuple(copies)))
    names = {name: [row["arm"] for row in c["datasets"]["arms"]] for name, c in charts.items()}
    assert "recommended" in names["time"]
    assert "top" not in names["time"]
    assert "top" in names["leaderboard"]


def test_one_seed_has_neither_interval_nor_ticks(planted_measure):
    spec = measure_charts(planted_measure(seeds=(0,)))["leaderboard"]
    assert spec["datasets"]["seeds"] == []
    assert all(r["low"] == r["improvement"] == r["high"] for r in spec["datasets"]["arms"])


def test_they_are_drawn_as_png_and_svg(planted_measure):
    files = export_measure_charts(planted_measure(source="<script>x</script>"))
    assert set(files) == {
        f"chart-{name}.{kind}" for name in ("leaderboard", "time") for kind in ("png", "svg")
    }
    assert files["chart-time.png"].startswith(b"\x89PNG")
    assert b"recommended" in files["chart-leaderboard.svg"]
    assert json.dumps(measure_charts(planted_measure()), allow_nan=False)
