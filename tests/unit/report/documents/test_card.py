from dataclasses import replace

import numpy as np
import pytest

from layerwise.card.columns import card_columns
from layerwise.card.record import Agreement, LayerRow
from layerwise.errors import PlacementError
from layerwise.placement.cost import placement_cost
from layerwise.placement.record import PlacedBlock
from layerwise.report import charts, document, frames, html, markdown, text
from layerwise.report.blocks import Facts, Figures, Strip, Verdict

SIGNALS = {
    "residual-norm", "coherence", "activation-energy", "effective-rank", "attention-entropy",
    "activation-gradient", "gain", "time", "memory", "cost-gain",
}  # fmt: skip
#: What the papers measure.
PAPERS = ("resid.", "energy", "eff.", "entropy", "act.", "bwd")
LIMIT = 1_200_000


def of(made, kind):
    return [block for block in made.blocks if isinstance(block, kind)]


def test_every_signal_and_cost_of_a_row_has_a_column_that_is_explained():
    ends = ("_low", "_high", "_error")
    numbers = {name for name in LayerRow.__dataclass_fields__ if not name.endswith(ends)}
    told = {column.key for column in card_columns()}
    assert numbers - told == {"stack", "index", "name", "modules", "parameters", "further"}
    assert all(column.meaning.endswith(".") and column.short for column in card_columns())


def test_the_advice_comes_first_with_its_reason_policy_and_remedies(planted_card):
    card = planted_card()
    first = document(card).blocks[0]
    assert first.text == "Adapt blocks 10, 14, 18, 22, 26."
    assert list(first.reasons) == [card.advice.reason, "Chosen by policy gain."]
    assert list(first.remedies) == list(card.advice.remedies)


def test_a_flat_card_and_one_without_advice_say_so(planted_card):
    flat = document(planted_card(verdict="flat")).blocks[0]
    assert flat.text.startswith("No block stands out")
    assert "If adapters are wanted all the same: blocks 10, 14" in flat.reasons[1]
    bare = document(replace(planted_card(), advice=None))
    assert bare.blocks[0].text == "This card carries no advice."


def test_the_table_has_the_card_s_numbers_and_marks_the_adapted(planted_card, planted_placement):
    card = planted_card()
    found = frames(card)["blocks"]
    assert list(found["gain"]) == [row.gain for row in card.layers]
    assert list(found["residual_norm_low"]) == [row.residual_norm_low for row in card.layers]
    assert list(found["attention_entropy_error"]) == [0.06] * 30
    assert document(card).tables()["blocks"].marked == {10, 14, 18, 22, 26}
    placed = document(card, placement=planted_placement(card, [1, 2]))
    assert placed.tables()["blocks"].marked == {1, 2}


def test_80_columns_show_what_the_papers_measure(planted_card):
    lines = text(planted_card(), width=80).splitlines()
    head = " ".join(lines[: next(n for n, line in enumerate(lines) if "──" in line)]).split()
    assert set(PAPERS) <= set(head)
    assert "0.0850 0.0731–0.0995" in " ".join(lines)
    assert "no room for" in text(planted_card(), width=60)
    assert "no room for" not in text(planted_card(), width=140)


def test_a_terminal_says_advice_what_is_missing_and_notes(planted_card, unsaid):
    said = text(planted_card(attention=False, notes=("a fallback",)), width=200)
    assert not unsaid(
        said,
        "Adapt blocks 10, 14, 18, 22, 26.",
        "- surer: Measure 256 examples",
        "attention_entropy  the blocks have no attention",
        "- note: a fallback",
        "● adapted",
    )
    assert "entropy" not in said.split("──")[0]
    assert "Provenance" not in said


def test_the_page_says_what_a_reader_needs(planted_card, planted_placement, read_page, unsaid):
    card = planted_card(notes=("entropy from sampled rows",))
    placement = replace(planted_placement(card), notes=("rounded <down>",))
    said = read_page(html(card, placement=placement)).said
    assert not unsaid(
        said,
        "SmolLM2-135M-Instruct.Q4_K_M.gguf",
        "Policy gain adapts blocks 10, 14, 18, 22, 26: rank 8, alpha 16, 122,880 trainable",
        "parameters on 10 modules, 10 of 10 verified.",
        "rounded <down>",
        "layerwise card demo demo --examples 64 --out demo",
        "entropy from sampled rows",
        "30 blocks of LlamaDecoderLayer, sequential residual",
        "5a" * 32,
        "Gains of several blocks do not add up.",
    )


