"""How each trainer is told that a base is quantised; data only.

A base that is saved quantised says so itself, in its ``config.json``: trainers that go by that are
told nothing. What a trainer has no word for is a note.

Source: the trainers' own schemas and examples, read 2026-11-30: TRL's `ModelConfig`, Axolotl's
`utils/schemas/peft.py`, LLaMA-Factory's `examples/train_qlora`, ms-swift's `QuantizeArguments`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from layerwise.card.record import ModelInfo, QuantisationInfo

Words = Mapping[str, Any]

_FOUR = 'load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True'


def _by_bits(found: QuantisationInfo) -> dict[str, Any]:
    return {f"load_in_{found.bits}bit": True}


def _trl(found: QuantisationInfo) -> Words | None:
    if found.method != "bitsandbytes":
        return None
    four = {"bnb_4bit_quant_type": found.kind, "use_bnb_nested_quant": True}
    return _by_bits(found) | (four if found.bits == 4 else {})


def _axolotl(found: QuantisationInfo) -> Words | None:
    if found.method == "bitsandbytes":
        return _by_bits(found) | {"adapter": "qlora" if found.bits == 4 else "lora"}
    if found.method == "gptq":
        return {"gptq": True}
    if found.method == "torchao" and found.bits == 8:
        return {"peft": {"backend": "torchao", "weight_dtype": "int8"}}
    return None


def _llamafactory(found: QuantisationInfo) -> Words | None:
    methods = {"bitsandbytes": "bnb", "hqq": "hqq", "eetq": "eetq"}
    if found.method not in methods:
        return None
    return {"quantization_bit": found.bits, "quantization_method": methods[found.method]}


def _ms_swift(found: QuantisationInfo) -> Words | None:
    methods = {"bitsandbytes": "bnb", "hqq": "hqq", "eetq": "eetq", "quanto": "quanto"}
    if found.method not in methods:
        return None
    words = {"quant_method": methods[found.method], "quant_bits": found.bits}
    four = {"bnb_4bit_quant_type": found.kind, "bnb_4bit_use_double_quant": True}
    return words | (four if words == {"quant_method": "bnb", "quant_bits": 4} else {})


#: What a trainer is told; and whether it is told so of a base that is saved quantised, too.
_TRAINERS: Mapping[str, tuple[Callable[[QuantisationInfo], Words | None], bool]] = {
    "trl": (_trl, False),
    "axolotl": (_axolotl, True),
    "llamafactory": (_llamafactory, False),
    "ms-swift": (_ms_swift, False),
}


def words_for(trainer: str, model: ModelInfo) -> tuple[Words, tuple[str, ...]]:
    """Return the keys by which `trainer` loads the base as the card had it, and notes."""
    found = model.quantisation
    if found is None:
        return {}, ()
    words, even_saved = _TRAINERS[trainer]
    said = words(found)
    if found.saved and (said is None or not even_saved):
        return {}, (
            f"the base is saved in {found.kind}; {trainer} reads that from its config.json",
        )
    if said is None:
        return {}, (f"{trainer} has no word for a base in {found.kind}: it would load it plain",)
    return said, ()


def loaded_in_python(model: ModelInfo) -> str:
    """Return what gives `from_pretrained` the base as the card had it; empty for a plain one."""
    found = model.quantisation
    if found is None or found.saved:
        return ""
    if found.method != "bitsandbytes":
        return f"quantised by {found.method} to {found.bits} bits"
    how = _FOUR if found.bits == 4 else "load_in_8bit=True"
    return f"quantization_config=BitsAndBytesConfig({how})"
