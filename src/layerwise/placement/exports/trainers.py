"""A placement in the configurations of trainers; data only, none of them is imported.

Each writes the keys that the trainer's own configuration has, and the arguments that the trainer
then hands to PEFT's `LoraConfig`, which are what is verified. Most have no word for modules to
leave out, so theirs are listed by their full names: in models with fused experts PEFT takes a
pattern apart, but keeps names. Some have none for a rank a module.
"""

from collections.abc import Callable

from layerwise.card.record import ModelInfo
from layerwise.errors import PlacementError
from layerwise.files import canonical_json
from layerwise.placement.exports.freeze import FACTORY_SETTINGS, freeze
from layerwise.placement.exports.lora import (
    alpha_pattern,
    lora_arguments,
    peft_config,
    rank_pattern,
)
from layerwise.placement.exports.patterns import target_regex
from layerwise.placement.exports.record import Export, yaml_lines
from layerwise.placement.record import Placement
from layerwise.registry import Registry

__all__ = ["TRAINERS", "placement_files"]

Exporter = Callable[[Placement, ModelInfo], Export]

#: Whose configuration a placement can be written in.
TRAINERS = Registry[Exporter]("trainer")

_PYTHON = 'LoraConfig(**json.load(open("lora_config.json")))'
_UNSLOTH = 'FastLanguageModel.get_peft_model(model, **json.load(open("unsloth.json")))'
_ABOUT = "Adapters on some blocks, by layerwise place."


def placement_files(placement: Placement, export: Export | None = None) -> dict[str, bytes]:
    """``placement.json`` and the files of `export` (PEFT's where None) as bytes, by name.

    The same placement is the same bytes.

    Raises:
        PlacementError: The placement has no module.
    """
    files = _peft_files(placement) if export is None else export.files
    return {**files, "placement.json": placement.to_json()}


def _peft_files(placement: Placement) -> dict[str, bytes]:
    return {"lora_config.json": canonical_json(peft_config(placement))}


@TRAINERS.register("peft")
def _peft(placement: Placement, _model: ModelInfo) -> Export:
    """PEFT itself, and whatever takes its `LoraConfig`."""
    return Export(
        files=_peft_files(placement),
        lora=lora_arguments(placement),
        usage={"lora_config.json": _PYTHON},
    )


@TRAINERS.register("trl")
def _trl(placement: Placement, _model: ModelInfo) -> Export:
    """TRL: a file for its command line, and PEFT's arguments for its trainers in Python."""
    _refuse_ranks(placement, "TRL's command line")
    names = _listed(placement)
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
    return Export(
        files={"trl.yaml": yaml_lines(values, about=_ABOUT), **_peft_files(placement)},
        lora=_plain(placement, targets if len(names) > 1 else targets[0]),
        usage={
            "trl.yaml": "trl sft --config trl.yaml --dataset_name DATA",
            "lora_config.json": f"SFTTrainer(..., peft_config={_PYTHON})",
        },
    )


@TRAINERS.register("axolotl")
def _axolotl(placement: Placement, _model: ModelInfo) -> Export:
    """Axolotl: lines of its configuration, the modules by their full names."""
    patterns = {"rank_pattern": rank_pattern(placement), "alpha_pattern": alpha_pattern(placement)}
    values = {
        "base_model": placement.model,
        "revision_of_model": placement.revision,
        "adapter": "lora",
        "lora_r": placement.rank,
        "lora_alpha": placement.alpha,
        "lora_dropout": placement.dropout,
        "lora_target_modules": _listed(placement),
        **{f"lora_{name}": pattern or None for name, pattern in patterns.items()},
    }
    return Export(
        files={"axolotl.yaml": yaml_lines(values, about=_ABOUT)},
        lora=_plain(placement, _listed(placement)) | patterns,
        usage={"axolotl.yaml": "axolotl train axolotl.yaml, with your data and settings added"},
    )


@TRAINERS.register("llamafactory")
def _llamafactory(placement: Placement, model: ModelInfo) -> Export:
    """LLaMA-Factory: it splits a string at commas, so modules are listed by their full names."""
    _refuse_ranks(placement, "LLaMA-Factory")
    values = {
        "model_name_or_path": placement.model,
        "model_revision": placement.revision,
        "finetuning_type": "lora",
        "lora_rank": placement.rank,
        "lora_alpha": placement.alpha,
        "lora_dropout": placement.dropout,
        "lora_target": ",".join(_listed(placement)),
        # Otherwise it leaves out the modules of a vision tower without a word.
        "freeze_vision_tower": False if len(model.stacks) > 1 else None,
    }
    return Export(
        files={"llamafactory.yaml": yaml_lines(values, about=_ABOUT)},
        lora=_plain(placement, _listed(placement)),
        usage={"llamafactory.yaml": f"llamafactory-cli train llamafactory.yaml {FACTORY_SETTINGS}"},
    )


@TRAINERS.register("ms-swift")
def _ms_swift(placement: Placement, _model: ModelInfo) -> Export:
    """ms-swift: what its file lists as `target_modules` is handed on to PEFT."""
    _refuse_ranks(placement, "ms-swift")
    values = {
        "model": placement.model,
        "model_revision": placement.revision,
        "tuner_type": "lora",
        "target_modules": _listed(placement),
        "lora_rank": placement.rank,
        "lora_alpha": placement.alpha,
        "lora_dropout": placement.dropout,
    }
    return Export(
        files={"ms-swift.yaml": yaml_lines(values, about=_ABOUT)},
        lora=_plain(placement, _listed(placement)),
        usage={"ms-swift.yaml": "swift sft ms-swift.yaml --dataset DATA"},
    )


@TRAINERS.register("unsloth")
def _unsloth(placement: Placement, _model: ModelInfo) -> Export:
    """Unsloth: keyword arguments of `get_peft_model`; what it does not name goes on to PEFT."""
    # Without the empty list it may adapt the experts of a mixture too.
    arguments = {**lora_arguments(placement), "bias": "none", "target_parameters": []}
    return Export(
        files={"unsloth.json": canonical_json(arguments)},
        lora=arguments,
        usage={"unsloth.json": _UNSLOTH},
    )


def _listed(placement: Placement) -> list[str]:
    """The modules by their full names."""
    return list(placement.modules)


def _plain(placement: Placement, targets: str | list[str]) -> dict[str, object]:
    """What a trainer hands to PEFT that knows one rank, and of modules only which to adapt.

    Raises:
        PlacementError: The placement has no module.
    """
    known = ("r", "lora_alpha", "lora_dropout")
    arguments = lora_arguments(placement)
    return {**{name: arguments[name] for name in known}, "target_modules": targets}


def _refuse_ranks(placement: Placement, trainer: str) -> None:
    if rank_pattern(placement):
        msg = f"ranks that differ between modules, for {trainer}"
        shown = ", ".join(map(str, sorted({placement.rank_of(m) for m in placement.modules})))
        hint = f"one --rank {placement.rank}, or --for peft, axolotl or unsloth"
        raise PlacementError(msg, value=shown, expected="one rank", hint=hint)


TRAINERS.add(freeze, name="freeze")
