"""The report in a real browser: drawn, silent, closed in, legible in light, dark and print."""

from dataclasses import replace
from itertools import pairwise

import pytest

from layerwise.card.record import StackInfo
from layerwise.report import document, html

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SCRIPT = "</script><script>window.pwned=1</script>"
HOSTILE = (
    SCRIPT,
    "<img src=x onerror=window.pwned=2>",
    "javascript:window.pwned=4 <svg/onload=window.pwned=3> \"'&<>`= a\\nb\\u003c",
    "${window.pwned=5} {{7*7}}{% raw %} שלום עולם",
    'datum["x"]',
    "constructor.constructor('window.pwned=6')()",
    "https://example.invalid/pixel.png ]]>--><!--",
)
# These unprintable characters are to be replaced, so they are looked for apart.
UNPRINTABLE = "left\u202etfel nul\x00nul esc\x1b[31m"


@pytest.fixture
def opened(opened_page):
    """Opens a card's report."""
    return lambda card, placement=None, **how: opened_page(html(card, placement=placement), **how)


CARDS = {
    "one stack": ({"model.layers": 30}, True),
    "two stacks": ({"encoder.block": 12, "decoder.block": 12}, True),
    "without attention": ({"backbone.layers": 24}, False),
    "one block": ({"transformer.h": 1}, True),
    "deep": ({"model.layers": 96}, True),
}


@pytest.mark.parametrize("kind", CARDS)
def test_every_chart_is_drawn_and_nothing_is_said(
    opened, planted_card, planted_placement, kind, marks
):
    stacks, attention = CARDS[kind]
    card = planted_card(stacks, attention=attention)
    placement = planted_placement(card)
    with opened(card, placement) as page:
        drawn = marks(page)
        assert set(drawn) == set(document(card, placement=placement).charts())
        assert all(count >= sum(stacks.values()) for count in drawn.values()), drawn
        assert page.locator("[data-chart] svg").count() == len(drawn)


def hostile_card(planted_card, text):
    """A card that says `text` wherever a card can say something."""
    card = planted_card({text: 2, f"{text}2": 2}, source=text, command=text, notes=(text,))
    rows = tuple(replace(r, name=f"{text}.{r.index}", modules=(text,)) for r in card.layers)
    stacks = tuple(StackInfo(s.name, s.blocks, text, "parallel") for s in card.model.stacks)
    model = replace(
        card.model, architecture=text, stacks=stacks, revision=text, base=text, files={text: text}
    )
    data = replace(card.data, source=text, objective=text, sha256=text, columns={text: text})
    advice = replace(card.advice, reason=text, policy=text, remedies=(text,))
    made = replace(card.provenance, torch=text, device=text, git=text, created=text)
    capture = replace(card.capture, targets=(text,), readout=text, dtype=text)
    parts = {"layers": rows, "model": model, "data": data, "advice": advice, "capture": capture}
    return replace(card, **parts, provenance=made, absent={text: text})


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_show_as_text_and_never_run(opened, planted_card, planted_placement, text):
    card = hostile_card(planted_card, text)
    with opened(card, planted_placement(card, policy=text)) as page:
        for place in ("h1", ".advice", ".stack", "pre.command", "td.spare"):
            assert text in page.locator(place).first.text_content(), place
        assert text[:6] in page.locator("#figure-gain svg").text_content()
        assert page.evaluate("window.pwned") is None
        # Vega's embedding puts an empty form of its own beside each chart.
        foreign = "img, iframe, object, embed, a, form:not(.vega-bindings)"
        assert page.locator(foreign).count() == 0
        assert page.locator("script").count() == 3


def test_characters_that_would_hide_text_are_replaced(opened, planted_card):
    with opened(hostile_card(planted_card, UNPRINTABLE)) as page:
        expected = "".join(c if c.isprintable() else "�" for c in UNPRINTABLE)
        assert page.locator("h1").text_content() == expected
        assert expected in page.locator("pre.command").text_content()


def test_names_of_five_thousand_characters_fit(opened, planted_card, tmp_path):
    with opened(hostile_card(planted_card, "w" * 5000), width=400) as page:
        widths = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert widths[0] <= widths[1]
        assert len(page.locator("pre.command").text_content()) == 5000
    assert (tmp_path / "report.html").stat().st_size < 1_200_000


