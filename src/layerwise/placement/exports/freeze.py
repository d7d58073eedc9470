r"""A placement's blocks as lists of weights to train whole, with all others frozen.

Axolotl escapes each dot of a pattern by itself, so that one that is escaped already would match
nothing; ms-swift searches for its pattern anywhere in a name; LLaMA-Factory knows only how many
blocks at the start or the end to train, and finds them by ``.INDEX.`` anywhere in a name.
"""

from typing import Any

from layerwise.card.record import ModelInfo
from layerwise.errors import PlacementError
from layerwise.files import canonical_json
from layerwise.placement.exports.lora import target_regex
from layerwise.placement.exports.record import FACTORY_SETTINGS, Export, yaml_lines
from layerwise.placement.record import Placement

_FACTORY = "freeze-llamafactory.yaml"
_ABOUT = "Some blocks trained whole, by layerwise place."
_USAGE = {
    "freeze.json": "for name, weight in model.named_parameters(): "
    "weight.requires_grad_(re.search(TRAIN, name) is not None), TRAIN being its pattern",
    "freeze-axolotl.yaml": "axolotl train freeze-axolotl.yaml, with your data and settings added",
    "freeze-ms-swift.yaml": "swift sft freeze-ms-swift.yaml --dataset DATA",
    _FACTORY: f"llamafactory-cli train {_FACTORY} {FACTORY_SETTINGS}",
}


def export(placement: Placement, model: ModelInfo) -> Export:
    """Return what to train, for one's own loop, Axolotl, ms-swift and perhaps LLaMA-Factory.

    Raises:
        PlacementError: The placement has no block, or the base is quantised.
    """
    if model.quantisation is not None:
        kind = model.quantisation.kind
        msg = f"blocks trained whole, of a base in {kind}, whose weights are codes"
        raise PlacementError(msg, expected="LoRA", hint="another --for, such as peft")
    blocks = [f"{block.stack}.{block.index}" for block in placement.blocks]
    pattern = rf"^{target_regex(blocks)}\."
    count = _at_an_end(placement, model)
    named = {"model": placement.model, "train": pattern, "blocks": blocks}
    settings = _settings(placement, pattern=pattern, count=count)
    files = {
        "freeze.json": canonical_json(named),
        **{name: yaml_lines(values, about=_ABOUT) for name, values in settings.items()},
    }
    indices = "|".join(str(block.index) for block in placement.blocks)
    trained = {**dict.fromkeys(files, pattern), _FACTORY: rf"\.(?:{indices})\."}
    whole = Export(files, {}, _USAGE, trained)
    if count is not None:
        return whole
    can = "LLaMA-Factory trains whole blocks only at the start or the end of an only stack"
    nearest = f"nearest: --policy last -k {len(blocks)} or --policy first -k {len(blocks)}"
    return whole.without(_FACTORY, why=f"{can}; {nearest}")


def _settings(placement: Placement, *, pattern: str, count: int | None) -> dict[str, Any]:
    """Return what each trainer is told, by its file; `pattern` finds the weights to train."""
    return {
        "freeze-axolotl.yaml": {
            "base_model": placement.model,
            "revision_of_model": placement.revision,
            "unfrozen_parameters": [pattern.replace(r"\.", ".")],
        },
        "freeze-ms-swift.yaml": {
            "model": placement.model,
            "model_revision": placement.revision,
            "tuner_type": "full",
            "freeze_parameters_ratio": 1.0,
            "trainable_parameters_regex": pattern,
        },
        _FACTORY: {
            "model_name_or_path": placement.model,
            "model_revision": placement.revision,
            "finetuning_type": "freeze",
            "freeze_trainable_layers": count,
        },
    }


def _at_an_end(placement: Placement, model: ModelInfo) -> int | None:
    """Return how many blocks at the end (below 0: the start) of an only stack these are, if any."""
    indices = sorted(block.index for block in placement.blocks)
    depth = model.stacks[0].blocks
    if len(model.stacks) > 1:
        return None
    if indices == list(range(depth - len(indices), depth)):
        return len(indices)
    return -len(indices) if indices == list(range(len(indices))) else None
