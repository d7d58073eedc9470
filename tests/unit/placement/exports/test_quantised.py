"""Exports name the base's quantisation in the words of each trainer."""

import json
from dataclasses import replace

import pytest
import yaml

from layerwise.card.record import QuantisationInfo
from layerwise.errors import PlacementError
from layerwise.placement import TRAINERS
from support.versions import since

NF4 = QuantisationInfo("bitsandbytes", "nf4", 4, saved=False)
INT8 = QuantisationInfo("bitsandbytes", "int8", 8, saved=False)
HQQ = QuantisationInfo("hqq", "hqq 4 bits", 4, saved=False)
AO = QuantisationInfo("torchao", "torchao 8 bits", 8, saved=False)
GPTQ = QuantisationInfo("gptq", "gptq 4 bits", 4, saved=True)


@pytest.fixture
def exported(planted_card, planted_placement):
    card = planted_card()

    def made(trainer, found):
        model = replace(card.model, quantisation=found)
        return TRAINERS[trainer].export(planted_placement(card, (1, 3)), model)

    return made


def config(export):
    (content,) = (c for name, c in export.files.items() if name.endswith(".yaml"))
    return yaml.safe_load(content)


@pytest.mark.parametrize(
    ("trainer", "found", "keys"),
    [
        ("axolotl", NF4, {"adapter": "qlora", "load_in_4bit": True}),
        ("axolotl", INT8, {"adapter": "lora", "load_in_8bit": True}),
        ("axolotl", GPTQ, {"adapter": "lora", "gptq": True}),
        ("axolotl", AO, {"peft": {"backend": "torchao", "weight_dtype": "int8"}}),
        ("llamafactory", NF4, {"quantization_bit": 4, "quantization_method": "bnb"}),
        ("llamafactory", HQQ, {"quantization_bit": 4, "quantization_method": "hqq"}),
        ("ms-swift", NF4, {"quant_method": "bnb", "quant_bits": 4, "bnb_4bit_quant_type": "nf4"}),
        ("ms-swift", INT8, {"quant_method": "bnb", "quant_bits": 8}),
        ("trl", NF4, {"load_in_4bit": True, "use_bnb_nested_quant": True}),
        ("trl", INT8, {"load_in_8bit": True}),
    ],
)
def test_the_trainer_s_own_keys(exported, trainer, found, keys):
    plain = config(exported(trainer, None))
    told = config(exported(trainer, found))
    assert told == {**plain, **told}
    assert told.items() >= keys.items()
    assert not {*keys} - {"adapter"} & plain.keys()


@since("5", "transformers 4 asks for bitsandbytes to name it")
def test_trl_takes_its_keys(exported):
    from trl import ModelConfig, get_quantization_config

    told = config(exported("trl", NF4))
    known = {k: v for k, v in told.items() if k in ModelConfig.__dataclass_fields__}
    made = get_quantization_config(ModelConfig(**known))
    assert (made.load_in_4bit, made.bnb_4bit_quant_type) == (True, "nf4")
    assert made.bnb_4bit_use_double_quant


def test_unsloth_is_told_in_python(exported):
    assert "load_in_4bit=True" in exported("unsloth", NF4).usage["unsloth.json"]
    assert "load_in_4bit=False" in exported("unsloth", None).usage["unsloth.json"]
    assert "load_in_8bit=True" in exported("unsloth", INT8).usage["unsloth.json"]


def test_peft_is_told_how_the_base_was_loaded(exported):
    (note,) = exported("peft", NF4).notes
    assert 'BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"' in note
    assert exported("peft", None).notes == exported("peft", GPTQ).notes == ()


def test_what_a_trainer_reads_itself_or_has_no_word_for_is_a_note(exported):
    (note,) = exported("ms-swift", GPTQ).notes
    assert note == "the base is saved in gptq 4 bits; ms-swift reads that from its config.json"
    assert "quant_bits" not in config(exported("ms-swift", GPTQ))
    (note,) = exported("trl", HQQ).notes
    assert note == "trl has no word for a base in hqq 4 bits: it would load it plain"


def test_codes_are_not_trained_whole(exported):
    with pytest.raises(PlacementError, match=r"trained whole, of a base in nf4.*expected LoRA"):
        exported("freeze", NF4)


def test_the_card_keeps_it(planted_card, tmp_path):
    from layerwise.card.record import LayerCard
    from layerwise.records import to_plain

    card = planted_card()
    card = replace(card, model=replace(card.model, quantisation=NF4))
    card.save(tmp_path)
    assert LayerCard.load(tmp_path).model.quantisation == NF4
    plain = json.loads((tmp_path / "card.json").read_text())["model"]["quantisation"]
    assert plain == {"method": "bitsandbytes", "kind": "nf4", "bits": 4, "saved": False}
    assert "quantisation" not in to_plain(planted_card().model)
