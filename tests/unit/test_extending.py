"""Every example of docs/extending.md runs, and what it adds is found where it should be."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from layerwise.capture import plan
from layerwise.card.make import make_card
from layerwise.data import read
from layerwise.data.batches import BatchSet
from layerwise.data.formats import FORMATS
from layerwise.data.readers import READERS
from layerwise.data.text import Example, TextData
from layerwise.models.meta import meta_copy
from layerwise.models.roles import roles
from layerwise.objectives import OBJECTIVES, resolve
from layerwise.placement import POLICIES, TRAINERS
from layerwise.placement.place import place
from layerwise.placement.verify import verify
from layerwise.report.blocks import Document
from layerwise.report.renderers.charts import KINDS, exported
from layerwise.report.renderers.html import html
from layerwise.signals import SIGNALS, select
from layerwise.study.check import check
from layerwise.study.expand import study_from
from layerwise.study.schema import study_schema
from layerwise.study.stages import STAGES
from layerwise.study.table import tables
from layerwise.study.worker import execute
from layerwise.tuning.conditions import CONDITIONS, places
from layerwise.tuning.record import TuneSettings

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
REGISTRIES = (SIGNALS, OBJECTIVES, CONDITIONS, POLICIES, TRAINERS, READERS, FORMATS, STAGES, KINDS)


@pytest.fixture(scope="module", autouse=True)
def page():
    """What the page's examples define, while all that they add is registered."""
    before = [list(registry) for registry in REGISTRIES]
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S):
        exec(block, names)  # noqa: S102  # The page is ours.
    yield names
    for registry, known in zip(REGISTRIES, before, strict=True):
        for name in set(registry) - set(known):
            registry.remove(name)


def text(n=4):
    examples = tuple(Example(f"text {i}") for i in range(n))
    return TextData("text", "0" * 64, examples, {"text": "text"}, n)


@pytest.fixture
def card(tiny):
    batches = BatchSet((tiny.batch("llama", n=4),), 0, 0, tokens=9)

    def made(objective="second-half", **options):
        from dataclasses import replace

        ready = replace(OBJECTIVES[objective], batches=lambda _: batches)
        return make_card(tiny.build("llama"), text(), ready, plan(), **options)

    return made


def test_each_kind_is_shown():
    assert re.findall("^## (.*)$", PAGE.read_text(), re.M) == [
        "A signal", "An objective", "A condition", "A policy", "A trainer's export",
        "A reader of files", "A format of rows", "A study stage", "A chart",
    ]  # fmt: skip


def test_the_signal_is_in_the_card(card):
    made = card(signals=select(["loudest_gradient", "activation_gradient"]))
    assert (made.column("loudest_gradient") > made.column("activation_gradient")).all()
    assert all("loudest_gradient" in row for row in made.to_plain()["layers"])


def test_the_objective_s_loss_is_the_card_s(card, tiny):
    assert resolve("second-half", loaded=tiny.build("llama"), data=text()).name == "second-half"
    whole, half = (card(name, signals=select(["gain"])) for name in ("causal-lm", "second-half"))
    assert half.data.objective == "second-half"
    assert not np.allclose(half.arrays["losses"], whole.arrays["losses"])


def test_the_condition_trains_attention_alone(tiny):
    loaded = tiny.build("llama")
    where = places(roles(loaded.model, loaded.stacks), loaded.stacks)
    trained = CONDITIONS["attention-only"].trained(where, TuneSettings())
    assert trained
    assert all("self_attn" in name for name in trained)


def test_the_policy_places(small_card):
    placed = place(small_card(), policy="alternate", layers=3)
    assert [block.index for block in placed.blocks] == [7, 9, 11]
    assert len(place(small_card(), policy="alternate").blocks) == 6


def test_the_export_is_what_peft_adapts(card, tiny):
    placed = place(card("causal-lm"), policy="alternate", layers=2)
    made = TRAINERS["my-script"].export(placed, card("causal-lm").model)
    assert json.loads(made.files["settings.json"])["adapt"] == list(placed.modules)
    verify(placed, meta_copy(tiny.build("llama").model), lora=made.lora)


def test_the_reader_and_the_format_make_examples(tmp_path):
    (tmp_path / "a.psv").write_text("question|answer\nwhy|so\nhow|thus\n")
    data = read(str(tmp_path / "a.psv"))
    assert data.examples == (Example("so", prompt="why"), Example("thus", prompt="how"))
    assert data.columns == {"text": "answer", "prompt": "question"}
    assert read(str(tmp_path), text_column="answer").examples[0] == Example("so")


def test_the_stage_is_checked_run_and_in_the_tables(study_kit, tmp_path):
    files = study_kit.files(tmp_path / "files", "llama")
    asked = {"probing": {"norms": {"order": 1}}, "objectives": [], "conditions": []}
    ledger, (cell,) = study_kit.opened(tmp_path / "ledger", study_kit.plain(files, **asked))
    assert (cell.stage, cell.settings["device"], "data" in cell.settings) == ("norms", "cpu", False)
    assert "order" in study_schema()["properties"]["probing"]["properties"]["norms"]["properties"]
    wrong = study_from(study_kit.plain(files, **{**asked, "probing": {"norms": {"order": 0}}}))
    (fault,) = check(wrong, wrong.cells)
    assert "value of order" in fault.message
    assert check(study_from(ledger.study_plain()), [cell]) == ()
    execute(ledger.root, cell.id)
    assert ledger.state(cell.id) == "done"
    made = tables(ledger)["norms"]
    assert made["index"].tolist() == [0, 1]
    assert (made["norm"] > 0).all()


@pytest.mark.slow  # Pictures take seconds.
def test_the_chart_is_drawn_on_a_page_and_as_a_file(page):
    chart = page["losses"]([3.0, 2.0, 1.5])
    document = Document("Run", "a run", "", [chart])
    assert b"Loss by step" in html(document)
    assert b"<path" in exported(document)["chart-losses.svg"]
