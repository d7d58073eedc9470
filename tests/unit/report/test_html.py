import base64
import hashlib
import json
import re
import sys
from dataclasses import replace
from html import unescape

import pytest

from layerwise import report
from layerwise.errors import BadInputError
from layerwise.report.blocks import Document, Strip, Text
from layerwise.report.renderers import html as renderer
from layerwise.report.renderers.html import framed, html

ATTACK = "</script><script>window.pwned=1</script>"


@pytest.fixture(scope="module")
def page(planted_document, read_page):
    return read_page(html(planted_document()))


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


def test_a_page_without_charts_runs_no_script(read_page):
    page = read_page(html(Document("Kind", "title", "", [Text("words")])))
    assert "script" not in page.text
    assert "script-src 'none'" in page.policy


def test_nothing_is_styled_run_or_fetched_by_attribute(page):
    for _, attributes in page.tags:
        assert not any(name == "style" or name.startswith("on") for name in attributes)
        assert "src" not in attributes
        assert attributes.get("href", "data:,") == "data:,"


def test_every_chart_has_a_figure_with_words(page, planted_document):
    charts = planted_document().charts()
    assert [a["data-chart"] for _, a in page.tags if "data-chart" in a] == list(charts)
    assert all(a["aria-label"] for _, a in page.tags if a.get("role") == "img")


def test_sections_are_named_and_names_are_unique(page):
    names = [a["id"] for _, a in page.tags if "id" in a]
    assert len(set(names)) == len(names)
    assert {a["aria-labelledby"] for t, a in page.tags if "aria-labelledby" in a} <= set(names)


def test_tables_have_scopes_marks_groups_units_and_captions(page):
    scopes = [a.get("scope") for t, a in page.tags if t == "th"]
    assert (scopes.count("col"), scopes.count("row"), scopes.count("rowgroup")) == (6, 3, 1)
    assert "Never" not in page.said
    assert sum(t == "tr" and a.get("class") == "on" for t, a in page.tags) == 1
    for words in ("1.00 0.80–1.20", "20 %", "2.00 GB", "2,000", "plain chosen"):
        assert words in page.said, words
    (region,) = (a for _, a in page.tags if a.get("role") == "region")
    assert region == {"class": "scroll", "tabindex": "0", "role": "region", "aria-label": "plain"}


def test_cells_of_strips_are_marked_or_shaded(page):
    cells = [a["class"].split() for t, a in page.tags if t == "li" and "class" in a]
    assert [n for n, look in enumerate(cells[:6]) if "on" in look] == [1]
    assert [look[1] for look in cells[6:]] == [f"heat-{n}" for n in (0, 2, 4, 6, 8, 10)]


def test_shades_have_a_scale_from_0_to_the_most(page, read_page, planted_document):
    looks = [a["class"] for t, a in page.tags if t == "i"]
    assert looks == [f"heat-{n}" for n in range(11)]
    assert "plain 0 5" in page.said.replace("  ", " ")
    document = planted_document()
    marked = [x for x in document.blocks if not (isinstance(x, Strip) and x.values)]
    assert not any(t == "i" for t, _ in read_page(html(replace(document, blocks=marked))).tags)


def test_many_names_are_folded_away_but_there(page):
    assert "8 more" in page.said
    assert "plain19" in page.said


def test_hostile_text_neither_ends_an_element_nor_starts_one(planted_document, page, read_page):
    found = read_page(html(planted_document(ATTACK)))
    assert len(found.text["script"]) == len(page.text["script"])
    assert len(found.tags) == len(page.tags)
    assert found.said.count(ATTACK) > 20
    data = json.loads(found.text["script"][0])["datasets"]
    assert data["rows-0"][0]["stack"] == ATTACK


def test_unprintable_characters_become_visible(planted_document):
    content = html(planted_document("a\x00b\u202ec\x1b[31m\ud800")).decode()
    assert not set(content) & set("\x00\u202e\x1b")
    assert "a�b�c" in content


def test_a_command_stands_as_it_was_typed(planted_document, read_page):
    command = "layerwise card 'my  model' data --where 'a\nb'"
    assert command in "".join(read_page(html(planted_document(command))).text[""])


def test_the_same_document_is_the_same_bytes(planted_document):
    assert html(planted_document()) == html(planted_document())


def test_a_notebook_shows_the_page_in_a_closed_frame(planted_document):
    frame = framed(html(planted_document(ATTACK)))
    assert re.match(r'<iframe srcdoc="&lt;!DOCTYPE', frame)
    assert 'sandbox="allow-scripts"' in frame
    assert frame.count("<") == 2


@pytest.fixture
def bundled_anew():
    renderer._bundle.cache_clear()
    yield renderer._bundle.cache_clear
    renderer._bundle.cache_clear()


@pytest.mark.slow
def test_the_charts_script_is_kept_where_that_can_be(
    planted_document, bundled_anew, tmp_path, monkeypatch
):
    monkeypatch.setattr(renderer, "HF_ASSETS_CACHE", str(tmp_path))
    first = html(planted_document())
    (kept,) = tmp_path.rglob("*.js")
    bundled_anew()
    assert html(planted_document()) == first
    kept.write_text("window.kept = true")
    bundled_anew()
    assert b"<script>window.kept = true</script>" in html(planted_document())
    bundled_anew()
    monkeypatch.setattr(renderer, "HF_ASSETS_CACHE", str(kept))
    assert html(planted_document()) == first


# --- Where what draws charts is not installed --------------------------------------------------


@pytest.mark.parametrize("missing", ["altair", "vl_convert"])
def test_a_page_without_charts_says_so_and_keeps_its_tables(
    small_card, monkeypatch, caplog, missing
):
    whole = html(report.document(small_card(3))).decode()
    monkeypatch.setitem(sys.modules, missing, None)
    page = html(report.document(small_card(3))).decode()
    said = f"what draws them is not installed: {missing} (pip install"
    assert said in unescape(page)
    assert said in caplog.text
    assert "<script>" not in page
    tables = re.sub(r"<script.*?</script>", "", whole, flags=re.DOTALL).count("<table")
    assert page.count("<table") == tables > 0
    with pytest.raises(BadInputError, match=rf"to draw charts is not installed: '{missing}'"):
        report.files(small_card(3), charts=True)
