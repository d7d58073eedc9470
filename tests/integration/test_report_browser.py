"""Reports in a real browser: drawn, silent, closed in, legible in light, dark and print."""

from dataclasses import replace
from functools import cache
from itertools import pairwise
from types import SimpleNamespace

import pytest

from layerwise.card.record import StackInfo
from layerwise.report import document, html

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SCRIPT = "</script><script>window.pwned=1</script>"
HOSTILE = (
    SCRIPT,
    "<img src=x onerror=window.pwned=2>",
    "<svg/onload=window.pwned=3>",
    "javascript:window.pwned=4",
    "\"'&<>`=",
    "${window.pwned=5}",
    "{{7*7}}{% raw %}",
    'datum["x"]',
    "constructor.constructor('window.pwned=6')()",
    "https://example.invalid/pixel.png",
    "]]>--><!--",
    "a\\nb\\u003c",
    "שלום עולם",
)
# Their unprintable characters are to be replaced, so they are looked for apart.
UNPRINTABLE = ("left\u202etfel", "nul\x00nul", "esc\x1b[31m")
PLANTED = "</script><img src=x onerror=window.pwned=1>\"'&{{7*7}}${window.pwned=2}"
NAMES = tuple(f"model.layers.{n}.self_attn.q_proj" for n in range(20))
TEXT = "h1, h2, h3, p, li, dt, dd, small, figcaption span, th, td, code, .end, .cell"

#: Documents by name, of what the fixture `make` makes.
PAGES = {
    "card": lambda make: make.card({"model.layers": 30}),
    "card of two stacks": lambda make: make.card({"encoder.block": 24, "decoder.block": 24}),
    "card of six stacks": lambda make: make.card({f"stack{n}": 3 for n in range(6)}, notes=("x",)),
    "card without attention": lambda make: make.card({"backbone.layers": 24}, attention=False),
    "card of one block": lambda make: make.card({"transformer.h": 1}),
    "card of 96 blocks": lambda make: make.card({"model.layers": 96}),
    "profile": lambda make: make.profile(untrained=NAMES, notes=("a note",)),
    "profile of one block": lambda make: make.profile(blocks=1),
    "profile of 6 blocks": lambda make: make.profile(blocks=6),
    "profile of 96 blocks": lambda make: make.profile(blocks=96),
    "profile under one readout": lambda make: make.profile(scales={"hf": 1.0}),
    "falling profile": lambda make: make.profile(steepness=-0.04),
    "still profile": lambda make: make.still(),
    "control": lambda make: make.control(),
    "control of one seed": lambda make: make.control(seeds=(0,), equal=0.0),
    "control of 12 seeds": lambda make: make.control(seeds=range(12), blocks=6),
    "control that recorded little": lambda make: make.control(steps=False, losses=False),
    "control of one block": lambda make: make.control(blocks=1),
    "atlas": lambda make: make.atlas(),
    "analysis of 3 seeds": lambda make: make.analysis(seeds=(0, 1, 2), noise=0.02),
    "analysis of one model": lambda make: make.analysis(models=("only",)),
    "analysis of one metric": lambda make: make.analysis(metrics=("cka",)),
    "analysis without distance": lambda make: make.analysis(distant=False),
    "analysis of equal-step": lambda make: make.analysis(conditions=("equal-step",)),
    "analysis of long names": lambda make: make.analysis(
        models=("m" * 300, "n" * 300), objectives=("o" * 300, "p", "q")
    ),
}


@pytest.fixture(scope="module")
def made(
    planted_card, planted_placement, planted_profile, still_profile, planted_control, planted_runs,
    atlas_analysis,
):  # fmt: skip
    """The function that gives a document of `PAGES` and its page, each made once."""

    def card(stacks, **how):
        planted = planted_card(stacks, **how)
        return document(planted, placement=planted_placement(planted))

    make = SimpleNamespace(
        card=card,
        profile=lambda **how: document(planted_profile(**how)),
        still=lambda: document(still_profile()),
        control=lambda **how: document(planted_control(**how)),
        analysis=lambda **how: document(planted_runs.analysed(planted_runs.study(**how))),
        atlas=lambda: document(atlas_analysis),
    )

    @cache
    def drawn(kind):
        found = PAGES[kind](make)
        return found, html(found)

    return drawn


@pytest.fixture
def opened(opened_page, made):
    """Opens a page of `PAGES`."""
    return lambda kind, **how: opened_page(made(kind)[1], **how)


