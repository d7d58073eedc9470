from dataclasses import replace

from layerwise.placement.compare import Comparison, PairAgreement
from layerwise.placement.record import Coverage, PlacedBlock, Verification
from layerwise.report import document, frames, html, markdown, text
from layerwise.report.blocks import Strip

COVERAGE = Coverage(
    blocks=(*(PlacedBlock("[red]enc", i) for i in range(12)), PlacedBlock("dec", 0)),
    targets=("attn.q", "mlp.up"),
    matrix=(*((i in {3, 11}, i == 3) for i in range(12)), (False, True)),
    adapter_parameters=4096,
    verified=Verification(4, 4),
)
PAIRS = (PairAgreement(0, 1, 0.934, usable=True), PairAgreement(0, 2, 0.41, usable=False))
COMPARISON = Comparison("[i]m", ("a", "b", "c"), PAIRS, 0.9)


def test_a_placement_prints_in_at_most_20_lines(planted_card, planted_placement, unsaid):
    card = planted_card()
    placed = replace(
        planted_placement(card), notes=("rounded",), ranks={"a": 4}, dropout=0.1, revision="f" * 40
    )
    said = str(placed)
    assert len(said.splitlines()) <= 20
    assert not unsaid(
        said,
        "Adapt blocks 10, 14, 18, 22, 26.",
        "rank 8 (others: 4), alpha 16",
        "10: q_proj, v_proj",
        "122,880 parameters",
        "10 of 10 modules, and no other",
        "Training step      86 %  of adapters on all blocks",
        "Chosen by policy gain.",
        "- note: rounded",
    )


def test_a_placement_says_what_it_does_not_know(planted_card, planted_placement):
    placed = replace(planted_placement(planted_card()), verified=None, cost=None, policy="manual")
    said = str(placed)
    assert "Verified   not yet" in said
    assert "Named by hand." in said
    assert "Training step" not in said
    assert "Every module" in markdown(placed)


def test_coverage_is_a_sign_a_block_and_a_line_a_target():
    lines = [" ".join(line.split()) for line in text(COVERAGE, width=100).splitlines()]
    signs = [line for line in lines if line.startswith(("attn", "mlp"))]
    assert [line.rsplit(") ", 1)[1] for line in signs] == [
        "···●·······● 2 of 12",
        "···●········ 1 of 12",
        "· 0 of 1",
        "● 1 of 1",
    ]
    assert lines[-1] == "4 of 4 modules adapted as meant, 4,096 trainable parameters."
    assert len([b for b in document(COVERAGE).blocks if isinstance(b, Strip)]) == 4


def test_modules_that_got_no_adapter_are_a_warning():
    wrong = replace(COVERAGE, verified=Verification(4, 3))
    assert document(wrong).blocks[0].tone == "warning"


def test_a_comparison_lists_cards_and_pairs():
    said = text(COMPARISON)
    rows = [line.split()[-4:] for line in said.splitlines() if line.endswith(("yes", "no"))]
    assert rows == [["1,", "2", "0.934", "yes"], ["1,", "3", "0.410", "no"]]
    assert "0.9 or more" in said
    assert "In 1 of 2 pairs one card may stand for the other." in said
    assert list(frames(COMPARISON)["agreement"]["spearman"]) == [0.934, 0.41]


def test_a_comparison_of_all_or_none_says_so():
    for pair, words in zip(PAIRS, ("Any of these cards", "No card"), strict=True):
        assert document(replace(COMPARISON, pairs=(pair,))).blocks[0].text.startswith(words)


def test_each_has_a_page(planted_card, planted_placement, read_page):
    placed = planted_placement(planted_card())
    pages = {"Comparison of cards [i]m": COMPARISON, "Coverage": COVERAGE, "Placement": placed}
    for words, record in pages.items():
        assert words in read_page(html(record)).said
