"""A placement in the words of each trainer of adapters; a function a trainer, data only."""

from collections.abc import Mapping
from typing import Any

from layerwise.card.record import ModelInfo
from layerwise.files import canonical_json
from layerwise.placement.exports.lora import (
    alpha_pattern,
    lora_arguments,
    lora_config_file,
    named_arguments,
    rank_pattern,
    refuse_ranks,
    target_regex,
)
from layerwise.placement.exports.quantised import loaded_in_python, words_for
from layerwise.placement.exports.record import FACTORY_SETTINGS, Export, yaml_lines
from layerwise.placement.record import Placement

#: How the file of PEFT's arguments is read in Python.
_LOAD = 'LoraConfig(**json.load(open("lora_config.json")))'


def _yaml(values: Mapping[str, Any]) -> bytes:
    return yaml_lines(values, about="Adapters on some blocks, by layerwise place.")


def peft(placement: Placement, model: ModelInfo) -> Export:
    """PEFT itself, and whatever takes its `LoraConfig`."""
    usage = {"lora_config.json": _LOAD}
    base = loaded_in_python(model)
    notes = (f"load the base as the card had it: {base}",) if base else ()
    return Export(lora_config_file(placement), lora_arguments(placement), usage, notes=notes)


def trl(placement: Placement, model: ModelInfo) -> Export:
    """TRL: a file for its command line, and PEFT's arguments for its trainers in Python."""
    refuse_ranks(placement, "TRL's command line")
    names = list(placement.modules)
    # It hands a list of one on as its member, which PEFT takes as a pattern.
    targets = names if len(names) > 1 else [target_regex(names)]
    values = {
        "model_name_or_path": placement.model,
        "model_revision": placement.revision,
        "use_peft": True,
        "lora_r": placement.rank,
        "lora_alpha": placement.alpha,
        "lora_dropout": placement.dropout,
        "lora_target_modules": targets,
    }
    base, notes = words_for("trl", model)
    usage = {
        "trl.yaml": "trl sft --config trl.yaml --dataset_name DATA",
        "lora_config.json": f"SFTTrainer(..., peft_config={_LOAD})",
    }
    lora = named_arguments(placement, targets if len(names) > 1 else targets[0])
    files = {"trl.yaml": _yaml({**values, **base}), **lora_config_file(placement)}
    return Export(files, lora, usage, notes=notes)


def axolotl(placement: Placement, model: ModelInfo) -> Export:
    """Axolotl: lines of its configuration, the modules by their full names."""
    patterns = {"rank_pattern": rank_pattern(placement), "alpha_pattern": alpha_pattern(placement)}
    values = {
        "base_model": placement.model,
        "revision_of_model": placement.revision,
        "adapter": "lora",
        "lora_r": placement.rank,
        "lora_alpha": placement.alpha,
        "lora_dropout": placement.dropout,
        "lora_target_modules": list(placement.modules),
        **{f"lora_{name}": pattern or None for name, pattern in patterns.items()},
    }
    base, notes = words_for("axolotl", model)
    usage = {"axolotl.yaml": "axolotl train axolotl.yaml, with your data and settings added"}
    files = {"axolotl.yaml": _yaml({**values, **base})}
    return Export(files, named_arguments(placement) | patterns, usage, notes=notes)


def llamafactory(placement: Placement, model: ModelInfo) -> Export:
    """LLaMA-Factory: it splits a string at commas, so modules are listed by their full names."""
    refuse_ranks(placement, "LLaMA-Factory")
    values = {
        "model_name_or_path": placement.model,
        "model_revision": placement.revision,
        "finetuning_type": "lora",
        "lora_rank": placement.rank,
        "lora_alpha": placement.alpha,
        "lora_dropout": placement.dropout,
        "lora_target": ",".join(placement.modules),
        # Otherwise it leaves out the modules of a vision tower without a word.
        "freeze_vision_tower": False if len(model.stacks) > 1 else None,
    }
    base, notes = words_for("llamafactory", model)
    usage = {"llamafactory.yaml": f"llamafactory-cli train llamafactory.yaml {FACTORY_SETTINGS}"}
    files = {"llamafactory.yaml": _yaml({**values, **base})}
    return Export(files, named_arguments(placement), usage, notes=notes)


def ms_swift(placement: Placement, model: ModelInfo) -> Export:
    """ms-swift: what its file lists as `target_modules` is handed on to PEFT."""
    refuse_ranks(placement, "ms-swift")
    values = {
        "model": placement.model,
        "model_revision": placement.revision,
        "tuner_type": "lora",
        "target_modules": list(placement.modules),
        "lora_rank": placement.rank,
        "lora_alpha": placement.alpha,
        "lora_dropout": placement.dropout,
    }
    base, notes = words_for("ms-swift", model)
    usage = {"ms-swift.yaml": "swift sft ms-swift.yaml --dataset DATA"}
    files = {"ms-swift.yaml": _yaml({**values, **base})}
    return Export(files, named_arguments(placement), usage, notes=notes)


def unsloth(placement: Placement, model: ModelInfo) -> Export:
    """Unsloth: keyword arguments of `get_peft_model`; what it does not name goes on to PEFT."""
    # Without the empty list it may adapt the experts of a mixture too.
    arguments = {**lora_arguments(placement), "bias": "none", "target_parameters": []}
    adapt = 'model = FastLanguageModel.get_peft_model(model, **json.load(open("unsloth.json")))'
    found = model.quantisation  # It loads in 4 bits unless it is told otherwise.
    bits = found.bits if found is not None and found.method == "bitsandbytes" else 0
    how = f"load_in_4bit={bits == 4}" + (", load_in_8bit=True" if bits == 8 else "")
    load = f"model, tokenizer = FastLanguageModel.from_pretrained({placement.model!r}, {how})"
    files = {"unsloth.json": canonical_json(arguments)}
    return Export(files, arguments, {"unsloth.json": f"{load}; {adapt}"})