@pytest.mark.parametrize("kind", PAGES)
def test_every_chart_is_drawn_whole_and_nothing_is_said(opened, made, kind, marks):
    charts = made(kind)[0].charts()
    with opened(kind) as page:
        drawn = marks(page)
        assert page.locator("[data-chart] svg").count() == len(drawn)
    least = {name: sum(shows(chart, row) for row in chart.rows) for name, chart in charts.items()}
    assert drawn.keys() == charts.keys()
    assert all(drawn[name] >= least[name] > 0 for name in charts), (drawn, least)


def shows(chart, row):
    """Return whether a row has both numbers that place its mark."""
    return all(row.get(axis.field) is not None for axis in (chart.x, chart.y))


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


def nothing_ran(page):
    """Neither a script of another's nor an element that could fetch or send."""
    assert page.evaluate("window.pwned") is None
    # Vega's embedding puts an empty form of its own beside each chart.
    foreign = "img, iframe, object, embed, a, form:not(.vega-bindings)"
    assert page.locator(foreign).count() == 0
    assert page.locator("script").count() == 3


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_show_as_text_and_never_run(
    opened_page, planted_card, planted_placement, text
):
    card = hostile_card(planted_card, text)
    with opened_page(html(card, placement=planted_placement(card, policy=text))) as page:
        for place in ("h1", ".advice", ".stack", "pre.command", "td.spare"):
            assert text in page.locator(place).first.text_content(), place
        assert text[:6] in page.locator("#figure-gain svg").text_content()
        nothing_ran(page)


def test_so_do_those_of_profiles_controls_and_analyses(
    opened_page, planted_profile, planted_control, planted_runs
):
    names = dict.fromkeys(("before", "after", "stack", "command"), PLANTED)
    names |= {"notes": (PLANTED,), "untrained": (PLANTED,)}
    control = planted_control(blocks=3, reason=PLANTED, **names)
    control = replace(control, data=replace(control.data, source=PLANTED, objective=PLANTED))
    runs = planted_runs.study(
        models=(PLANTED, "b"), objectives=(PLANTED, "p", "q"), blocks=(PLANTED,), source=PLANTED
    )
    analysis = replace(planted_runs.analysed(runs), notes=(PLANTED,), absent={"widths": PLANTED})
    places = ("h1", ".warning", "pre.command", "section li", ".sides")
    for record, where in (
        (planted_profile(blocks=3, **names), places),
        (control, places),
        (analysis, ("h1", ".pairs dd", "section li", "[aria-labelledby=models] tbody th")),
    ):
        with opened_page(html(record)) as page:
            for place in where:
                assert PLANTED[:20] in page.locator(place).first.text_content(), place
            nothing_ran(page)


@pytest.mark.parametrize("text", UNPRINTABLE)
def test_characters_that_would_hide_text_are_replaced(opened_page, planted_card, text):
    with opened_page(html(hostile_card(planted_card, text))) as page:
        expected = "".join(c if c.isprintable() else "�" for c in text)
        assert page.locator("h1").text_content() == expected
        assert expected in page.locator("pre.command").text_content()


def test_names_of_five_thousand_characters_fit(opened_page, planted_card, tmp_path):
    with opened_page(html(hostile_card(planted_card, "w" * 5000)), width=400) as page:
        widths = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert widths[0] <= widths[1]
        assert len(page.locator("pre.command").text_content()) == 5000
    assert (tmp_path / "report.html").stat().st_size < 1_200_000


def test_what_gets_into_the_page_all_the_same_cannot_run(opened):
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
    with opened("card of one block", silent=False) as page:
        stopped = []
        page.on("requestfailed", lambda request: stopped.append((request.url, request.failure)))
        assert page.evaluate(attack) == ["img-src", "script-src-elem", "style-src-attr"]
        assert page.evaluate("window.pwned") is None
        assert stopped == [("https://example.invalid/x.png", "csp")]


@pytest.mark.parametrize("kind", ["card of six stacks", "profile", "control", "atlas"])
def test_text_and_marks_are_legible_in_light_dark_and_print(opened, contrast, kind):
    grounds = set()
    for scheme in ("light", "dark"):
        with opened(kind, color_scheme=scheme) as page:
            grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            assert contrast(page, TEXT) >= 4.5, scheme
            assert contrast(page, "svg .role-axis-label text, svg text") >= 4.5, scheme
            points = "svg .mark-symbol.role-mark path[stroke-width]"
            assert contrast(page, points) >= 3.0, scheme
    assert len(grounds) == 2
    with opened(kind, color_scheme="dark") as page:
        page.emulate_media(media="print", color_scheme="dark")
        white = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert white == "rgb(255, 255, 255)"
        assert contrast(page, f"{TEXT}, svg text") >= 4.5
        assert all(cell.is_visible() for cell in page.locator("thead th:not(.spare)").all())
        for figure in page.locator(".chart").all():
            assert figure.evaluate("f => getComputedStyle(f).breakInside") == "avoid"
            frame, drawing = figure.bounding_box(), figure.locator("svg").bounding_box()
            assert drawing["height"] > 50
            assert drawing["x"] + drawing["width"] <= frame["x"] + frame["width"] + 1
        assert page.pdf(format="A4").startswith(b"%PDF")