def test_what_gets_into_the_page_all_the_same_cannot_run(opened, planted_card):
    """The policy itself, with the escaping taken out of the way."""
    attack = """
    () => new Promise(resolve => {
      const refused = [];
      document.addEventListener('securitypolicyviolation', event => {
        refused.push(event.effectiveDirective);
        if (refused.length === 3) resolve(refused.sort());
      });
      const script = document.createElement('script');
      script.textContent = 'window.pwned = 1';
      document.body.append(script);
      const image = new Image();
      image.src = 'https://example.invalid/x.png';
      document.body.insertAdjacentHTML('beforeend', '<p style="position:fixed">x</p>');
    })
    """
    with opened(planted_card({"h": 2}), silent=False) as page:
        stopped = []
        page.on("requestfailed", lambda request: stopped.append((request.url, request.failure)))
        assert page.evaluate(attack) == ["img-src", "script-src-elem", "style-src-attr"]
        assert page.evaluate("window.pwned") is None
        assert stopped == [("https://example.invalid/x.png", "csp")]


def test_text_and_marks_are_legible_in_light_and_dark(
    opened_page, planted_card, planted_placement, contrast
):
    card = planted_card({f"stack{n}": 3 for n in range(6)}, notes=("a note",))
    content, grounds = html(card, placement=planted_placement(card)), set()
    for scheme in ("light", "dark"):
        with opened_page(content, color_scheme=scheme) as page:
            grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            text = "h1, h2, h3, p, li, dt, dd, small, figcaption span, th, td, code, .end, .cell"
            assert contrast(page, text) >= 4.5, scheme
            assert contrast(page, "svg .role-axis-label text, svg text") >= 4.5, scheme
            assert contrast(page, "svg .mark-symbol.role-mark path") >= 3.0, scheme
    assert len(grounds) == 2


def test_print_is_light_and_has_every_chart_whole(opened, planted_card, contrast):
    card = planted_card()
    with opened(card, color_scheme="dark") as page:
        page.emulate_media(media="print", color_scheme="dark")
        white = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert white == "rgb(255, 255, 255)"
        assert contrast(page, "h1, p, dd, svg text") >= 4.5
        for name in document(card).charts():
            figure = page.locator(f"#figure-{name}")
            assert figure.evaluate("f => getComputedStyle(f).breakInside") == "avoid"
            frame, drawing = figure.bounding_box(), figure.locator("svg").bounding_box()
            assert drawing["height"] > 60
            assert drawing["x"] + drawing["width"] <= frame["x"] + frame["width"] + 1
        assert page.pdf(format="A4").startswith(b"%PDF")


def test_the_page_never_scrolls_sideways(opened_page, planted_card, planted_placement):
    card = planted_card({"encoder.block": 24, "decoder.block": 24})
    content = html(card, placement=planted_placement(card))
    for width in (320, 760, 1180):
        with opened_page(content, width=width) as page:
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            overhang = page.eval_on_selector_all(
                "[data-chart]",
                """places => places.map(place => place.querySelector('svg')
                    .getBoundingClientRect().right - place.getBoundingClientRect().right)""",
            )
            assert max(overhang) <= 1, width


def test_a_tooltip_is_plain_text(opened, planted_card):
    with opened(planted_card({SCRIPT: 2, "b": 2})) as page:
        page.locator("#figure-coherence .mark-symbol.role-mark path").first.hover()
        page.wait_for_selector("#tip:not([hidden])")
        tip = page.locator("#tip")
        assert tip.text_content().startswith(f"{SCRIPT} block 0")
        assert "Gradient coherence: 0." in tip.text_content()
        assert tip.locator("*").count() == 0


@pytest.mark.parametrize("stacks", [{"h": 1}, {"h": 128}, {"a": 2, "b": 1, "c": 60}])
def test_axis_labels_do_not_overlap(opened, planted_card, stacks):
    boxes = """
    labels => labels.filter(label => getComputedStyle(label).opacity > 0)
      .map(label => label.getBoundingClientRect()).map(box => [box.top, box.left, box.right])
    """
    with opened(planted_card(stacks), width=400) as page:
        labels = page.eval_on_selector_all("#figure-memory .role-axis-label text", boxes)
    lowest = max(top for top, _, _ in labels)
    across = sorted(ends for top, *ends in labels if top == lowest)
    assert len(across) >= min(4, sum(stacks.values()))
    gaps = [b[0] - a[1] for a, b in pairwise(across)]
    assert min(gaps, default=2) >= 1
