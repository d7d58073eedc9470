import base64
import hashlib
import json
import re
from dataclasses import replace

import pytest

from layerwise.card.record import Agreement
from layerwise.errors import PlacementError
from layerwise.placement.cost import placement_cost
from layerwise.placement.record import PlacedBlock
from layerwise.report.old.charts_card import charts
from layerwise.report.old.page_card import card_html

LIMIT = 1_200_000
ATTACK = "</script><script>window.pwned=1</script>"


@pytest.fixture(scope="module")
def page(planted_card, planted_placement, read_page):
    card = planted_card(notes=("entropy from sampled rows",))
    return read_page(card_html(card, planted_placement(card)))


def sha(content):
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def test_policy_allows_just_the_page_s_own_scripts_and_style(page):
    data, *scripts = page.text["script"]
    (style,) = page.text["style"]
    rules = dict(rule.strip().split(" ", 1) for rule in page.policy.split(";"))
    assert rules == {
        "default-src": "'none'",
        "script-src": " ".join(sha(script) for script in scripts),
        "style-src": sha(style),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert len(scripts) == 2
    json.loads(data)


def test_nothing_is_styled_run_or_fetched_by_attribute(page):
    for tag, attributes in page.tags:
        assert not any(name == "style" or name.startswith("on") for name in attributes)
        assert "src" not in attributes
        assert attributes.get("href", "data:,") == "data:,", tag


def test_every_chart_has_a_figure_with_words(page, planted_card):
    names = {a["data-chart"] for _, a in page.tags if "data-chart" in a}
    assert names == set(charts(planted_card()))
    labels = [a["aria-label"] for _, a in page.tags if a.get("role") == "img"]
    assert len(labels) == len(names)
    assert any(re.match(r"Residual norm. Residual norm from 0\.\d+ at block", x) for x in labels)


def test_the_page_says_what_a_reader_needs(page):
    for words in (
        "SmolLM2-135M-Instruct.Q4_K_M.gguf",
        "Adapt blocks 10, 14, 18, 22, 26.",
        "Measure 256 examples: the intervals narrow by about half.",
        "122,880 trainable parameters on 10 modules, 10 of 10 verified",
        "layerwise card demo demo --examples 64 --out demo",
        "entropy from sampled rows",
        "30 blocks of LlamaDecoderLayer, sequential residual",
        "5a" * 32,
        "0.98",
        "31.2",
    ):
        assert words in page.said, words


def test_a_placement_s_notes_and_cost_are_told(planted_card, planted_placement, read_page):
    card = planted_card()
    placement = replace(planted_placement(card), notes=("rounded <down>",))
    said = read_page(card_html(card, placement)).said
    assert "rounded <down>" in said
    assert f"Training step {placement.cost.step_ratio:.0%} of adapters on all blocks" in said


def test_without_a_placement_the_advice_is_priced(planted_card, read_page):
    card = planted_card()
    cost = placement_cost(card, card.advice.layers)
    assert f"Training step {cost.step_ratio:.0%} " in read_page(card_html(card)).said


def test_cells_of_the_stack_are_marked(page):
    cells = [a["class"].split() for t, a in page.tags if t == "li" and "class" in a]
    assert [i for i, names in enumerate(cells) if "on" in names] == [10, 14, 18, 22, 26]


def test_each_stack_is_drawn_and_grouped(planted_card, read_page):
    page = read_page(card_html(planted_card({"encoder.block": 3, "decoder.block": 2})))
    figures = [a for t, a in page.tags if t == "figure" and a["class"].startswith("stack")]
    assert [f["class"] for f in figures] == ["stack series-1", "stack series-2"]
    assert sum(a.get("scope") == "rowgroup" for t, a in page.tags if t == "th") == 2


def test_an_absent_signal_is_explained_and_has_no_column(planted_card, read_page):
    page = read_page(card_html(planted_card(attention=False)))
    assert "attention_entropy the blocks have no attention" in page.said
    assert "Attention entropy" not in page.said


def test_measured_performance_is_told_by_regime_with_its_text(measured_card, read_page):
    (found,) = measured_card.measured
    same = replace(found, data_sha256=measured_card.data.sha256, steps=80)
    page = read_page(card_html(replace(measured_card, measured=(found, same))))
    for words in (
        "Fine-tuned placements",
        "40 steps, 3 seeds: causal-lm on reviews.csv (SHA-256 7d7d7d7d7d7d…)",
        "80 steps, 3 seeds: causal-lm on the examples that this card was made with",
        "Intervals (95 %) are over 3 seeds.",
    ):
        assert words in page.said, words
    for regime in found.regimes:
        told = f"{regime.improvement:.3f} ({regime.low:.3f} to {regime.high:.3f})"
        assert page.said.count(f"{regime.name} {told}") == 2
    regions = [a["aria-labelledby"] for _, a in page.tags if a.get("role") == "region"]
    assert len(set(regions)) == len(regions) == 3
    assert set(regions) <= {a.get("id") for _, a in page.tags}


def test_the_regimes_on_the_drawn_blocks_are_marked(measured_card, planted_placement, read_page):
    (found,) = measured_card.measured
    moved = replace(found.regimes[0], layers=(0, 1))
    card = replace(measured_card, measured=(replace(found, regimes=(moved, *found.regimes[1:])),))
    drawn = planted_placement(card, rows=found.regimes[1].layers)
    blocks = len(drawn.blocks)
    marked = sum(
        t == "tr" and a.get("class") == "on" for t, a in read_page(card_html(card, drawn)).tags
    )
    assert marked == blocks + len(found.regimes) - 1


def test_a_card_without_measured_performance_has_no_such_part(planted_card, read_page):
    for measured in (None, ()):
        page = read_page(card_html(replace(planted_card(), measured=measured)))
        assert "Fine-tuned" not in page.said


def test_a_flat_card_says_so_first(planted_card, read_page):
    assert "No block stands out" in read_page(card_html(planted_card(verdict="flat"))).said


def test_a_bare_card_still_makes_a_page(planted_card, read_page):
    card = planted_card({"h": 1})
    bare = replace(card.layers[0], **dict.fromkeys(("gain", "residual_norm", "forward_seconds")))
    card = replace(card, layers=(bare,), advice=None, agreement=Agreement())
    assert "This card carries no advice." in read_page(card_html(card)).said


def test_without_any_number_there_are_no_charts(planted_card, read_page):
    card = planted_card({"h": 2})
    keep = {"stack", "index", "name", "adapter_parameters", "modules", "parameters"}
    gone = dict.fromkeys(set(card.layers[0].__dataclass_fields__) - keep)
    card = replace(card, layers=tuple(replace(row, **gone) for row in card.layers))
    assert not any("data-chart" in a for _, a in read_page(card_html(card)).tags)


def test_module_names_show_only_where_they_are_news(planted_card, read_page):
    card = planted_card({"h": 2})
    assert "Module" not in read_page(card_html(card)).said
    named = replace(card, layers=tuple(replace(r, name=f"odd.{r.index}") for r in card.layers))
    assert "odd.1" in read_page(card_html(named)).said


def test_hostile_text_neither_ends_an_element_nor_starts_one(
    planted_card, measured_card, page, read_page
):
    hostile = planted_card({ATTACK: 2, "d": 1}, source=ATTACK, command=ATTACK, notes=(ATTACK,))
    (measured,) = measured_card.measured
    regimes = tuple(replace(r, name=ATTACK, layers=(0,)) for r in measured.regimes)
    told = replace(measured, objective=ATTACK, quality=ATTACK, data_source=ATTACK, regimes=regimes)
    hostile = replace(hostile, absent={ATTACK: ATTACK}, measured=(told,))
    found = read_page(card_html(hostile))
    assert len(found.text["script"]) == len(page.text["script"])
    assert ATTACK in found.said
    assert ATTACK in json.loads(found.text["script"][0])["datasets"]["blocks"][0]["stack"]


def test_unprintable_characters_become_visible(planted_card):
    content = card_html(planted_card(source="a\x00b\u202ec", command="x\ud800\x1b[31m"))
    assert not set(content.decode()) & set("\x00\u202e\x1b")
    assert "a�b�c" in content.decode()


def test_the_command_stands_as_it_was_typed(planted_card, read_page):
    command = "layerwise card 'my  model' data --where 'a\nb'"
    assert "'my  model' data --where 'a\nb'" in "".join(
        read_page(card_html(planted_card(command=command))).text[""]
    )


@pytest.mark.parametrize("stacks", [{"h": 1}, {"h": 128}, {"e" * 5000: 64, "d" * 5000: 64}])
def test_the_file_stays_small(planted_card, planted_placement, stacks):
    card = planted_card(stacks, source="m" * 5000)
    content = card_html(card, planted_placement(card, range(len(card.layers))))
    assert len(content) < LIMIT


def test_the_same_card_is_the_same_bytes(planted_card):
    assert card_html(planted_card()) == card_html(planted_card())


def test_a_placement_of_another_model_is_refused(planted_card, planted_placement):
    card = planted_card({"h": 2})
    foreign = replace(planted_placement(card, [0]), blocks=(PlacedBlock("h", 7),))
    with pytest.raises(PlacementError, match=r"h\[7\]"):
        card_html(card, foreign)
