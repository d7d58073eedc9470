"""The one reader of adapters: PEFT puts them on a model, and what it read is proven."""

import copy
import inspect
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedModel

from layerwise.errors import ModelError, is_bug, one_line
from layerwise.models.adapter_files import read_weights
from layerwise.models.adapter_proof import adapted_modules, fold, layer_of, prove_on_codes
from layerwise.models.adapter_starts import put_back, refuse_unknown_start
from layerwise.models.linear import is_packed
from layerwise.models.quantisation import scales_kept
from layerwise.models.sources import Source, adapter_settings
from layerwise.seeds import derive, rng_untouched
from layerwise.shapes import Tensor

#: What every adapter is called once it is on a model.
NAME = "default"
_PREFIX = "base_model.model."
#: PEFT's kinds that are a change of the weights of modules, each tried against PEFT's own forward.
KINDS = frozenset({
    "ADALORA", "ADAMSS", "BEFT", "BOFT", "BONE", "C3A", "DEFT", "DELORA", "FOURIERFT", "FROD",
    "GLORA", "GRALORA", "HIRA", "HRA", "IA3", "LN_TUNING", "LOHA", "LOKR", "LORA", "MISS", "OFT",
    "OSF", "PEANUT", "PSOFT", "PVERA", "RANDLORA", "ROAD", "SHIRA", "SUPERTUNING", "TINYLORA",
    "TRAINABLE_TOKENS", "UNILORA", "VBLORA", "VERA", "WAVEFT",
})  # fmt: skip
# What peft, transformers and safetensors raise on an adapter that is broken or does not fit.
_UNFIT = (
    AssertionError, AttributeError, ImportError, LookupError, OSError, RuntimeError,
    SafetensorError, TypeError, ValueError, re.error,
)  # fmt: skip
# Parts that PEFT keeps in several places, of which files hold one.
_SHARED = ("vblora_vector_bank", ".tinylora_v.", ".unilora_theta_d.")


#: Groups of names of weights that are one, and whether some of them belong to one module, too.
Tied = Mapping[tuple[str, ...], bool]


@dataclass(frozen=True)
class Adapter:
    """An adapter on a model, unmerged: its modules stand where those of the model were.

    Attributes:
        source: Where its files lie.
        model: The model, the very object.
        tied: Names of weights that are one in the model itself, group by group, and whether a
            module has several of them.
        notes: What was changed, assumed or left out to put it on.
    """

    source: Source
    model: nn.Module
    tied: Tied
    notes: tuple[str, ...] = ()

    def prove(self) -> None:
        """Try each adapted module against PEFT's own forward; the model stays as it is.

        Raises:
            ModelError: One of them computes something else once it is folded in.
        """
        for name, module in adapted_modules(self.model):
            layer = layer_of(module)
            if layer is None:
                continue
            if is_packed(layer.get_base_layer()):
                prove_on_codes(layer, name=name, source=self.source.name)
            else:
                fold(copy.deepcopy(module), name=name, source=self.source.name)

    def merge(self) -> tuple[int, tuple[str, ...], list[str]]:
        """Fold the adapter into the model, whose modules are plain after, and prove each.

        Returns:
            How many modules changed, which ones the adapter brought whole, and notes.

        Raises:
            ModelError: A module computes something else than PEFT does.
        """
        changed, whole, shared = 0, [], _repeated(self.model)
        for name, module in list(adapted_modules(self.model)):
            layer = layer_of(module)
            if layer is None:
                whole.append(name)
            else:
                changed += sum(hasattr(m, "merge") for m in module.modules())
                _own(layer.get_base_layer(), shared)
            parent, _, own = name.rpartition(".")
            plain = fold(module, name=name, source=self.source.name)
            setattr(self.model.get_submodule(parent), own, plain)
        notes = _settle(self.model, self.tied, source=self.source.name)
        return changed, tuple(whole), notes


