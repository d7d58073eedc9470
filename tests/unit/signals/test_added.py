"""A signal that a test makes up is one row, and is found wherever a card is."""

import json
from importlib import reload

import numpy as np
import pytest
from click.testing import CliRunner

from layerwise.capture import plan
from layerwise.card.make import make_card
from layerwise.card.record import LayerCard
from layerwise.cli import records as command
from layerwise.columns import Column
from layerwise.report import html, text
from layerwise.signals import SIGNALS, Signal, select


def spread(stats):
    """The norms' range over examples, in each block."""
    norms = np.sqrt(stats.gradient_energy)
    return norms.mean(0), norms.min(0), norms.max(0)


ROW = Signal(
    "gradient_spread",
    needs=("outputs",),
    compute=spread,
    column=Column(
        "gradient_spread",
        "Gradient spread",
        short="g. spread",
        meaning="How far the examples' gradients differ in size.",
        low="gradient_spread_low",
        high="gradient_spread_high",
        band="range over examples",
        importance=1000,
    ),
)


@pytest.fixture
def registered():
    SIGNALS.add(ROW)
    yield ROW
    SIGNALS.remove(ROW.name)


def card_of(tiny, name, signals=None, **options):
    objective = tiny.objective_on(tiny.batch(name, n=4))
    loaded, wanted = tiny.build(name), plan(**options)
    return make_card(loaded, tiny.text(4), objective, wanted, signals=signals)


def test_it_is_in_the_file_and_comes_back(tiny, registered, tmp_path):
    card = card_of(tiny, "llama", select(["gradient_spread"]))
    card.save(tmp_path)
    for row in json.loads((tmp_path / "card.json").read_text())["layers"]:
        assert row["gradient_spread_low"] < row["gradient_spread"] < row["gradient_spread_high"]
        assert "further" not in row
    again = LayerCard.load(tmp_path)
    assert again == card
    np.testing.assert_array_equal(again.column("gradient_spread"), card.column("gradient_spread"))
    assert np.isfinite(again.column("gradient_spread_high")).all()
    assert np.isnan(again.column("coherence")).all()


def test_a_file_with_it_is_read_where_it_is_not_registered(tiny, tmp_path):
    SIGNALS.add(ROW)
    card = card_of(tiny, "llama", select(["gradient_spread"]))
    SIGNALS.remove(ROW.name)
    card.save(tmp_path)
    assert LayerCard.load(tmp_path) == card
    assert np.isfinite(LayerCard.load(tmp_path).column("gradient_spread")).all()


def test_a_card_from_before_has_none_of_it(tiny, registered):
    assert np.isnan(card_of(tiny, "llama", select(["coherence"])).column("gradient_spread")).all()


def test_it_is_measured_by_default_and_is_absent_with_what_it_needs(tiny, registered):
    assert np.isfinite(card_of(tiny, "llama").column("gradient_spread")).all()
    absent = card_of(tiny, "llama", readout="normed").absent
    assert absent["gradient_spread"] == absent["activation_gradient"]


def test_it_is_in_the_table_and_the_report(tiny, registered):
    card = card_of(tiny, "llama")
    assert "spread" in text(card, width=80)
    page = html(card).decode()
    assert "Gradient spread" in page
    assert ROW.column.meaning.replace("'", "&#39;") in page
    assert ROW.column.band in page
    assert "gradient-spread" in page


def test_it_is_in_the_help(registered):
    told = CliRunner().invoke(reload(command).COMMANDS[0], ["--help"]).output
    assert "gradient_spread" in " ".join(told.split())
