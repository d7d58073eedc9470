"""How each trainer is told that a base is quantised; data only.

A base that is saved quantised says so itself, in its ``config.json``: trainers that go by that are
told nothing. What a trainer has no word for is a note.

Source: the trainers' own schemas and examples, read 2026-11-30: TRL's `ModelConfig`, Axolotl's
`utils/schemas/peft.py`, LLaMA-Factory's `examples/train_qlora`, ms-swift's `QuantizeArguments`.
"""

from collections.abc import Mapping
from typing import Any

from layerwise.card.record import ModelInfo, QuantisationInfo

Words = Mapping[str, Any]

# What LLaMA-Factory and ms-swift call the methods that they load by.
_FACTORY = {"bitsandbytes": "bnb", "hqq": "hqq", "eetq": "eetq"}
_SWIFT = {**_FACTORY, "quanto": "quanto"}


def _words(trainer: str, found: QuantisationInfo) -> Words | None:
    """Return what `trainer` is told of a base that is quantised so; None where it has no word."""
    by_bits = {f"load_in_{found.bits}bit": True}
    is_nf4 = found.method == "bitsandbytes" and found.bits == 4
    words: Words | None = None
    match trainer, found.method:
        case "trl", "bitsandbytes":
            four = {"bnb_4bit_quant_type": found.kind, "use_bnb_nested_quant": True}
            words = by_bits | (four if is_nf4 else {})
        case "axolotl", "bitsandbytes":
            words = by_bits | {"adapter": "qlora" if is_nf4 else "lora"}
        case "axolotl", "gptq":
            words = {"gptq": True}
        case "axolotl", "torchao" if found.bits == 8:
            words = {"peft": {"backend": "torchao", "weight_dtype": "int8"}}
        case "llamafactory", method if method in _FACTORY:
            words = {"quantization_bit": found.bits, "quantization_method": _FACTORY[method]}
        case "ms-swift", method if method in _SWIFT:
            four = {"bnb_4bit_quant_type": found.kind, "bnb_4bit_use_double_quant": True}
            by_method = {"quant_method": _SWIFT[method], "quant_bits": found.bits}
            words = by_method | (four if is_nf4 else {})
    return words


def words_for(trainer: str, model: ModelInfo) -> tuple[Words, tuple[str, ...]]:
    """Return the keys by which `trainer` loads the base as the card had it, and notes."""
    found = model.quantisation
    if found is None:
        return {}, ()
    said = _words(trainer, found)
    if found.saved and (said is None or trainer != "axolotl"):  # That one asks all the same.
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
    four = 'load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True'
    how = four if found.bits == 4 else "load_in_8bit=True"
    return f"quantization_config=BitsAndBytesConfig({how})"