def put_on(model: Any, source: Source, *, rounded: bool = False) -> Adapter:
    """Put the adapter in `source` on `model`, whose adapted modules it replaces; nothing is copied.

    Args:
        model: Its base.
        source: Where it lies.
        rounded: Whether the base's weights are, or were, codes.

    Raises:
        ModelError: It cannot be read, is of a kind that is not a change of weights, does not fit,
            or holds weights that belong nowhere.
    """
    start = refuse_unknown_start(adapter_settings(source), source, rounded=rounded)
    config, notes = read_config(source)
    weights = _converted(read_weights(source), model)
    with fitting(source.name, str(model.name_or_path) or type(model).__name__):
        notes += _grown(model, weights, config, source)
        weights, left = _placed_parts(weights, config, model)
        notes += left
        root, weights = _rooted(model, weights, config)
        before, tied = _blocks(root), _tied(model)
        if start is not None:
            config.init_lora_weights = True
        with rng_untouched(derive(0, "adapter")), scales_kept(model):
            wrapper = PeftModel(root, config, NAME)
        _fill(wrapper, weights, source)
        if start is not None:
            notes.append(put_back(wrapper, start, source, adapter=NAME, brought=weights))
    if _blocks(root) != before:
        notes.append(f"layer_replication: {_blocks(root)} blocks run, made of {before}")
    has_biases = any(name.endswith(".bias") for name, _ in root.named_parameters())
    if has_biases and str(getattr(config, "bias", "none")) != "none":
        held = any(n.endswith(".bias") and ".lora_B" not in n for n in weights)
        lost = "the adapter trained biases that its files do not hold: its base's stay"
        notes.append("the adapter trained its base's biases too" if held else lost)
    for buffer in model.buffers():
        if not buffer.is_leaf:  # Older versions of PEFT leave a trace of where it is from.
            buffer.detach_()
    if root is not model:
        model.peft_config = wrapper.peft_config
    model.eval()
    return Adapter(source, model, tied, tuple(notes))


@contextmanager
def fitting(adapter: str, base: str) -> Iterator[None]:
    """Whatever PEFT raises on an adapter that does not fit, as one `ModelError` that names it."""
    try:
        with warnings.catch_warnings():
            # What PEFT warns of is looked at here, and is an error or a note.
            warnings.simplefilter("ignore")
            yield
    except _UNFIT as error:
        if isinstance(error, ModelError) or is_bug(error):
            raise
        why = f"{type(error).__name__}: {one_line(error, limit=160)}"
        message = f"adapter that does not fit its base model ({why})"
        raise ModelError(message, value=adapter, expected=f"an adapter for {base}") from error


def read_config(source: Source) -> tuple[Any, list[str]]:
    """Return PEFT's own reading of an adapter's settings, and a note of those that it leaves out.

    Raises:
        ModelError: They cannot be read, are of a kind that is not a change of weights, or turn
            something on that this PEFT does not know.
    """
    settings = adapter_settings(source)
    kind, known = settings.get("peft_type"), KINDS.intersection(PEFT_TYPE_TO_CONFIG_MAPPING)
    if not isinstance(kind, str) or kind not in known:
        message = f"adapter of a kind that is not read here ({one_line(kind, limit=40)})"
        expected = f"one of {', '.join(sorted(known))}"
        raise ModelError(message, value=source.name, expected=expected)
    with fitting(source.name, "its base"):
        config = PeftConfig.from_pretrained(str(source.folder))
    config.inference_mode = True
    named = {field.name for field in fields(config)} | {"runtime_config"}
    told = [n for n in sorted(set(settings) - named) if settings[n] not in (None, False, [], {})]
    on = [n for n in told if n.startswith("use_") or isinstance(settings[n], dict)]
    if on:
        message = f"adapter with settings that this version of PEFT does not know: {', '.join(on)}"
        raise ModelError(message, value=source.name, expected="a newer peft")
    note = f"settings that this PEFT does not know were left out: {', '.join(told)}"
    return config, [note] if told else []


def _converted(weights: dict[str, Tensor], model: Any) -> dict[str, Tensor]:
    """Return the weights under the names that a newer class of the same model has for its parts.

    transformers 4 keeps them on the model; transformers 5 tells PEFT.
    """
    patterns: Mapping[str, str] = getattr(model, "_checkpoint_conversion_mapping", None) or {}

    def renamed(name: str) -> str:
        plain = name.removeprefix(_PREFIX)
        for pattern, new in patterns.items():
            changed, count = re.subn(pattern, new, plain)
            if count:
                return _PREFIX + changed
        return name

    return {renamed(name): tensor for name, tensor in weights.items()}


def _grown(model: Any, weights: Mapping[str, Tensor], config: Any, source: Source) -> list[str]:
    """Give the embeddings of `model` as many rows as the adapter's own have; say so."""
    one, out = _embeddings(model)
    if one is None:
        return []
    last = {n.rpartition(".")[2] for n, module in model.named_modules() if module in (one, out)}
    ends = re.compile(r"(\.token_adapter)?(\.base_layer)?\.weight$")
    plain = {ends.sub("", n).rpartition(".")[2]: t for n, t in weights.items() if t.ndim == 2}
    rows = {len(t) for n, t in plain.items() if n in last}
    now = one.weight.shape[0]
    wanted = rows or {max([now, *(1 + i for i in _trained_tokens(config))])}
    if wanted == {now}:
        return []
    new = set(range(now, max(wanted)))
    is_whole = last <= plain.keys() or (bool(rows) and _is_tied(model))
    is_known = is_whole or (new <= set(_trained_tokens(config)) and _is_tied(model))
    if len(wanted) > 1 or not is_known:
        message = f"adapter for embeddings of {', '.join(map(str, sorted(wanted)))} tokens"
        expected = f"{now} as in its base, or all of the new ones' weights beside it"
        raise ModelError(message, value=source.name, expected=expected)
    model.resize_token_embeddings(max(wanted), mean_resizing=False)
    return [f"the adapter brings its own vocabulary: {max(wanted)} tokens, {now} in its base"]