def test_what_a_step_costs_is_the_placement_s_or_the_advice_s(planted_card, planted_placement):
    card = planted_card()
    for placement, rows in ((None, card.advice.layers), (planted_placement(card, [20]), [20])):
        figures = of(document(card, placement=placement), Figures)[0].figures
        assert figures[0][1] == f"{100 * placement_cost(card, rows).step_ratio:.0f} %"


def test_there_is_a_chart_a_signal_and_of_costs(planted_card, planted_placement):
    made = document(planted_card(), placement=planted_placement(planted_card()))
    assert set(made.charts()) == SIGNALS
    gain = made.charts()["gain"].rows
    assert [row["gain"] for row in gain] == pytest.approx(
        [row.gain for row in planted_card().layers], rel=1e-5
    )
    assert [row["index"] for row in gain if row["adapted"]] == [10, 14, 18, 22, 26]
    assert gain[10]["head"] == "block 10 · adapted"
    summary = made.charts()["residual-norm"].summary
    assert summary == "Residual norm from 0.0064 at block 29 to 0.0850 at block 0."
    assert made.charts()["cost-gain"].rules[0].text == "this placement"


@pytest.mark.parametrize(
    ("key", "gone"),
    [
        ("attention_entropy", {"attention-entropy"}),
        ("gain", {"gain", "cost-gain"}),
        # Without the bytes there is no cost of a placement either.
        ("activation_bytes", {"memory", "cost-gain"}),
    ],
)
def test_an_absent_column_has_no_chart(planted_card, key, gone):
    card = planted_card({"model.layers": 3})
    card = replace(card, layers=tuple(replace(row, **{key: None}) for row in card.layers))
    assert set(document(card).charts()) == SIGNALS - gone


def test_bars_stack_backward_on_forward_in_milliseconds(planted_card):
    card = planted_card({"model.layers": 2})
    rows = document(card).charts()["time"].rows
    for forward, backward, layer in zip(rows[::2], rows[1::2], card.layers, strict=True):
        assert forward["high"] == pytest.approx(1e3 * layer.forward_seconds, rel=1e-5)
        assert backward["low"] == forward["high"]
        both = layer.forward_seconds + layer.backward_seconds
        assert backward["high"] == pytest.approx(1e3 * both, rel=1e-5)


def test_the_price_of_a_block_is_that_of_all_from_there_up(planted_card):
    card = planted_card({"model.layers": 6})
    for number, row in enumerate(document(card).charts()["cost-gain"].rows):
        expected = placement_cost(card, range(number, 6)).step_ratio
        assert row["step"] == pytest.approx(expected, rel=1e-5)


def test_few_points_of_a_deep_model_carry_their_number(planted_card):
    rows = document(planted_card({"model.layers": 96})).charts()["cost-gain"].rows
    labels = [row["label"] for row in rows if row["label"]]
    assert 2 <= len(labels) <= 12
    assert {"0", "95"} <= set(labels)


def test_each_stack_is_a_strip_a_group_and_a_colour_and_a_gap_parts_them(planted_card):
    made = document(planted_card({"encoder": 3, "decoder": 2}))
    assert [strip.label for strip in of(made, Strip)] == ["encoder", "decoder"]
    assert made.tables()["blocks"].groups == {0: "encoder", 3: "decoder"}
    chart = made.charts()["coherence"]
    assert list(chart.names) == ["encoder", "decoder"]
    assert [row["x"] for row in chart.rows] == [0, 1, 2, 4, 5]


