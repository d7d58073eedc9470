"""The studies that come as examples: what they expand to, and that nothing in them is refused."""

from collections import Counter
from importlib.resources import files
from pathlib import Path

import pandas as pd
import pytest

from layerwise.study.check import check
from layerwise.study.expand import study_from
from layerwise.study.placing import placement_settings

FOLDER = Path(__file__).parents[3] / "examples" / "studies"
OURS = {"mlm": "masked-lm"}


def study(name):
    return study_from(FOLDER / f"{name}.yaml")


def test_every_example_is_looked_at():
    known = {"depth-profile", "pocket", "block-type", "inflection", "probing"}
    assert {path.stem for path in FOLDER.glob("*.yaml")} == known


def test_the_published_matrix_has_240_runs_optimised_as_published():
    """The table has each run whose profile the paper prints; its rates are the defaults."""
    table = pd.read_csv(str(files("layerwise.analysis") / "atlas" / "profiles.csv"))
    objectives = table["objective"].replace(OURS)
    published = set(zip(table["model"], objectives, table["condition"], strict=True))
    cells = study("depth-profile").cells
    assert len(cells) == 240
    assert {cell.stage for cell in cells} == {"tune"}
    assert len({cell.id for cell in cells}) == 240
    assert len({cell.model for cell in cells}) == 15
    names = {model for model, _, _ in published}
    mine = {(c.model, c.objective, c.condition) for c in cells if c.model in names}
    assert mine == published
    assert len(mine) == 210
    others = Counter(cell.model for cell in cells if cell.model not in names)
    assert list(others.values()) == [5] * 6
    for settings in (cell.settings for cell in cells):
        assert settings["batch_size"] * settings.get("accumulation", 1) == 32
        assert settings["max_length"] == 128
        assert "learning_rate" not in settings


def test_block_types_differ_in_one_key_alone():
    cells = study("block-type").cells
    made = [cell for cell in cells if cell.stage == "pretrain"]
    assert [cell.seed for cell in made] == [0, 1, 2] * 2
    parallel, sequential = (
        next(c.settings for c in made if c.model == name) for name in ("parallel", "sequential")
    )
    changed = {**sequential["config"], "use_parallel_residual": True}
    assert sequential["config"] != parallel["config"] == changed
    assert {**sequential, "config": changed} == parallel
    tuned = [cell for cell in cells if cell.stage == "tune"]
    seeds = {cell.id: (cell.model, cell.seed) for cell in made}
    assert all([seeds[a] for a in cell.after] == [(cell.model, cell.seed)] for cell in tuned)
    each = Counter((cell.objective, cell.condition, cell.model) for cell in tuned)
    assert set(each.values()) == {3}
    assert len(each) == 8


def test_the_pocket_study_is_of_both_real_models():
    cells = study("pocket").cells
    assert {cell.settings["source"] for cell in cells} == {"demo", "demo-encoder"}
    assert {cell.stage for cell in cells} == {"tune", "distance"}
    conditions = {cell.condition for cell in cells if cell.stage == "tune"}
    assert {"standard", "equal-step", "lora"} <= conditions


def test_the_inflection_protocol_has_four_strategies_from_each_source_model():
    cells = study("inflection").cells
    sources = {cell.id: cell for cell in cells if cell.stage == "source"}
    tuned = [cell for cell in cells if cell.stage == "tune"]
    assert (len(sources), len(tuned)) == (2 * 3, 2 * 3 * 4)
    epochs = {cell.model: cell.settings["steps"] * 16 / 800 for cell in sources.values()}
    assert epochs == {"under": 1, "over": 8}
    assert {cell.settings["data"] for cell in sources.values()} == {"demo-imdb"}
    for cell in tuned:
        start = sources[cell.settings["pretrained"]]
        assert (start.model, start.seed) == (cell.model, cell.seed)
        settings = cell.settings
        assert (settings["steps"], settings["batch_size"]) == (300, 16)
        assert settings["learning_rate"] == start.settings["learning_rate"] == 2e-5
        adapters = settings["placement"] or {}
        assert (cell.condition == "lora") == bool(adapters)
        if adapters:
            asked = placement_settings(adapters)
            assert (asked["rank"], asked["alpha"], asked["dropout"]) == (4, 16, 0.05)
            assert asked["targets"] == ["query", "key", "value"]
    told = {(cell.condition, cell.placement, cell.settings.get("top")) for cell in tuned}
    assert told == {
        ("top-m", None, 2),
        ("uniform", None, None),
        ("lora", "inflection", None),
        ("lora", "everywhere", None),
    }


def test_the_probing_study_looks_and_trains_nothing_of_its_own():
    cells = study("probing").cells
    each = Counter((cell.model, cell.stage) for cell in cells)
    both = {(model, look) for model in ("smollm2", "minilm") for look in ("probe", "erase")}
    assert each.keys() == both | {("minilm", "ladder"), ("minilm", "interventions")}
    assert set(each.values()) == {3}


@pytest.mark.real_model
@pytest.mark.parametrize("name", ["pocket", "block-type", "inflection", "probing"])
def test_nothing_in_it_is_refused(name, minilm, smollm2):
    found = study(name)
    assert check(found, found.cells) == ()
