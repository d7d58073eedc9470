from dataclasses import replace

import pytest

from layerwise.placement.compare import Comparison, PairAgreement
from layerwise.placement.record import PlacedBlock, Verification
from layerwise.placement.verify import Coverage
from layerwise.report import card_table, compare_table, coverage_table


def test_a_line_a_block_with_the_adapted_marked(planted_card, printed):
    lines = printed(card_table(planted_card())).splitlines()
    marked = [line.split()[1] for line in lines if line.startswith("●")]
    assert marked == ["10", "14", "18", "22", "26"]
    assert sum("█" in line for line in lines) >= 25


def test_the_longest_bar_is_the_largest_norm(planted_card, printed):
    card = planted_card({"h": 4})
    lines = printed(card_table(card)).splitlines()
    bars = [line.split()[-10:] for line in lines if "–" in line and "█" in line]
    counts = ["".join(parts).count("█") for parts in bars]
    assert counts[0] == max(counts)
    assert counts[-1] == min(counts)


@pytest.mark.parametrize("width", [30, 50, 80, 120])
def test_no_line_is_longer_than_the_terminal(planted_card, width, printed):
    lines = printed(card_table(planted_card()), width=width).splitlines()
    assert max(map(len, lines)) <= width


def test_columns_that_do_not_fit_are_named(planted_card, printed):
    narrow, wide = (printed(card_table(planted_card()), width=w) for w in (60, 200))
    assert "Too wide for this terminal" in narrow
    assert "coherence" in narrow
    assert "resid." in narrow
    assert "Too wide" not in wide


def test_a_width_can_be_asked_for(planted_card, printed):
    lines = printed(card_table(planted_card(), width=50), width=200).splitlines()
    assert max(map(len, lines)) <= 50


def test_the_summary_says_advice_reason_remedies_and_what_is_missing(planted_card, printed):
    card = planted_card(attention=False, notes=("a fallback was taken",))
    text = " ".join(printed(card_table(card)).split())
    for words in (
        "Adapt blocks 10, 14, 18, 22, 26.",
        "chosen to lie near most of what all blocks would gain",
        "- surer: Measure 256 examples",
        "- not measured: attention_entropy (the blocks have no attention)",
        "- note: a fallback was taken",
    ):
        assert words in text, words
    assert "entropy" not in text.split("not measured")[0]


def regime_lines(text):
    """The lines of the table of regimes, in words."""
    lines = text.split("Fine-tuned")[1].split("Intervals")[0].splitlines()
    return [line.split() for line in lines if line and "──" not in line][1:]


def test_measured_performance_is_a_line_a_regime(measured_card, printed):
    (found,) = measured_card.measured
    text = printed(card_table(measured_card))
    assert "Fine-tuned 4 blocks at rank 8, 40 steps, 3 seeds: causal-lm on reviews.csv" in text
    assert f"SHA-256 {found.data_sha256[:12]}…" in text
    assert "Intervals (95 %) are over 3 seeds." in text
    heading, *lines = regime_lines(text)
    assert heading[:4] == ["regime", "fall", "of", "loss"]
    assert [line[0] for line in lines] == [regime.name for regime in found.regimes]
    best = found.regimes[0]
    assert lines[0][1:5] == [
        f"{best.improvement:.3f}",
        f"({best.low:.3f}",
        "to",
        f"{best.high:.3f})",
    ]
    assert lines[0][-3:] == ["blocks", "3,", "7–9"]


@pytest.mark.parametrize("width", [30, 64, 100])
def test_measured_performance_fits_the_terminal(measured_card, printed, width):
    text = printed(card_table(measured_card), width=width)
    assert max(map(len, text.splitlines())) <= width
    names = {line[0] for line in regime_lines(text.replace("One seed", "Intervals"))}
    assert {"top", "eva", "all"} <= names


