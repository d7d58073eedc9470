"""A measurement's page."""

import pytest
from layerwise.report.old.page_measure import measure_html

ATTACK = "</script><script>window.pwned=1</script>"


@pytest.fixture(scope="module")
def page(planted_measure, read_page):
    return read_page(measure_html(planted_measure(notes=("planted note",))))


def test_the_page_says_what_a_reader_needs(page):
    for words in (
        "Measured placements",
        "The recommended placement is better than a random one.",
        "ski is left out: no <b>attention</b>.",
        "trained on 400 examples of reviews.csv, causal-lm · 3 paired seeds",
        "of 5 at equal budget",
        "on text and a seed (3) that score nobody",
        "diverged",
        "layerwise measure",
        "planted note",
        "model.gguf " + "5a" * 32,
    ):
        assert words in page.said, words


def test_hostile_names_stay_text(planted_measure):
    html = measure_html(planted_measure(source=ATTACK, notes=(ATTACK,))).decode()
    assert ATTACK not in html
    assert "window.pwned" in html


def test_one_seed_and_no_random_draw_have_a_page_too(planted_measure, read_page):
    page = read_page(measure_html(planted_measure(seeds=(0,), random=False)))
    assert "One seed has no interval" in page.said
