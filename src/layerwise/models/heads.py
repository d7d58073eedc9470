"""Which head a model is read with: the one whose weights are there, or one for given classes."""

import copy
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMaskedLM,
    AutoModelForNextSentencePrediction,
    AutoModelForPreTraining,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTextEncoding,
)

from layerwise.compat.transformers import dequantized
from layerwise.errors import BadInputError, ModelError
from layerwise.models.adapter_files import head_classes
from layerwise.models.head_kind import (
    ModelKind,
    is_next_sentence,
    is_vision_text,
    kind_of,
    model_kind,
)
from layerwise.models.linear import widths
from layerwise.models.quantisation import (
    loading_options,
    quantisation_note,
    refuse_plain_files,
    saved_method,
)
from layerwise.models.reading import REMOTE, LoadOptions
from layerwise.models.sources import Source, adapter_base, json_object
from layerwise.seeds import derive, rng_untouched

_NO_SDPA = "scaled_dot_product_attention"
_UNNAMED = "LABEL_"
"""How transformers calls classes that nobody named, followed by their number."""


class HeadNote(str):
    """A note of the head of a model, which no longer holds where an adapter brings its own."""

    __slots__ = ()


def class_ids(model: Any) -> dict[str, int]:
    """Get the number of each class by its name, of a model that tells classes apart; else empty."""
    if model_kind(model) != "classifier":
        return {}
    return {str(name): int(i) for i, name in model.config.id2label.items()}


def head_modules(model: Any) -> tuple[str, ...]:
    """Return the modules that make classes of the states of the last block; empty without classes.

    A pooler is one of them, the final norm is not.
    """
    if model_kind(model) != "classifier":
        return ()
    body = model.base_model_prefix
    pooler = getattr(getattr(model, body, None), "pooler", None)
    beside = (n for n, module in model.named_children() if n != body and _has_weights(module))
    return (*([f"{body}.pooler"] if _has_weights(pooler) else ()), *beside)


def _has_weights(module: Any) -> bool:
    return isinstance(module, nn.Module) and any(True for _ in module.parameters())


def adapter_classes(
    source: Source, asked: Sequence[str] | None = None
) -> tuple[tuple[str, ...] | None, str]:
    """Return the classes that an adapter's base needs a head for, and what was assumed for that.

    None for its own head. An adapter that was trained together with a head is for that head's
    classes, in their order. Their names are in the ``config.json`` beside it, or its base's;
    without any, they are numbers.

    Raises:
        BadInputError: Others are `asked` for: the head that it brings is not for them.
    """
    count = head_classes(source)
    if count == 1 and asked is not None and len(asked) > 1:
        message, hint = "adapter with a head for a score: labels that are classes", "--label-column"
        raise BadInputError(message, value=", ".join(asked), expected="numbers", hint=hint)
    if count < 2:
        return None if asked is None else tuple(asked), ""
    base, numbers = adapter_base(source), tuple(map(str, range(count)))
    folders = [source.folder, *([] if base is None else [Path(base).expanduser()])]
    named = (n for n in map(_names_in, folders) if len(n) == count and n != numbers)
    had = next(named, numbers)
    if asked is None:  # A head of classes that nobody named is left out, and that is said.
        return None if had == numbers else had, ""
    kept, note = kept_classes(had, asked)
    if kept is None:
        message, hint = "adapter with a head for other classes", "data with those labels"
        raise BadInputError(message, value=", ".join(asked), expected=", ".join(had), hint=hint)
    return kept, note


def _names_in(folder: Path) -> tuple[str, ...]:
    """Return the names of the classes that ``config.json`` in `folder` has; empty without."""
    try:
        config = json_object(folder / "config.json", what="", value=folder, expected="")
        return _class_names(config.get("id2label"))
    except (AttributeError, ModelError, ValueError):  # Loading the base says what is odd.
        return ()


