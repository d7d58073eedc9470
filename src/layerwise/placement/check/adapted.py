"""What really trains: PEFT itself on a model without weights, and each trained module counted."""

import json
import re
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.tuners.tuners_utils import BaseTunerLayer, replicate_layers
from peft.utils.other import AuxiliaryTrainingWrapper, get_pattern_key

from layerwise.errors import BadInputError
from layerwise.placement.check.request import Recipe, compiled

#: What starts adapters from weights or data, neither of which is there; sizes do not depend on it.
_STARTS = ("init_lora_weights", "loftq_config", "eva_config", "corda_config", "lora_ga_config")
_SECONDS = 5.0
# What PEFT warns of that is a finding already, or needs no action.
_KNOWN = re.compile("fan_in_fan_out|pattern keys|no modules were excluded|tie_word_embeddings")
# A process of its own: a pattern that backtracks for ever can be stopped there, on any system.
_TRY = """import json, re, sys
patterns, names = json.load(sys.stdin)
for pattern in patterns:
    for name in names:
        re.fullmatch(pattern, name), re.search(pattern, name)
        re.match(rf"(.*\\.)?({pattern})$", name)
"""


@dataclass(frozen=True)
class TrainedModule:
    """A module, or a parameter of one, that trains: as an ``adapter`` or ``whole``."""

    name: str
    how: str
    parameters: int
    rank: int | None = None


@dataclass(frozen=True)
class Adapted:
    """The modules that train, and how PEFT came to them.

    Attributes:
        sites: Each trained module.
        config: PEFT's own configuration, as it stands after the model was adapted; None without.
        refused: Why PEFT does not adapt the model; empty where it does.
        said: What PEFT warned of.
        dropped: Arguments that PEFT's configuration does not have.
    """

    sites: tuple[TrainedModule, ...] = ()
    config: Any = None
    refused: str = ""
    said: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


def train(recipe: Recipe, model: Any) -> Adapted:
    """Return what of `model`, which has no weights and is changed, trains as `recipe` asks.

    Raises:
        BadInputError: The adapters are of a kind that sits on no module.
    """
    found = Adapted()
    if recipe.lora is not None:
        found, model = _inject(recipe.lora, model)
        if found.refused:
            return found
    for name, weight in model.named_parameters():
        trains = weight.requires_grad if recipe.trains is None else recipe.trains
        for rule in recipe.rules:
            trains = rule.trains if rule.hits(recipe.inside + name) else trains
        weight.requires_grad_(trains)
    return Adapted(tuple(_sites(model)), found.config, "", found.said, found.dropped)


def _inject(lora: Mapping[str, Any], model: Any) -> tuple[Adapted, Any]:
    """Return what PEFT says and makes of the arguments `lora`, and the adapted model."""
    kind = str(lora.get("peft_type", "LORA"))
    made = PEFT_TYPE_TO_CONFIG_MAPPING.get(kind)
    fields = getattr(made, "__dataclass_fields__", ())
    if "target_modules" not in fields:
        msg = "adapters of a kind that sits on no module"
        raise BadInputError(msg, value=kind, expected="LORA, or another with target_modules")
    if any(isinstance(module, BaseTunerLayer) for module in model.modules()):
        msg = "model that has adapters already"
        raise BadInputError(msg, value=type(model).__name__, expected="its base")
    given = {k: v for k, v in lora.items() if k in fields and k not in (*_STARTS, "peft_type")}
    dropped = tuple(k for k in lora if k not in fields and k not in ("peft_type", "auto_mapping"))
    if kind == "ADALORA":
        given.setdefault("total_step", 1_000)
    given["inference_mode"] = False  # A saved adapter says true; the question is what trains.
    with warnings.catch_warnings(record=True) as caught, torch.device("meta"):
        warnings.simplefilter("always")
        try:
            adapted = get_peft_model(model, made(**given))
        except (ValueError, TypeError, AttributeError, KeyError, NotImplementedError) as error:
            return Adapted(refused=_ordered(error), dropped=dropped), model
    told = [_ordered(warned.message) for warned in caught if "peft" in str(warned.filename)]
    said = tuple(dict.fromkeys(text for text in told if not _KNOWN.search(text)))
    config = adapted.peft_config["default"]
    return Adapted((), config, "", said, dropped), adapted.get_base_model()


def _ordered(said: object) -> str:
    """Return what PEFT says without its last stop, the members of a set always in one order."""
    inner = re.compile(r"\{([^{}]*)\}")
    return inner.sub(lambda m: ", ".join(sorted(m[1].split(", "))), str(said)).rstrip(". ")


def _sites(model: Any) -> Iterator[TrainedModule]:
    """Yield each module with weights that train, under the name that it has without adapters."""
    wrapped = BaseTunerLayer | AuxiliaryTrainingWrapper
    holders = {
        name: module for name, module in model.named_modules() if isinstance(module, wrapped)
    }
    counts = Counter[str]()
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            parts = name.split(".")
            around = (".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1))
            path = next((p for p in around if p in holders), ".".join(parts[:-1]))
            counts[path] += weight.numel()
    for path, count in counts.items():
        holder = holders.get(path)
        plain = path.replace(".base_layer", "").removesuffix(".token_adapter")
        if type(holder).__name__ == "ParamWrapper":
            plain = f"{plain}.{getattr(holder, 'parameter_name', '')}"
        ranks = getattr(holder, "r", None)
        rank = next(iter(ranks.values()), None) if isinstance(ranks, dict) else None
        how = "adapter" if isinstance(holder, BaseTunerLayer) else "whole"
        yield TrainedModule(plain, how, count, rank)


def keyed(keys: Iterable[str], names: Iterable[str]) -> dict[str, list[str]]:
    """Return the `names` that each key of a rank or alpha pattern decides on, as PEFT does."""
    found: dict[str, list[str]] = {key: [] for key in keys}
    for name in names:
        key = get_pattern_key(list(found), name)
        if key in found:
            found[key].append(name)
    return found


def replicated(model: Any, pairs: Sequence[Sequence[int]]) -> None:
    """Repeat blocks of `model` as PEFT's ``layer_replication`` does."""
    replicate_layers(model, [(int(first), int(last)) for first, last in pairs])


def refuse_endless(patterns: Mapping[str, str], names: Iterable[str]) -> None:
    """Pass regular expressions, by their keys, that are some and that end on these `names`.

    Raises:
        BadInputError: One is malformed, or takes too long to match.
    """
    for pattern, key in patterns.items():
        compiled(pattern, key=key)
    risky = [p for p in patterns if len(re.findall(r"[*+{]", p)) > 1]
    words, asked = [sys.executable, "-I", "-c", _TRY], json.dumps([risky, list(names)])
    try:
        if risky:
            subprocess.run(  # noqa: S603  # fixed words, no shell; patterns go in as data
                words, input=asked, text=True, check=False, capture_output=True, timeout=_SECONDS
            )
    except subprocess.TimeoutExpired as error:
        msg, value = f"pattern that takes more than {_SECONDS:g} s to match", max(risky, key=len)
        raise BadInputError(msg, value=value, expected="one without nested repeats") from error