def test_one_seed_s_performance_has_no_interval(measured_card, printed):
    (found,) = measured_card.measured
    bare = tuple(replace(regime, low=None, high=None) for regime in found.regimes)
    one = replace(found, seeds=1, regimes=bare, data_source=None)
    text = printed(card_table(replace(measured_card, measured=(one,))))
    assert "1 seed: causal-lm on a text (SHA-256" in text
    assert "One seed has no interval." in text
    assert "to" not in text.split("regime")[1].split("One seed")[0].split()


def test_a_card_without_measured_performance_says_nothing_of_it(planted_card, printed):
    for measured in (None, ()):
        assert "Fine-tuned" not in printed(card_table(replace(planted_card(), measured=measured)))


def test_two_stacks_are_two_tables(planted_card, printed):
    lines = printed(card_table(planted_card({"encoder": 2, "decoder": 2}))).splitlines()
    assert {"encoder", "decoder"} <= {line.strip() for line in lines}


def test_a_card_without_advice_is_shown(planted_card, printed):
    assert "no advice" in printed(card_table(replace(planted_card(), advice=None)))


def test_brackets_in_names_are_brackets(planted_card, printed):
    text = printed(card_table(planted_card({"[red]x": 1, "y[/]": 1}, source="[bold]m[/bold]")))
    assert "[red]x" in text
    assert "y[/]" in text
    assert "[bold]m[/bold]" in text


def test_no_escape_sequence_passes_through_a_name(planted_card, printed):
    text = printed(card_table(planted_card(source="m\x1b[31m\x00")))
    assert "\x1b" not in text
    assert "\x00" not in text


def test_an_ascii_terminal_gets_ascii(planted_card, printed):
    card = planted_card({"модель": 3, "é": 3}, notes=("µ → ×10⁻³",))
    text = printed(card_table(card), encoding="ascii", width=100)
    assert text.isascii()
    assert "##" in text
    assert "x10^-6" in text


def test_no_colour_where_none_is_wanted(planted_card, monkeypatch, printed):
    monkeypatch.setenv("NO_COLOR", "1")
    text = printed(card_table(planted_card()), force_terminal=True)
    assert "\x1b[36m" not in text
    assert "resid." in text


COVERAGE = Coverage(
    blocks=(*(PlacedBlock("[red]enc", i) for i in range(12)), PlacedBlock("dec", 0)),
    targets=("attn.q", "mlp.up"),
    matrix=(*((i in {3, 11}, i == 3) for i in range(12)), (False, True)),
    adapter_parameters=4096,
    verified=Verification(4, 4),
)


def test_coverage_is_a_sign_a_block_and_a_line_a_target(printed):
    lines = [" ".join(line.split()) for line in printed(coverage_table(COVERAGE)).splitlines()]
    assert lines == [
        "[red]enc",
        "0 10",
        "attn.q ···●·······● 2 of 12",
        "mlp.up ···●········ 1 of 12",
        "dec",
        "0",
        "attn.q · 0 of 1",
        "mlp.up ● 1 of 1",
        "4 of 4 modules adapted as meant, 4,096 trainable parameters",
    ]


def test_coverage_of_many_blocks_folds_at_the_terminal_s_end(printed):
    lines = printed(coverage_table(COVERAGE), width=30).splitlines()
    assert max(map(len, lines)) <= 30
    assert sum(line.count("●") for line in lines) == 4


def test_coverage_in_ascii(printed):
    assert printed(coverage_table(COVERAGE), encoding="ascii").isascii()


def test_comparison_lists_cards_and_pairs(printed):
    pairs = (PairAgreement(0, 1, 0.934, usable=True), PairAgreement(0, 2, 0.41, usable=False))
    text = printed(compare_table(Comparison("[i]m", ("a", "b", "c"), pairs, 0.9)))
    assert "[i]m" in text
    rows = [line.split() for line in text.splitlines() if line.rstrip().endswith(("yes", "no"))]
    assert rows == [["1,", "2", "0.934", "yes"], ["1,", "3", "0.410", "no"]]
    assert "0.9 or more" in text