def kept_classes(had: Sequence[str], labels: Sequence[str]) -> tuple[tuple[str, ...] | None, str]:
    """Return the classes of a head for `had` that stays for `labels`, and what was assumed.

    It stays for the same classes in any order, for some of them, for their numbers, and for as many
    where its own have no names; letters may be small or not. None where it is for others.
    """
    numbers = tuple(map(str, range(len(had))))
    if {*labels} <= {*had}:
        missing = [name for name in had if name not in labels]
        return tuple(had), f"no label is {', '.join(missing)}" if missing else ""
    alike = {_plain(name): name for name in labels}
    named = tuple(alike.get(_plain(name), name) for name in had)
    if {*labels} <= {*named} and len({*named}) == len(had):
        told = ", ".join(f"{new} is {old}" for new, old in zip(named, had, strict=True))
        return named, f"the head's classes are written otherwise in the data: {told}"
    if {*labels} <= {*numbers}:
        told = ", ".join(f"{i} is {name}" for i, name in enumerate(had))
        return tuple(had), f"labels are the numbers of the head's classes: {told}"
    if tuple(had) == numbers and len(labels) == len(had):
        told = ", ".join(f"{i} is taken for {name}" for i, name in enumerate(labels))
        note = f"the classes of the head have no names: {told}; id2label in config.json names them"
        return tuple(labels), note if len(had) > 1 else ""
    return None, ""


def _plain(name: str) -> str:
    """Return how a class is known whoever writes it: its number, where nobody named it."""
    return name.strip().removeprefix(_UNNAMED).casefold()


def pad_with(model: Any, token: int | None) -> None:
    """Tell the head of a `model` for classes which token pads: some find the last one by it."""
    if model_kind(model) == "classifier":
        model.config.pad_token_id = token


def read_config(source: Source, *, remote: bool) -> Any:
    """Return the configuration of the model in `source`."""
    options = {"gguf_file": source.file} if source.file else {}
    config = AutoConfig.from_pretrained(source.folder, **{REMOTE: remote}, **options)
    if source.file:
        # Adapters name their base by this; the folder alone would not lead back to the file.
        config.name_or_path = str(source.folder / source.file)
    return config


def without_weights(config: Any, how: LoadOptions, *, named: bool = False) -> Any:
    """Build the model of `config`, with a head for ``how.labels`` where there are any.

    Its weights are whatever the default device and torch's generators make of them. Where `named`,
    it is of the very class that `config` names, if transformers has it.

    Raises:
        ModelError: The architecture has no head for classes.
        BadInputError: There are not two different labels or more.
    """
    if how.labels is not None:
        _named_classes(config, how.labels)
    auto = _auto_classes(config)[0] if how.labels is None else AutoModelForSequenceClassification
    own = _named_class(config) if how.labels is None else None
    if own is not None and (named or auto is own):
        return _with_sdpa(own._from_config, config, dtype=how.dtype)
    options = {"dtype": how.dtype, REMOTE: how.remote}
    return _with_sdpa(auto.from_config, config, **options)


def read_model(source: Source, how: LoadOptions) -> tuple[Any, list[str]]:
    """Give the model with the head whose weights are really there, and what was left out or added.

    Raises:
        ModelError: Weights of its body are missing: random ones would stand in for them.
        BadInputError: There are not two different labels or more.
    """
    config = read_config(source, remote=how.remote)
    method = saved_method(config)
    refuse_plain_files(source.folder, method)
    reader = _pretrained_head if how.labels is None else _classifier
    model, notes = reader(source, config, how)
    if getattr(model.config, "_attn_implementation", None) == "eager":
        notes.append("attention runs in eager: this architecture has no SDPA")
    notes += quantisation_note(model, method=method)
    return model, notes


def _architecture(config: Any) -> str:
    """Return the name of the model class that `config` names, or an empty one."""
    named = getattr(config, "architectures", None) or [""]
    if isinstance(named, list | tuple) and isinstance(named[0], str):
        return named[0]
    message = "configuration whose architectures are no list of names"
    raise ModelError(message, value=named, expected='"architectures": ["LlamaForCausalLM"]')


def _named_class(config: Any) -> Any:
    """Return the class of transformers that `config` names; None where that is for others."""
    own = getattr(transformers, _architecture(config) or "-", None)
    return own if isinstance(config, getattr(own, "config_class", None) or ()) else None


