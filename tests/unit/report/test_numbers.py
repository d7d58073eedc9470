import pytest

from layerwise.columns import Column
from layerwise.report.numbers import (
    counted,
    interval,
    number,
    number_style,
    percent,
    quantity,
    rounded,
)


@pytest.mark.parametrize(
    ("values", "value", "text", "suffix"),
    [
        ([3.1e-5, 5e-6], 3.1e-5, "31.0", "×10⁻⁶"),
        ([0.085, 0.0064, 0.02], 0.0064, "0.0064", ""),
        ([310.0, 171.5], 310.0, "310", ""),
        ([24576], 24576, "24,576", ""),
        ([2.0, 1e-9, 3.0], 1e-9, "1e-09", ""),
        ([1.0], None, "–", ""),
        ([1.0], float("nan"), "–", ""),
        ([], 0.0, "0", ""),
        ([0.0, 0.0], 0.0, "0", ""),
    ],
)
def test_numbers_of_a_column_share_a_style(values, value, text, suffix):
    style = number_style(values)
    assert (style.text(value), style.suffix) == (text, suffix)


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        (Column("a", "A", digits=3), 0.5, "0.500"),
        (Column("a", "A", form="count"), 12_000_000_000, "12,000,000,000"),
        (Column("a", "A", form="percent"), 0.137, "14 %"),
        (Column("a", "A", form="percent", digits=1), 0.137, "13.7 %"),
    ],
)
def test_a_column_may_say_how_its_numbers_are_written(column, value, text):
    assert number_style([value, 1e-9], column).text(value) == text


def test_a_number_alone_carries_its_power_of_ten_below_0_0001():
    assert number(3.1e-5) == "31.0 ×10⁻⁶"
    assert number(0.00123) == "0.00123"
    assert number(3.1) == "3.10"
    assert number(None) == "–"
    assert number(0.12345, digits=3) == "0.123"


def test_an_interval_has_one_style_and_is_left_out_where_there_is_none():
    assert interval(0.081, 0.07, 0.1) == "0.0810 (0.0700 to 0.1000)"
    assert interval(3.1e-5, 2e-5, 4e-5) == "31.0 (20.0 to 40.0) ×10⁻⁶"
    assert interval(0.5, None, 1.0) == "0.500"
    assert interval(0.5, 0.25, 1.0, digits=1) == "0.5 (0.2 to 1.0)"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (134_515_008, "", "135 M"),
        (1_482_000_000, "B", "1.48 GB"),
        (14.2, "s", "14.2 s"),
        (7200.0, "s", "7,200 s"),
        (0.0042, "s", "4.20 ms"),
        (0.0, "B", "0 B"),
        (None, "B", "–"),
    ],
)
def test_quantities_take_a_prefix(value, unit, text):
    assert quantity(value, unit) == text


def test_shares_and_counts_as_people_write_them():
    assert [percent(0.861), percent(None), percent(float("inf"))] == ["86 %", "–", "–"]
    assert [counted(n, "run") for n in (0, 1, 1200)] == ["0 runs", "1 run", "1,200 runs"]


def test_numbers_to_draw_are_cut_to_six_digits():
    assert rounded(0.123456789) == 0.123457
    assert rounded("text") == "text"