@pytest.mark.parametrize(
    "kind",
    [
        "card of two stacks", "profile of 96 blocks", "control of 12 seeds", "atlas",
        "analysis of long names",
    ],
)  # fmt: skip
def test_the_page_never_scrolls_sideways(opened, kind):
    for width in (320, 400, 760, 1180):
        with opened(kind, width=width) as page:
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            overhang = page.eval_on_selector_all(
                "[data-chart]",
                """places => places.map(place => place.querySelector('svg')
                    .getBoundingClientRect().right - place.getBoundingClientRect().right)""",
            )
            assert max(overhang) <= 1, width


@pytest.mark.parametrize("record", ["card", "measure"])
def test_no_table_is_cut_on_a_usual_screen(opened_page, planted_card, planted_measure, record):
    made = {"card": planted_card, "measure": planted_measure}[record]()
    with opened_page(html(made), width=1200) as page:
        sizes = page.eval_on_selector_all(
            ".scroll", "all => all.map(one => [one.scrollWidth, one.clientWidth])"
        )
    assert sizes
    assert all(whole <= seen for whole, seen in sizes), sizes


def tip(page, figure, which):
    """Return what the tooltip of the first or last point of a figure says, as text alone."""
    points = page.locator(f"#figure-{figure} .mark-symbol.role-mark path")
    getattr(points, which).hover()
    page.wait_for_selector("#tip:not([hidden])")
    assert page.locator("#tip").locator("*").count() == 0
    return page.locator("#tip").text_content()


def test_a_tooltip_is_plain_text_and_tells_what_is_known(
    opened, opened_page, planted_card, atlas_analysis
):
    with opened_page(html(planted_card({SCRIPT: 2, "b": 2}))) as page:
        told = tip(page, "coherence", "first")
        assert told.startswith(f"{SCRIPT} block 0\nGradient coherence: 0.")
    with opened("profile") as page:
        told = tip(page, "depth-profile", "last")
        assert told == (
            "block 29 · depth 100 %\nProcrustes distance: 0.400\nHalves differ by: 0.00400"
        )
    with opened("control") as page:
        assert "Asked" not in tip(page, "step-sizes", "first")  # Nothing was, under standard.
    with opened("atlas") as page:
        told = tip(page, "equal-step-procrustes", "last")
    row = next(
        r for r in atlas_analysis.equal_step
        if (r.model, r.objective, r.metric) == ("pythia-160m", "causal-span", "procrustes")
    )  # fmt: skip
    assert told == (
        "pythia-160m · causal-span · parallel blocks\n"
        f"standard: {row.standard:.3f}\nequal-step: {row.equal_step:.3f}\nratio: {row.ratio:.3f}"
    )


def apart(page, figure, least, *, of=""):
    """At least so many labels of an axis are seen, in one line, and none over another."""
    boxes = f"""
    labels => labels.filter(label => getComputedStyle(label).opacity > 0
        && label.textContent.includes('{of}'))
      .map(label => label.getBoundingClientRect()).map(box => [box.top, box.left, box.right])
    """
    labels = page.eval_on_selector_all(f"#figure-{figure} .role-axis-label text", boxes)
    lowest = max(top for top, _, _ in labels)
    across = sorted(ends for top, *ends in labels if top == lowest)
    assert len(across) >= least
    assert min((b[0] - a[1] for a, b in pairwise(across)), default=1) >= 0


@pytest.mark.parametrize("stacks", [{"h": 1}, {"h": 128}, {"a": 2, "b": 1, "c": 60}])
def test_axis_labels_do_not_overlap(opened_page, planted_card, stacks):
    with opened_page(html(planted_card(stacks)), width=400) as page:
        apart(page, "memory", min(4, sum(stacks.values())))


def test_names_of_depths_do_not_overlap(opened):
    with opened("profile of 96 blocks", width=320) as page:
        apart(page, "depth-profile", 4, of="%")


def test_lines_stand_in_the_order_of_models(opened, atlas_analysis):
    with opened("atlas") as page:
        labels = page.locator("#figure-slopes .role-axis-label text").all_text_contents()
    models = [text.split(" · ")[0] for text in labels if " · " in text]
    assert list(dict.fromkeys(models)) == [row.model for row in atlas_analysis.models]
    assert len(models) == 38