def _auto_classes(config: Any) -> tuple[Any, ...]:
    """Return the classes that may load what `config` names, the most complete head first.

    Some class names serve configurations of several kinds. Of a part of a larger model, such as its
    text half, its own class alone may know it.
    """
    classes, own = (*_families(config), AutoModelForImageTextToText), _named_class(config)
    known = tuple(auto for auto in classes if type(config) in auto._model_mapping)
    return known or (classes if own is None else (own,))


def _families(config: Any) -> tuple[Any, ...]:
    name = _architecture(config)
    if not name:
        # GGUF files name a family, not a class; they hold language models.
        is_pair = getattr(config, "is_encoder_decoder", False)
        return (AutoModelForSeq2SeqLM if is_pair else AutoModelForCausalLM), AutoModel
    if is_vision_text(name):
        return AutoModelForImageTextToText, AutoModel
    if name.endswith("EncoderModel"):  # One side of an encoder-decoder.
        return AutoModelForTextEncoding, AutoModel
    if is_next_sentence(name):
        masked = kind_of(name) == "masked"
        both = (AutoModelForPreTraining, AutoModelForMaskedLM)
        return (*(both if masked else (AutoModelForNextSentencePrediction,)), AutoModel)
    classes: dict[ModelKind, tuple[Any, ...]] = {
        "causal": (AutoModelForCausalLM, AutoModel),
        "masked": (AutoModelForMaskedLM, AutoModel),
        "seq2seq": (AutoModelForSeq2SeqLM, AutoModel),
    }
    return classes.get(kind_of(name), (AutoModel,))


def _pretrained_head(source: Source, config: Any, how: LoadOptions) -> tuple[Any, list[str]]:
    """Return the model with the most complete head that the files hold whole."""
    notes: list[str] = []
    for auto in _auto_classes(config):
        model, missing = _pretrained(auto, source, config, how)
        if auto is AutoModel or not missing:
            break
        head = type(model).__name__
        notes.append(f"the {head} head has no weights in the checkpoint and was left out")
    unused = {key for key in missing if key.split(".")[0] == "pooler"}
    _refuse_missing(source, model, missing - unused)
    name = _architecture(config)
    if auto is AutoModel and not notes and name not in {"", type(model).__name__}:
        notes.append(f"the head of {name} was left out: it is not a language model's")
    if unused:
        notes.append("the pooler has no weights in the checkpoint; its output is not used")
    return model, notes


def _refuse_missing(source: Source, model: Any, missing: Iterable[str]) -> None:
    names = sorted(missing)
    if names:
        message = f"checkpoint without the weights {', '.join(names[:4])}"
        raise ModelError(message, value=source.name, expected=f"a whole {type(model).__name__}")


def _classifier(source: Source, config: Any, how: LoadOptions) -> tuple[Any, list[str]]:
    """Read the model with a head for ``how.labels``: the checkpoint's, or one drawn by the seed."""
    labels = how.labels or ()
    is_classifier = kind_of(_architecture(config)) == "classifier"
    had = _class_names(config.id2label) if is_classifier else ()
    note = _named_classes(config, labels, had=had)
    with rng_untouched(derive(how.seed, "head")):
        model, missing = _pretrained(
            AutoModelForSequenceClassification, source, config, how, ignore_mismatched_sizes=True
        )
        _refuse_missing(source, model, {key for key in missing if _in_body(model, key)})
        is_new = note is None
        new = missing or (_drawn_anew(model, outputs=len(labels)) if is_new else set())
    if not new:
        return model, [HeadNote(note)] if note else []
    what = f"a classification head for {', '.join(labels)} was added"
    note = f"{what}, random from seed {how.seed}: {', '.join(sorted(new))}"
    replaced = f"; it replaces the checkpoint's, which is for {', '.join(had)}" if had else ""
    return model, [HeadNote(note + replaced)]


