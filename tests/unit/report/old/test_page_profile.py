import json
from dataclasses import replace

import pytest

from layerwise.report.old.page_profile import profile_html

ATTACK = "</script><script>window.pwned=1</script>"


@pytest.fixture(scope="module")
def profile(planted_profile):
    return planted_profile(
        untrained=("model.layers.3.q_proj", "model.layers.4.q_proj"),
        notes=("the adapter was switched off in place",),
    )


@pytest.fixture(scope="module")
def page(profile, read_page):
    return read_page(profile_html(profile))


def test_the_page_says_what_a_reader_needs(page):
    for words in (
        "SmolLM2-135M-Instruct.Q4_K_M.gguf → standard/model",
        "Change rises over depth: block 29 moved most.",
        "0.389 (0.359 to 0.419)",
        "100 times the noise floor of 0.00400",
        "2 modules never trained",
        "model.layers.4.q_proj",
        "30 blocks of model.layers · 290 probes, 3,412 tokens",
        "Slope 0.389 95 % interval 0.359 to 0.419",
        "Largest change 0.400 Procrustes distance, at block 29",
        "layerwise profile demo tuned --out moved",
        "the adapter was switched off in place",
        "before: model.safetensors " + "5a" * 32,
        "after: model.safetensors " + "c7" * 32,
        "Base model SmolLM2-135M-Instruct.Q4_K_M.gguf",
        "Probes SHA-256 " + "3f" * 32,
        "Shared PCA 256 components",
    ):
        assert words in page.said, words


def test_every_block_is_in_the_table_with_its_numbers(page, profile):
    for block in profile.blocks:
        depth = {d.index: f"{d.relative:.0%}".replace("%", " %") for d in profile.depths}
        head = " ".join(filter(None, [str(block.index), depth.get(block.index, "")]))
        assert f"{head} {block.procrustes:.3f}" in page.said


def test_every_readout_has_its_slopes(page, profile):
    for name, found in profile.readouts.items():
        line = f"{name} {found.slope:.3f} ({found.slope_low:.3f} to {found.slope_high:.3f})"
        assert line in page.said


def test_blocks_are_shaded_by_their_share_of_the_largest_change(page, profile):
    looks = [a["class"] for t, a in page.tags if t == "li" and "class" in a]
    shares = [b.procrustes / profile.blocks[-1].procrustes for b in profile.blocks]
    assert looks == [f"cell heat-{round(10 * share)}" for share in shares]


def test_every_chart_has_a_figure_with_words(page):
    names = {a["data-chart"] for _, a in page.tags if "data-chart" in a}
    drawn = json.loads(page.text["script"][0])
    assert names == set(drawn["specs"])
    labels = [a["aria-label"] for _, a in page.tags if a.get("role") == "img"]
    assert len(labels) == len(names)
    assert any("Change rises over depth" in label for label in labels)


def test_nothing_moved_is_the_headline(still_profile, read_page):
    page = read_page(profile_html(still_profile()))
    assert "Nothing moved: the representations before and after are the same" in page.said
    assert "Last depth's share –" in page.said
    assert "Procrustes distance, at every block" in page.said
    assert "How the change spreads" not in page.said


def test_all_trained_is_no_warning(planted_profile, read_page):
    assert "never trained" not in read_page(profile_html(planted_profile())).said


def test_many_untrained_modules_are_counted_first_and_listed_whole(planted_profile, read_page):
    names = tuple(f"layers.{n}.v_proj" for n in range(40))
    said = read_page(profile_html(planted_profile(untrained=names))).said
    assert "40 modules never trained" in said
    assert "And 28 more, all listed below." in said
    assert all(f"{name} " in said for name in names)


def test_one_readout_makes_a_page_without_comparison(planted_profile, read_page):
    page = read_page(profile_html(planted_profile(scales={"hf": 1.0})))
    assert "under each readout" not in page.said


def test_noise_may_be_missing(planted_profile, read_page):
    profile = planted_profile(blocks=4)
    bare = tuple(replace(block, noise=None) for block in profile.blocks)
    said = read_page(profile_html(replace(profile, blocks=bare))).said
    assert "100 % 0.400 – 0.096" in said


def test_hostile_text_neither_ends_an_element_nor_starts_one(planted_profile, page, read_page):
    profile = planted_profile(
        before=ATTACK,
        after=ATTACK,
        stack=ATTACK,
        command=ATTACK,
        notes=(ATTACK,),
        untrained=(ATTACK,) * 20,
    )
    profile = replace(
        profile,
        probes=replace(profile.probes, source=ATTACK, sha256=ATTACK),
        readouts={**profile.readouts, ATTACK: profile.readouts["hf"]},
    )
    found = read_page(profile_html(profile))
    assert len(found.text["script"]) == len(page.text["script"])
    assert ATTACK in found.said
    assert ATTACK not in found.text["script"][0]


def test_unprintable_characters_become_visible(planted_profile):
    content = profile_html(planted_profile(before="a\x00b", stack="s\u202e", untrained=("x\x1b",)))
    assert not set(content.decode()) & set("\x00\u202e\x1b")


def test_the_file_stays_small_and_the_same(planted_profile):
    profile = planted_profile(blocks=128, before="m" * 5000, stack="s" * 5000)
    content = profile_html(profile)
    assert len(content) < 1_200_000
    assert profile_html(profile) == content
