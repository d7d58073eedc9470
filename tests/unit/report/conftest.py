"""A page taken apart, and what a terminal would show."""

import io
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

FIRST_EDITION = Path(__file__).parents[2] / "fixtures" / "first_edition"


class Page(HTMLParser):
    """Elements, their attributes, and the text in each kind of element."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.text, self.open = [], {}, []
        self.feed(content.decode())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)
        if tag in {"script", "style"}:
            self.text.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if self.open and self.open[-1] in {"script", "style"}:
            self.text[self.open[-1]][-1] += data
        else:
            self.text.setdefault("", []).append(data)

    @property
    def policy(self):
        return next(a["content"] for t, a in self.tags if t == "meta" and "http-equiv" in a)

    @property
    def said(self):
        return " ".join(" ".join(self.text[""]).split())


def written(text="plain", *, blocks=6):
    """A document with a block of every kind, which says `text` wherever one can say something."""
    import layerwise.report.blocks as b
    from layerwise.columns import Column

    columns = (
        Column("name", text, form="text"),
        Column("size", "Size", unit=text, low="low", high="high", importance=9, meaning=text),
        Column("share", "Share", form="percent", importance=5),
        Column("memory", "Memory", unit="B", form="quantity", importance=4),
        Column("count", "Count", form="count", importance=3),
        Column("dead", "Dead", form="flag", importance=2),
        Column("never", "Never"),
    )
    rows = [
        {"name": text, "size": 0.5 * n, "low": 0.4 * n, "high": 0.6 * n, "share": n / 10}
        | {"memory": 1e9 * n, "count": 1000 * n, "dead": n == 2}
        for n in range(1, 4)
    ]
    spots = [
        {"x": n, "index": n, "head": text, "size": n + 1.0, "low": n + 0.5, "high": n + 1.5}
        | {"stack": text, "on": n == 1, "label": text, "other": n + 2.0, "line": str(n)}
        for n in range(blocks)
    ]
    look = {
        "series": "stack",
        "names": [text],
        "tips": [Column("label", "Label", form="text")],
        "caption": text,
    }
    ends = {"low": "low", "high": "high"}
    size, place = b.Axis("size", title="Size", unit="nats"), b.Axis("x")
    tall = b.Axis("size", title="Size", unit="nats", scale="zero")
    charts = [
        b.Chart("blocks", text, "blocks", spots, place, size, filled="on", top={0: "0 %"},
                faint=spots, lines=spots, rules=[b.Rule(1.0, text=text), b.Rule(0.5, band=True)],
                **ends, **look),
        b.Chart("bars", text, "bars", spots, place, tall, **look),
        b.Chart("named", text, "bars", [{"depth": text, "size": 1.0, "head": text}],
                b.Axis("depth"), tall),
        b.Chart("intervals", text, "intervals", spots, size, b.Axis("line"), other="other",
                join="stack", faint=spots, **ends, **look),
        b.Chart("scatter", text, "scatter", spots, b.Axis("other"), size, label="label",
                join="stack", rules=[b.Rule(3.0, "x", text)], lines=spots[:2], **look),
        b.Chart("heat", text, "heat", [{"depth": text, "line": text, "share": 0.5, "text": "5"}],
              b.Axis("depth"), b.Axis("line"), series="share", label="text"),
    ]  # fmt: skip
    return b.Document(
        text,
        text,
        text,
        [
            b.Verdict(text, [text], [text], [f"{text}{n}" for n in range(20)]),
            b.Verdict("Beware.", tone="warning"),
            b.Heading(text),
            b.Text(text),
            b.Text("aside", quiet=True),
            b.Figures([(text, text, text)]),
            b.Strip(text, range(blocks), on=frozenset({1}), about=text, summary=text),
            b.Strip(text, range(blocks), values=[float(n) for n in range(blocks)], most=blocks - 1),
            b.Table("sizes", columns, rows, marked=frozenset({1}), mark="chosen", groups={0: text},
                  caption=text, bar="size"),
            b.Heading("Charts", detail=True),
            *charts,
            b.Heading(text, 3),
            b.Facts([(text, text)], title="Before"),
            b.Facts([("hash", "5a" * 32)], title="After"),
            b.Heading("Notes"),
            b.Note(text),
            b.Heading("How", detail=True),
            b.Code(text),
        ],
    )  # fmt: skip


@pytest.fixture(scope="session")
def planted_document():
    """The function that writes a document with a block of every kind."""
    return written


@pytest.fixture(scope="session")
def read_page():
    """The function that takes a page's bytes apart."""
    return Page


@pytest.fixture(scope="session")
def unsaid():
    """The function that gives what a text does not say of what it should."""
    return lambda said, *wanted: [words for words in wanted if words not in said]


@pytest.fixture(scope="session")
def kept():
    """The function that loads a record which the first edition wrote, by its name."""
    import layerwise as lw
    from layerwise.tuning.record import TuneRecord

    kinds = {"distance": lw.Distance, "probe": lw.Probing, "erase": lw.Erasure, "tune": TuneRecord}
    return lambda name: kinds[name].load(FIRST_EDITION / name)


@pytest.fixture(scope="session")
def printed():
    """The function that gives what a renderable prints."""

    def show(renderable, *, width=200, encoding="utf-8", **console):
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding=encoding, newline="")
        Console(file=stream, width=width, **console).print(renderable)
        stream.flush()
        return raw.getvalue().decode(encoding)

    return show


@pytest.fixture(scope="session")
def measured_card(planted_card, planted_measure):
    """A card to which a measurement of five regimes on blocks 3, 7, 8 and 9 was added."""
    from layerwise.measure.card_results import with_measured

    card = planted_card()
    return with_measured(card, replace(planted_measure(), model=card.model))