def _class_names(id2label: Any) -> tuple[str, ...]:
    """Return the names of classes by their number; the number itself where nobody named one."""
    names = {int(i): str(name) for i, name in (id2label or {}).items()}
    return tuple(names[i].removeprefix(_UNNAMED) for i in sorted(names))


def _named_classes(config: Any, labels: Sequence[str], *, had: Sequence[str] = ()) -> str | None:
    """Name in `config`, whose head is for the classes `had`, those for `labels`.

    Return what was assumed to keep its head, None where that is for others. One label is a score.
    """
    if not labels or len(set(labels)) < len(labels):
        message = "labels of a classification"
        expected = "at least two, all different, or the name of a score"
        raise BadInputError(message, value=", ".join(labels), expected=expected)
    known = type(config) in AutoModelForSequenceClassification._model_mapping  # their only table
    if not known or getattr(config, "is_encoder_decoder", False):
        message = "architecture that classification is not for"
        expected = "an encoder or a causal model with a sequence classification head"
        raise ModelError(message, value=config.model_type, expected=expected)
    kept, note = kept_classes(had, labels)
    named = labels if kept is None else kept
    config.id2label = dict(enumerate(named))
    config.label2id = {name: i for i, name in enumerate(named)}
    return None if kept is None else note


def _in_body(model: Any, name: str) -> bool:
    """Return whether the parameter called `name` is one that the model had before any head."""
    first, second, *_ = (*name.split("."), "")
    return first == model.base_model_prefix and second != "pooler"


def _drawn_anew(model: Any, *, outputs: int) -> set[str]:
    """Give the parameters of the head's last layer, drawn once more as the model draws new ones."""
    layers = {
        name: module
        for name, module in model.named_modules()
        if (shape := widths(module)) is not None
        and shape.out_features == outputs
        and not _in_body(model, name)
    }
    for layer in layers.values():
        for parameter in layer.parameters():
            parameter._is_hf_initialized = False  # else it is left alone
        with torch.no_grad():
            model._init_weights(layer)  # how each family draws its heads
    return {
        f"{name}.{own}" for name, layer in layers.items() for own, _ in layer.named_parameters()
    }


def _pretrained(
    auto: Any, source: Source, config: Any, how: LoadOptions, **options: Any
) -> tuple[Any, set[str]]:
    """Give a model of `auto`'s family, and the names of its weights that the files do not hold."""
    options |= {"config": config, "dtype": how.dtype, REMOTE: how.remote}
    quantised = _quantised(config, how)
    if source.file:
        options |= dequantized(source.file)
    else:
        options |= quantised
    read = partial(_with_sdpa, auto.from_pretrained, output_loading_info=True)
    model, info = read(source.folder, **options)
    missing = set(info["missing_keys"]) | {key for key, *_ in info["mismatched_keys"]}
    if source.file:
        if (
            quantised
        ):  # What a GGUF file holds is quantised anew, from the numbers that it stands for.
            plain = {"config": model.config, "state_dict": model.state_dict(), "dtype": model.dtype}
            model = _with_sdpa(type(model).from_pretrained, None, **plain, **quantised)
        model.name_or_path = config.name_or_path
    return model, missing


def _quantised(config: Any, how: LoadOptions) -> dict[str, Any]:
    """Return the options by which the weights of `config`'s model are read as codes, if any."""
    skip = list[str]()
    if how.quantise is not None:  # Heads train whole, and are small.
        with torch.device("meta"):
            model = without_weights(copy.deepcopy(config), how)
        output = model.get_output_embeddings()
        skip = [name for name, module in model.named_modules() if module is output]
        skip += head_modules(model)
    options = loading_options(config, how.quantise, skip=skip, dtype=how.dtype)
    coded = options or getattr(config, "quantization_config", None) is not None
    return {**options, "device_map": {"": str(how.device)}} if coded else {}


def _with_sdpa(make: Any, *args: Any, **options: Any) -> Any:
    """Call `make` with SDPA attention, or with eager attention for a model without SDPA."""
    try:
        return make(*args, attn_implementation="sdpa", **options)
    except ValueError as error:
        if _NO_SDPA not in str(error):
            raise
        return make(*args, attn_implementation="eager", **options)
