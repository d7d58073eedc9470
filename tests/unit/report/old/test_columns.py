import pytest

from layerwise.card.record import LayerRow
from layerwise.report.old.columns import card_columns, column_named, number_style, quantity


def test_every_signal_and_cost_of_a_row_has_a_column():
    numbers = {
        name
        for name in LayerRow.__dataclass_fields__
        if not name.endswith(("_low", "_high", "_error"))
    }
    told = {column.key for column in card_columns()}
    assert told <= numbers
    assert numbers - told == {"stack", "index", "name", "modules", "parameters", "further"}


def test_each_column_is_explained():
    assert all(column.meaning.endswith(".") and column.short for column in card_columns())


def test_values_come_in_the_column_s_unit():
    row = LayerRow("s", 0, "s.0", forward_seconds=0.0125, activation_bytes=2_500_000.0)
    assert column_named("forward_seconds").value(row) == pytest.approx(12.5)
    assert column_named("activation_bytes").value(row) == pytest.approx(2.5)
    assert column_named("gain").value(row) is None


def test_what_is_not_finite_is_absent():
    row = LayerRow("s", 0, "s.0", gain=float("nan"), coherence=float("inf"))
    assert column_named("gain").value(row) is None
    assert column_named("coherence").value(row) is None


def test_intervals_of_norm_and_entropy():
    row = LayerRow(
        "s",
        0,
        "s.0",
        residual_norm=2.0,
        residual_norm_low=1.5,
        residual_norm_high=2.5,
        attention_entropy=3.0,
        attention_entropy_error=0.25,
    )
    assert column_named("residual_norm").interval(row) == (1.5, 2.5)
    assert column_named("attention_entropy").interval(row) == (2.75, 3.25)
    assert column_named("gain").interval(row) is None
    bare = LayerRow("s", 0, "s.0", attention_entropy=3.0)
    assert column_named("attention_entropy").interval(bare) is None


@pytest.mark.parametrize(
    ("values", "value", "text", "suffix"),
    [
        ([3.1e-5, 5e-6], 3.1e-5, "31.0", "×10⁻⁶"),
        ([0.085, 0.0064, 0.02], 0.0064, "0.0064", ""),
        ([310.0, 171.5], 310.0, "310", ""),
        ([24576], 24576, "24,576", ""),
        ([2.0, 1e-9, 3.0], 1e-9, "1e-09", ""),
        ([1.0], None, "–", ""),
        ([], 0.0, "0", ""),
        ([0.0, 0.0], 0.0, "0", ""),
    ],
)
def test_numbers_of_a_column_share_a_style(values, value, text, suffix):
    style = number_style(values)
    assert style.text(value) == text
    assert style.suffix == suffix


def test_a_number_alone_carries_its_power_of_ten():
    assert number_style([3.1e-5]).alone(3.1e-5) == "31.0 ×10⁻⁶"
    assert number_style([3.1]).alone(3.1) == "3.10"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (134_515_008, "", "135 M"),
        (1_482_000_000, "B", "1.48 GB"),
        (14.2, "s", "14.2 s"),
        (7200.0, "s", "7,200 s"),
        (0.0042, "s", "4.20 ms"),
        (0.0, "B", "0 B"),
    ],
)
def test_quantities_take_a_prefix(value, unit, text):
    assert quantity(value, unit) == text
