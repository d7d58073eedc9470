"""Lists of weights to train: these blocks' and no others, for each trainer that can."""

import json
import re

import pytest
import yaml

from layerwise.placement import TRAINERS
from layerwise.placement.place import place

FACTORY = "freeze-llamafactory.yaml"


@pytest.fixture
def frozen(small_card):
    def make(rows, **columns):
        card = small_card(**columns)
        return TRAINERS["freeze"].export(place(card, rows=rows), card.model)

    return make


def test_a_pattern_of_whole_blocks(frozen):
    made = frozen("1,10")
    plain = json.loads(made.files["freeze.json"])
    assert plain["train"] == r"^model\.layers\.(?:1|10)\."
    assert plain["blocks"] == ["model.layers.1", "model.layers.10"]
    for name in ("model.layers.11.q", "x.model.layers.1.q", "modelxlayers.1.q", "model.layers.1"):
        assert not re.search(plain["train"], name)


def test_axolotl_escapes_dots_itself(frozen):
    (pattern,) = yaml.safe_load(frozen("1,10").files["freeze-axolotl.yaml"])["unfrozen_parameters"]
    assert pattern == "^model.layers.(?:1|10)."


def test_ms_swift_freezes_everything_first(frozen):
    values = yaml.safe_load(frozen("1,10").files["freeze-ms-swift.yaml"])
    assert values["freeze_parameters_ratio"] == 1.0
    assert values["tuner_type"] == "full"
    assert values["trainable_parameters_regex"] == r"^model\.layers\.(?:1|10)\."


@pytest.mark.parametrize(
    ("rows", "count"), [("10,11", 2), ("0,1,2", -3), ("11", 1), ("0,1,2,3,4,5,6,7,8,9,10,11", 12)]
)
def test_llamafactory_takes_blocks_at_an_end(frozen, rows, count):
    made = frozen(rows)
    assert yaml.safe_load(made.files[FACTORY])["freeze_trainable_layers"] == count
    assert made.notes == ()


@pytest.mark.parametrize("rows", ["1,10", "9,10", "1,2"])
def test_what_llamafactory_cannot_train_is_said_with_the_nearest(frozen, rows):
    made = frozen(rows)
    assert FACTORY not in made.files.keys() | made.usage.keys() | made.trained.keys()
    assert re.fullmatch(
        f"no {FACTORY}: LLaMA-Factory trains whole blocks only at the start or the end of an only "
        "stack; nearest: --policy last -k [0-9]+ or --policy first -k [0-9]+",
        *made.notes,
    )


def test_llamafactory_is_not_asked_about_two_stacks(frozen):
    made = frozen("encoder:0", stacks={"encoder.block": 2, "decoder.block": 2})
    assert FACTORY not in made.files
