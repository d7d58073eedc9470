"""An adapter on its profile's page."""

from dataclasses import replace

import pytest

from layerwise.report.old.page_audit import audit_context
from layerwise.report.old.page_profile import profile_html

ATTACK = '</script><img src=x onerror="alert(1)">{{ 7 * 7 }}'


@pytest.fixture(scope="module")
def profile(planted_profile, planted_audit):
    return replace(planted_profile(), audit=planted_audit(dead=(1,), card=(2, 3), notes=("odd",)))


def test_the_page_says_what_the_adapter_is(profile, read_page):
    said = read_page(profile_html(profile)).said
    for words in (
        "The adapter LORA: 60 modules in 30 blocks, rank 8",
        "Dead adapters 2 of 60",
        "Rank that would do 5",
        "The card (uniform) would have taken blocks 2, 3",
        "The adapter by block",
        "model.layers.1.q_proj (dead)",
        "odd",
    ):
        assert words in said, words


def test_every_block_and_module_is_a_row(profile):
    made = audit_context(profile)
    assert [head for head, _, _ in made["blocks"].rows] == [str(i) for i in range(30)]
    assert [head for head, on, _ in made["blocks"].rows if on] == ["2", "3"]
    assert len(made["modules"].rows) == 60
    for grid in (made["blocks"], made["modules"]):
        assert {len(cells) for _, _, cells in grid.rows} == {len(grid.columns)}


def test_columns_that_no_module_has_are_left_out(profile):
    titles = [title for title, _ in audit_context(profile)["modules"].columns]
    assert "With magnitudes" not in titles
    dora = tuple(replace(m, whole_relative_norm=0.1) for m in profile.audit.modules)
    made = audit_context(replace(profile, audit=replace(profile.audit, modules=dora)))
    assert "With magnitudes" in [title for title, _ in made["modules"].columns]


def test_without_an_audit_the_page_has_no_word_of_it(planted_profile, read_page):
    assert audit_context(planted_profile()) is None
    assert "The adapter" not in read_page(profile_html(planted_profile())).said


def test_hostile_names_stay_text(planted_profile, planted_audit, read_page):
    audit = planted_audit(blocks=4, stack=ATTACK, notes=(ATTACK,), unread={ATTACK: ATTACK})
    made = replace(planted_profile(blocks=4, stack=ATTACK), audit=replace(audit, kinds=(ATTACK,)))
    page = read_page(profile_html(made))
    plain = read_page(
        profile_html(replace(planted_profile(blocks=4), audit=planted_audit(blocks=4)))
    )
    assert len(page.text["script"]) == len(plain.text["script"])
    assert not any(tag == "img" for tag, _ in page.tags)
    assert ATTACK[:20] in page.said
