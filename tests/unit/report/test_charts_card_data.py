from dataclasses import replace

import pytest

from layerwise.placement.cost import placement_cost
from layerwise.report.old.charts_card_data import chart_data
from layerwise.report.old.columns import column_named


def without(card, *fields):
    rows = tuple(replace(row, **dict.fromkeys(fields)) for row in card.layers)
    return replace(card, layers=rows)


def test_one_row_a_block_with_the_card_s_numbers(planted_card):
    card = planted_card({"model.layers": 5})
    data = chart_data(card, None)
    assert [row["index"] for row in data.rows] == [0, 1, 2, 3, 4]
    for row, layer in zip(data.rows, card.layers, strict=True):
        gain = row["gain"] * 10.0 ** data.styles["gain"].exponent
        assert gain == pytest.approx(layer.gain, rel=1e-5)
        assert row["residual_norm_low"] == pytest.approx(layer.residual_norm_low, rel=1e-5)


def test_bars_stack_backward_on_forward_in_milliseconds(planted_card):
    card = planted_card({"model.layers": 3})
    for row, layer in zip(chart_data(card, None).rows, card.layers, strict=True):
        assert row["time_forward"] == pytest.approx(1e3 * layer.forward_seconds, rel=1e-5)
        both = layer.forward_seconds + layer.backward_seconds
        assert row["time_both"] == pytest.approx(1e3 * both, rel=1e-5)


def test_a_gap_parts_two_stacks(planted_card):
    data = chart_data(planted_card({"encoder": 2, "decoder": 2}), None)
    assert [row["x"] for row in data.rows] == [0, 1, 3, 4]
    assert data.stacks == ("encoder", "decoder")
    assert data.places.width == 5
    assert "encoder" in data.rows[0]["head"]


def test_marks_are_the_placement_s(planted_card, planted_placement):
    card = planted_card({"model.layers": 4})
    data = chart_data(card, planted_placement(card, [1, 3]))
    assert [row["adapted"] for row in data.rows] == [False, True, False, True]
    assert data.rows[1]["head"] == "block 1 · adapted"


def test_absent_signals_have_no_field(planted_card):
    data = chart_data(planted_card(attention=False), None)
    assert not data.has("attention_entropy")
    assert not data.has("attention_entropy_tip")
    assert data.has("residual_norm_low")


def test_cost_of_reaching_down_to_a_block_is_that_of_all_from_there_up(planted_card):
    card = planted_card({"model.layers": 6})
    rows = chart_data(card, None).rows
    for number, row in enumerate(rows):
        expected = placement_cost(card, range(number, 6)).step_ratio
        assert row["step"] == pytest.approx(expected, rel=1e-5)
    assert rows[0]["step"] == 1.0


def test_without_timings_there_is_no_cost(planted_card):
    card = without(planted_card({"model.layers": 3}), "forward_seconds", "backward_seconds")
    data = chart_data(card, None)
    assert not data.has("step")
    assert not data.has("time_both")


def test_few_points_of_a_deep_model_carry_their_number(planted_card):
    rows = chart_data(planted_card({"model.layers": 96}), None).rows
    labels = [row["label"] for row in rows if row["label"]]
    assert 2 <= len(labels) <= 12
    assert {"0", "95"} <= set(labels)


def planted_energy(planted_card, *energies):
    card = planted_card({"model.layers": len(energies)})
    rows = (replace(r, activation_energy=e) for r, e in zip(card.layers, energies, strict=True))
    return chart_data(replace(card, layers=tuple(rows)), None)


@pytest.mark.parametrize(
    ("energies", "domain", "ticks"),
    [
        ((0.3, 7.0), [0.2, 10.0], [0.2, 0.5, 1.0, 2.0, 5.0, 10.0]),
        ((0.0011, 980.0), [0.001, 1000.0], [0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0][::2]),
    ],
)
def test_a_wide_positive_column_is_on_a_log_scale(planted_card, energies, domain, ticks):
    found_domain, found_ticks = planted_energy(planted_card, *energies).log_axis(
        "activation_energy"
    )
    assert found_domain == domain
    assert found_ticks == ticks


@pytest.mark.parametrize("energies", [(1.0, 19.0), (0.0, 100.0), (-1.0, 100.0)])
def test_a_narrow_or_signed_column_is_on_a_linear_scale(planted_card, energies):
    data = planted_energy(planted_card, *energies)
    assert data.log_axis("activation_energy") is None
    assert "log" not in data.title(column_named("activation_energy"))


def test_titles_name_unit_power_and_scale(planted_card):
    data = chart_data(planted_card(), None)
    assert data.title(column_named("gain"), against="cost") == "Coupled gain against cost (×10⁻⁶)"
    assert data.title(column_named("attention_entropy")) == "Attention entropy (nats)"
    assert data.title(column_named("activation_energy")).endswith(", log scale")
