"""Each trainer's file: keys that it has, and what it cannot say refused with what it can."""

import json
from dataclasses import replace

import pytest
import yaml

from layerwise.card.record import StackInfo
from layerwise.errors import PlacementError, UnknownNameError
from layerwise.placement import TRAINERS
from layerwise.placement.place import place

PATTERN = r"model\.layers\.(?:1|4)\.attn\.(?:q|v)"
NAMES = [f"model.layers.{i}.attn.{t}" for i in (1, 4) for t in "qv"]
#: Whose files list the modules by their full names.
LISTING = {"trl", "axolotl", "llamafactory", "ms-swift"}
ADAPTERS = [name for name in TRAINERS if name != "freeze"]


@pytest.fixture
def export(small_card):
    """What a trainer is given for blocks 1 and 4 at rank 4."""

    def make(trainer, **options):
        card = small_card()
        return TRAINERS[trainer].export(place(card, rows="1,4", rank=4, **options), card.model)

    return make


def read(export, name):
    return yaml.safe_load(export.files[name])


def test_the_trainers():
    assert list(TRAINERS) == [
        "peft", "trl", "axolotl", "llamafactory", "ms-swift", "unsloth", "freeze",
    ]  # fmt: skip
    with pytest.raises(UnknownNameError, match=r"unknown trainer: 'axolot'.*mean 'axolotl'"):
        TRAINERS["axolot"]


@pytest.mark.parametrize("trainer", list(TRAINERS))
def test_each_file_has_its_usage_and_is_canonical(export, trainer):
    made = export(trainer)
    assert made.usage.keys() == made.files.keys()
    assert all(name in line or "TRAIN" in line for name, line in made.usage.items())
    assert made == export(trainer)
    assert "org/model" in b"".join(made.files.values()).decode() or trainer == "unsloth"


@pytest.mark.parametrize("trainer", ADAPTERS)
def test_each_hands_peft_the_rank_the_scale_and_the_modules(export, trainer):
    lora = export(trainer).lora
    assert (lora["r"], lora["lora_alpha"], lora["lora_dropout"]) == (4, 8, 0.0)
    assert lora["target_modules"] == (NAMES if trainer in LISTING else PATTERN)


def test_trl(export):
    made = export("trl")
    assert read(made, "trl.yaml") == {
        "model_name_or_path": "org/model",
        "model_revision": "abc",
        "use_peft": True,
        "lora_r": 4,
        "lora_alpha": 8,
        "lora_dropout": 0.0,
        "lora_target_modules": NAMES,
    }
    assert made.files["lora_config.json"] == export("peft").files["lora_config.json"]


def test_trl_gets_a_pattern_of_a_single_module(small_card):
    """It hands a list of one on as its member, in which PEFT would take dots for any character."""
    card = small_card(modules=[(f"model.layers.{i}.attn.q",) for i in range(12)])
    made = TRAINERS["trl"].export(place(card, rows="4"), card.model)
    pattern = r"model\.layers\.4\.attn\.q"
    assert read(made, "trl.yaml")["lora_target_modules"] == [pattern]
    assert made.lora["target_modules"] == pattern


def test_axolotl_with_ranks(export):
    assert read(export("axolotl", ranks="4=2"), "axolotl.yaml") == {
        "base_model": "org/model",
        "revision_of_model": "abc",
        "adapter": "lora",
        "lora_r": 4,
        "lora_alpha": 8,
        "lora_dropout": 0.0,
        "lora_target_modules": NAMES,
        "lora_rank_pattern": {r"^model\.layers\.4\.attn\.(?:q|v)": 2},
        "lora_alpha_pattern": {r"^model\.layers\.4\.attn\.(?:q|v)": 4},
    }
    assert "lora_rank_pattern" not in read(export("axolotl"), "axolotl.yaml")


def test_llamafactory_lists_modules_by_their_full_names(export):
    values = read(export("llamafactory"), "llamafactory.yaml")
    assert values["lora_target"].split(",") == NAMES
    assert (values["lora_rank"], values["lora_alpha"], values["finetuning_type"]) == (4, 8, "lora")
    assert "freeze_vision_tower" not in values


def test_llamafactory_keeps_a_second_stack(small_card):
    card = small_card(stacks={"vision.blocks": 2, "text.layers": 3})
    stacks = tuple(StackInfo(n, 3, "B", "sequential") for n in ("vision.blocks", "text.layers"))
    model = replace(card.model, stacks=stacks)
    made = TRAINERS["llamafactory"].export(place(card, rows="vision:1,text:2"), model)
    assert read(made, "llamafactory.yaml")["freeze_vision_tower"] is False


def test_ms_swift(export):
    values = read(export("ms-swift"), "ms-swift.yaml")
    assert values["target_modules"] == NAMES
    assert (values["model"], values["tuner_type"], values["lora_rank"]) == ("org/model", "lora", 4)


def test_unsloth_hands_everything_on_to_peft(export):
    made = export("unsloth", ranks="4=2")
    arguments = json.loads(made.files["unsloth.json"])
    assert arguments == made.lora
    assert arguments["exclude_modules"] == rf"(?!{PATTERN}\Z).*"
    assert arguments["rank_pattern"] == {r"^model\.layers\.4\.attn\.(?:q|v)": 2}
    assert arguments["target_parameters"] == []


@pytest.mark.parametrize(
    ("trainer", "named"),
    [("trl", "TRL's command line"), ("llamafactory", "LLaMA-Factory"), ("ms-swift", "ms-swift")],
)
def test_ranks_that_a_trainer_cannot_say_are_refused(export, trainer, named):
    line = f"^ranks that differ between modules, for {named}: '2, 4'; expected one rank; try: one"
    with pytest.raises(PlacementError, match=f"{line} --rank 4, or --for peft, axolotl or unsloth"):
        export(trainer, ranks="4=2")


@pytest.mark.parametrize("trainer", ADAPTERS)
def test_no_module_is_refused(small_card, trainer):
    card = small_card()
    bare = replace(place(card, rows="1"), modules=())
    with pytest.raises(PlacementError, match=r"^no module to adapt; expected at least one module"):
        TRAINERS[trainer].export(bare, card.model)


def test_the_order_of_blocks_does_not_change_a_file(small_card, export):
    placement = place(small_card(), rows="1,4", rank=4)
    assert placement.to_json() == place(small_card(), rows=[4, 1], rank=4).to_json()
    plain = json.loads(placement.to_json())
    assert plain["schema"] == "layerwise/placement/1"
    assert plain["blocks"][0] == {"stack": "model.layers", "index": 1}
    assert set(plain["cost"]) == {"step_ratio", "backward_ratio", "activation_ratio"}
    assert json.loads(export("peft").files["lora_config.json"])["r"] == 4
