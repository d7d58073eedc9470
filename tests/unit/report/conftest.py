"""A page taken apart, and what a terminal would show."""

import io
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.console import Console


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


@pytest.fixture(scope="session")
def read_page():
    """The function that takes a page's bytes apart."""
    return Page


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
    from layerwise.measure.onto_card import with_measured

    card = planted_card()
    return with_measured(card, replace(planted_measure(), model=card.model))