def _trained_tokens(config: Any) -> list[int]:
    """Return the tokens whose embeddings trained one by one."""
    own = getattr(config, "trainable_token_indices", None)
    given = own or getattr(config, "token_indices", None) or []
    lists = list(given.values()) if isinstance(given, dict) else [given]
    return [int(token) for tokens in lists if isinstance(tokens, list) for token in tokens]


def _embeddings(model: Any) -> tuple[Any, Any]:
    """Return the embeddings that `model` reads and writes tokens by; None for either without."""
    try:
        found = model.get_input_embeddings(), model.get_output_embeddings()
    except NotImplementedError:
        return None, None
    return found if isinstance(getattr(found[0], "weight", None), Tensor) else (None, None)


def _is_tied(model: Any) -> bool:
    one, out = _embeddings(model)
    return out is not None and one.weight is getattr(out, "weight", None)


def _placed_parts(
    weights: dict[str, Tensor], config: Any, model: nn.Module
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the weights without those of whole modules, such as heads, that `model` lacks."""
    there = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    saved = getattr(config, "modules_to_save", None)
    names = saved if isinstance(saved, list | tuple | set) else ()
    lost = {str(name).rpartition(".")[2] for name in names} - there
    kept = {n: t for n, t in weights.items() if not lost.intersection(n.split("."))}
    gone = sorted(lost.intersection(p for n in weights if n not in kept for p in n.split(".")))
    note = f"the adapter's own {', '.join(gone)} has no place in this model and was left out"
    return kept, [note] if gone else []


def _rooted(
    model: Any, weights: dict[str, Tensor], config: Any
) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return the part of `model` that the adapter was trained on, and the weights under its names.

    That is told by the names alone: an embedder's adapter names the parts of the body, one of the
    text half of a model that reads images too, those of that half.
    """
    prefix = PEFT_TYPE_TO_PREFIX_MAPPING.get(config.peft_type, "")
    paths = {n: n.removeprefix(_PREFIX).partition(f".{prefix}")[0].split(".") for n in weights}
    total = sum(map(len, paths.values())) or 1
    best: tuple[float, nn.Module, int] = (0.5, model, 0)
    for root in (m for m in model.modules() if isinstance(m, PreTrainedModel)):
        for dropped in (0, 1):
            found = sum(_depth(root, path[dropped:]) for path in paths.values())
            if found / total > best[0]:
                best = found / total, root, dropped
    _, root, dropped = best
    if dropped:
        paths = {n: path[1:] for n, path in paths.items() if _depth(root, path[1:])}
        keys = {n: ".".join(n.removeprefix(_PREFIX).split(".")[1:]) for n in paths}
        # What is no part of it keeps its name, by which it is refused.
        weights = {f"{_PREFIX}{keys[n]}" if n in keys else n: t for n, t in weights.items()}
        if getattr(config, "target_modules", None):
            config.target_modules = {".".join(path) for path in paths.values()}
    return root, weights


def _depth(root: nn.Module, path: list[str]) -> int:
    """Return how many steps of `path` lead from `root` to a module."""
    for steps, name in enumerate(path):
        child = root._modules.get(name)
        if child is None:
            return steps
        root = child
    return len(path)


def _blocks(root: Any) -> int:
    config = root.config.get_text_config() if hasattr(root, "config") else None
    return int(getattr(config, "num_hidden_layers", 0) or 0)


def _fill(wrapper: Any, weights: Mapping[str, Tensor], source: Source) -> None:
    """Give the adapter in `wrapper` its `weights`, each of which has to have a place.

    Where LoRA's go by the names that the model has now, they are not renamed: what PEFT would have
    them be in an older file of the same model is, for some models, another of its modules.

    Raises:
        ModelError: Some are missing, or belong nowhere.
    """
    config = wrapper.peft_config[NAME]
    prefix = PEFT_TYPE_TO_PREFIX_MAPPING.get(config.peft_type, "")
    held = get_peft_model_state_dict(wrapper, adapter_name=NAME, save_embedding_layers=False)
    own = {name for name in weights if ".lora_" in name}
    own = own if config.peft_type == "LORA" and own <= held.keys() else set()
    with torch.no_grad():
        for name in sorted(own):
            if held[name].shape != weights[name].shape:
                found, wanted = (tuple(t.shape) for t in (weights[name], held[name]))
                message = f"adapter that does not fit its base model ({name} is {found})"
                raise ModelError(message, value=source.name, expected=str(wanted))
            held[name].copy_(weights[name])
    rest = {name: tensor for name, tensor in weights.items() if name not in own}
    report = set_peft_model_state_dict(wrapper, rest, adapter_name=NAME)
    missing = sorted(
        {name for name in held if ".lora_" in name} - own
        if own
        else {n for n in report.missing_keys if prefix in n and NAME in n and not _is_shared(n)}
    )
    if missing:
        message = "adapter that does not fit its base model"
        expected = f"weights for {', '.join(missing[:3])}"
        raise ModelError(message, value=source.name, expected=expected)
    # What all modules share is no part of one, and older versions of PEFT do not expect it.
    shared = f"base_model.{prefix.partition('_')[0]}_"
    unplaced = (key for key in report.unexpected_keys if not key.startswith(shared))
    plain = ((key.replace(f".{NAME}", ""), key) for key in unplaced)  # Older versions add the name.
    odd = {name if name in weights else key for name, key in plain}
    read = {name: tensor for name, tensor in weights.items() if name not in odd}
    unexpected = [key for key in odd if not _is_told_twice(key, weights.get(key), read)]
    if unexpected:
        count, first = len(unexpected), min(unexpected)
        message = f"adapter with {count} weights that belong nowhere, first {first}"
        expected = "names of modules that its base has"
        raise ModelError(message, value=source.name, expected=expected)


def _is_shared(name: str) -> bool:
    return any(part in name for part in _SHARED)


def _is_told_twice(name: str, tensor: Tensor | None, read: Mapping[str, Tensor]) -> bool:
    """Return whether `read` says what this weight does.

    PEFT writes embeddings that grew under every name that they have, and those of the base too.
    """
    if ".original_module." in name:
        return name.replace(".original_module.", ".") in read
    is_embedding = ".modules_to_save." in name or ".token_adapter." in name
    return is_embedding and any(
        tensor is not None and torch.equal(tensor, t) for t in read.values()
    )


def _tied(model: nn.Module) -> Tied:
    """Return the names of the weights that `model` has as one, group by group."""
    groups: dict[int, dict[str, int]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        module = model.get_submodule(name.rpartition(".")[0])
        groups.setdefault(id(parameter), {})[name] = id(module)
    return {
        tuple(names): len(set(names.values())) < len(names)
        for names in groups.values()
        if len(names) > 1
    }


def _repeated(model: nn.Module) -> set[int]:
    """Return the `id` of each parameter that several modules under `model` have."""
    held = Counter(id(p) for m in model.modules() for p in m._parameters.values() if p is not None)
    return {key for key, count in held.items() if count > 1}


def _own(module: nn.Module, shared: set[int]) -> None:
    """Give `module` weights of its own in place of those that are `shared`."""
    for each in module.modules():
        for name, parameter in each._parameters.items():
            if parameter is not None and id(parameter) in shared:
                each._parameters[name] = nn.Parameter(parameter.detach().clone())


def _settle(model: Any, tied: Tied, *, source: str) -> list[str]:
    """Leave nothing of PEFT on `model`: blocks of their own, the configuration true of it."""
    for each in model.modules():
        vars(each).pop("peft_config", None)
    for blocks in (m for m in model.modules() if isinstance(m, nn.ModuleList)):
        _own(blocks, _repeated(blocks))  # Replicated blocks share what no adapter changed.
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return _tie_again(model, tied, source=source)


def _tie_again(model: Any, tied: Tied, *, source: str) -> list[str]:
    """Let weights that were one be one again; where they part, the configuration says so too.

    Raises:
        ModelError: The model computes with them as one, or its class makes one module of them.
    """
    apart, part_of_one = list[str](), False
    for names, is_one_module in tied.items():
        held = [model.get_parameter(name) for name in names]
        is_one = all(torch.equal(parameter, held[0]) for parameter in held)
        apart += [] if is_one else names
        part_of_one |= is_one_module and not is_one
        for name, parameter in zip(names, held, strict=True):
            parent, _, own = name.rpartition(".")
            # They part all: half of a group would be saved as none of it.
            weight = held[0] if is_one else nn.Parameter(parameter.detach().clone())
            setattr(model.get_submodule(parent), own, weight)
    if not apart:
        return []
    if part_of_one or "config.tie_word_embeddings" in inspect.getsource(type(model).forward):
        # T5's kin scale what their head reads if it is tied: untied in name, it is another model.
        message = f"adapter that parts weights which a {type(model).__name__} computes with as one"
        raise ModelError(message, value=apart[0], expected=f"them as they are in {source}'s base")
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False
    return [f"weights that were one in its base are no more: {', '.join(apart)}"]