def test_what_was_fine_tuned_is_told_by_regime_with_its_text(
    measured_card, planted_placement, unsaid
):
    (found,) = measured_card.measured
    same = replace(found, data_sha256=measured_card.data.sha256, steps=80)
    card = replace(measured_card, measured=(found, same))
    assert not unsaid(
        text(card, width=200),
        "4 blocks at rank 8, 40 steps, 3 seeds: causal-lm on reviews.csv (SHA-256 7d7d7d7d7d7d…)",
        "80 steps, 3 seeds: causal-lm on the examples that this card was made with",
        "Intervals (95 %) are over 3 seeds.",
    )
    table = document(card, placement=planted_placement(card, found.regimes[1].layers)).tables()
    table = table["performance-1"]
    assert [row["name"] for row in table.rows] == [regime.name for regime in found.regimes]
    assert 1 in table.marked
    assert (table.rows[0]["improvement"], table.rows[0]["low"]) == (
        found.regimes[0].improvement, found.regimes[0].low,
    )  # fmt: skip
    assert table.columns[1].title == "Fall of loss"


def test_one_seed_has_no_interval_and_nothing_measured_no_part(measured_card):
    (found,) = measured_card.measured
    one = replace(found, seeds=1, data_source=None, quality="accuracy")
    said = text(replace(measured_card, measured=(one,)), width=200)
    assert "1 seed: causal-lm on a text (SHA-256" in said
    assert "One seed has no interval." in said
    for measured in (None, ()):
        assert "Fine-tuned" not in text(replace(measured_card, measured=measured))


def test_a_bare_card_is_drawn_in_every_form(planted_card):
    card = planted_card({"h": 2})
    keep = {"stack", "index", "name", "adapter_parameters", "modules", "parameters", "further"}
    gone = dict.fromkeys(set(card.layers[0].__dataclass_fields__) - keep)
    rows = tuple(replace(row, **gone) for row in card.layers)
    card = replace(card, layers=rows, advice=None, agreement=Agreement())
    assert charts(card) == {}
    for form in (html, markdown, text, frames):
        assert form(card)


def test_what_is_not_finite_is_absent(planted_card):
    card = planted_card({"model.layers": 3})
    holed = (replace(card.layers[0], gain=float("nan")), *card.layers[1:])
    rows = document(replace(card, layers=holed)).charts()["gain"].rows
    assert ["gain" in row for row in rows] == [False, True, True]
    html(replace(card, layers=holed))


def test_module_names_show_only_where_they_are_news(planted_card):
    card = planted_card({"h": 2})
    assert "Module" not in markdown(card)
    named = replace(card, layers=tuple(replace(r, name=f"odd.{r.index}") for r in card.layers))
    assert "odd.1" in markdown(named)


@pytest.mark.parametrize("stacks", [{"h": 1}, {"h": 128}, {"e" * 5000: 64, "d" * 5000: 64}])
def test_the_file_stays_small(planted_card, planted_placement, stacks):
    card = planted_card(stacks, source="m" * 5000)
    assert len(html(card, placement=planted_placement(card, range(len(card.layers))))) < LIMIT


def test_a_placement_of_another_model_is_refused(planted_card, planted_placement):
    card = planted_card({"h": 2})
    foreign = replace(planted_placement(card, [0]), blocks=(PlacedBlock("h", 7),))
    with pytest.raises(PlacementError, match=r"h\[7\]"):
        document(card, placement=foreign)


def test_printing_and_a_notebook_show_the_same_document(planted_card):
    card = planted_card({"h": 3})
    assert str(card) == text(card)
    assert card._repr_html_().startswith("<iframe")
    assert of(document(card), Verdict)
    assert of(document(card), Facts)


def test_spectra_are_drawn_by_regime(small_card):
    norms = [float(12 - i) for i in range(12)]
    card = small_card(residual_norm=norms)
    rows = [replace(layer, modules=(f"{layer.name}.q",)) for layer in card.layers]
    spectra = {f"spectrum/{x.name}.q": np.array([0.0, 1.0, 3.0 + x.index]) for x in rows}
    card = replace(card, layers=tuple(rows), arrays={**card.arrays, **spectra})
    chart = document(card).charts()["conditioning"]
    assert list(chart.names) == ["top", "mid", "bottom"]
    drawn = {(row["regime"], row["place"]): row["share"] for row in chart.rows}
    assert drawn["top", 1] == pytest.approx(np.mean([3 / 4, 4 / 5]))
    assert drawn["bottom", 2] == pytest.approx(np.mean([1 / 14, 1 / 15]))
    assert ("top", 3) not in drawn  # A share of nothing has no place on a logarithmic axis.
    assert "conditioning" not in document(small_card()).charts()
