"""What really trains: PEFT itself on a model without weights, and each trained module counted."""

import copy
import json
import re
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, replace
from typing import Any

import torch
from peft import get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.tuners.tuners_utils import BaseTunerLayer, replicate_layers
from peft.utils.other import AuxiliaryTrainingWrapper, get_pattern_key

from layerwise.errors import BadInputError, one_line
from layerwise.models.meta import meta_copy
from layerwise.models.stack import around
from layerwise.placement.check.request import Recipe, compiled

#: What starts adapters from weights or data, neither of which is there; sizes do not depend on it.
_STARTS = ("init_lora_weights", "loftq_config", "eva_config", "corda_config", "lora_ga_config")
_SECONDS = 5.0
#: PEFT's kinds of adapters by the names of their classes.
KINDS = {made.__name__: kind.value for kind, made in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
# What PEFT puts into names.
_INSIDE = re.compile(r"\.(base_layer|token_adapter|original_module|modules_to_save\.\w+)(?=\.|$)")
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
    """Return what of a copy of `model`, which has no weights, trains as `recipe` asks.

    Raises:
        BadInputError: The adapters are of a kind that sits on no module.
    """
    if recipe.lora is None:
        found, copied = Adapted(), meta_copy(model)
    else:
        found, copied = _inject(recipe.lora, model)
    if found.refused:
        return found
    for name, weight in copied.named_parameters():
        trains = weight.requires_grad if recipe.trains is None else recipe.trains
        for rule in recipe.rules:
            trains = rule.trains if rule.hits(recipe.inside + name) else trains
        weight.requires_grad_(trains)
    return replace(found, sites=tuple(_sites(copied)))


def refusal(lora: Mapping[str, Any], model: Any) -> str:
    """Return why PEFT does not adapt `model`, which is left alone; empty where it does."""
    return _inject(lora, model)[0].refused


def default(lora: Mapping[str, Any], argument: str) -> Any:
    """Return PEFT's own value of an argument."""
    if argument not in _fields(lora):
        return None
    told = _fields(lora)[argument]
    return told.default if told.default_factory is MISSING else told.default_factory()


def _fields(lora: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields of PEFT's configuration of the kind of adapters that `lora` asks for."""
    made = PEFT_TYPE_TO_CONFIG_MAPPING.get(str(lora.get("peft_type", "LORA")))
    return getattr(made, "__dataclass_fields__", {})


def _inject(lora: Mapping[str, Any], model: Any, device: str = "meta") -> tuple[Adapted, Any]:
    """Return what PEFT says and makes of the arguments `lora`, and an adapted copy of `model`."""
    kind, fields = str(lora.get("peft_type", "LORA")), _fields(lora)
    if "target_modules" not in fields:
        msg = "adapters of a kind that sits on no module"
        raise BadInputError(msg, value=kind, expected="LORA, or another with target_modules")
    if any(isinstance(module, BaseTunerLayer) for module in model.modules()):
        msg = "model that has adapters already"
        raise BadInputError(msg, value=type(model).__name__, expected="its base")
    given = {k: v for k, v in lora.items() if k in fields and k not in (*_STARTS, "peft_type")}
    given = copy.deepcopy(given)  # PEFT adds to its lists.
    dropped = tuple(k for k in lora if k not in fields and k not in ("peft_type", "auto_mapping"))
    if kind == "ADALORA":
        given.setdefault("total_step", 1_000)
    start, known = lora.get("init_lora_weights"), getattr(fields.get(_STARTS[0]), "type", "")
    if isinstance(start, str) and not re.search(rf"\W{start.partition('_niter')[0]}\W", str(known)):
        return Adapted(refused=f"Unknown initialization init_lora_weights={start!r}"), model
    given["inference_mode"] = False  # A saved adapter says true; the question is what trains.
    with warnings.catch_warnings(record=True) as caught, torch.device(device):
        warnings.simplefilter("always")
        try:
            adapted = get_peft_model(meta_copy(model), PEFT_TYPE_TO_CONFIG_MAPPING[kind](**given))
        except Exception as error:  # noqa: BLE001  # PEFT and torch raise any kind
            if device == "meta" and "meta tensor" in str(error):  # It looks at its own weights.
                return _inject(lora, model, "cpu")
            return Adapted(refused=_plain(error), dropped=dropped), model
    told = [_plain(warned.message) for warned in caught if "peft" in str(warned.filename)]
    said = tuple(dict.fromkeys(text for text in told if not _KNOWN.search(text)))
    config = adapted.peft_config["default"]
    return Adapted((), config, "", said, dropped), adapted.get_base_model()


def _plain(said: object) -> str:
    """Return what PEFT says without its last stop and a module's parts, members in one order."""
    text = re.sub(r"(?s)(?<=Target module )(\w+)\(.*\)(?= is not supported)", r"\1", str(said))
    inner = re.compile(r"\{([^{}]*)\}")
    return one_line(
        inner.sub(lambda m: ", ".join(sorted(m[1].split(", "))), text).rstrip(". "), limit=400
    )


def _sites(model: Any) -> Iterator[TrainedModule]:
    """Yield each module with weights that train, under the name that it has without adapters."""
    wrapped = BaseTunerLayer | AuxiliaryTrainingWrapper
    holders = {name: m for name, m in model.named_modules() if isinstance(m, wrapped)}
    counts = Counter[str]()
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            counts[around(name, holders) or name.rpartition(".")[0]] += weight.numel()
    for path, count in counts.items():
        holder = holders.get(path)
        plain = _INSIDE.sub("", path)
        if type(holder).__name__ == "ParamWrapper":
            plain = f"{plain}.{getattr(holder, 'parameter_name', '')}"
        ranks = getattr(holder, "r", None)
        rank = next(iter(ranks.values()), None) if isinstance(ranks, dict) else None
        how = "adapter" if isinstance(holder, BaseTunerLayer) else "whole"
        yield TrainedModule(plain, how, count, rank)


def keyed(keys: Iterable[str], names: Iterable[str]) -> dict[str, list[str]]:
    """Return the `names` that each key of a rank or alpha pattern decides on, as PEFT does."""
    known = list(keys)
    decided = [(get_pattern_key(known, name), name) for name in names]
    return {key: [name for by, name in decided if by == key] for key in known}


def replicated(model: Any, pairs: Iterable[Sequence[int]]) -> None:
    """Repeat blocks of `model` as PEFT's ``layer_replication`` does."""
    replicate_layers(model, [(first, last) for first, last in pairs])


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
