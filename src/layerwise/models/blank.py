"""A configuration file that stands for a model without weights, and its tokenizer's place."""

from pathlib import Path
from typing import Any

import transformers
from transformers import CONFIG_MAPPING, AutoConfig

from layerwise.errors import ModelError
from layerwise.models.reading import readable
from layerwise.models.sources import Source, has_tokenizer, json_object, resolve

_EXPECTED = "a transformers configuration (JSON) with model_type and architectures"


def blank_config(path: Path) -> tuple[Any, str | None]:
    """Return the configuration in `path`, and the tokenizer that its key ``tokenizer`` names.

    A tokenizer is looked for from the file's folder first.

    Raises:
        ModelError: There is no such file, it is not JSON, or it names no model that is known.
    """
    plain = json_object(path, what="configuration file", value=path, expected=_EXPECTED)
    tokenizer = plain.pop("tokenizer", None)
    kind = plain.pop("model_type", None)
    if kind not in CONFIG_MAPPING:
        message = "configuration of an unknown model type" if kind else "configuration of no type"
        raise ModelError(message, value=kind or path, expected='"model_type", such as "bert"')
    names = plain.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    if name is None or not hasattr(transformers, str(name)):
        message = "unknown architecture" if name else "configuration without an architecture"
        expected = '"architectures": ["BertForPreTraining"], or another of transformers\' classes'
        raise ModelError(message, value=name or path, expected=expected)
    with readable(Source(str(path), "folder", path.parent)):
        config = AutoConfig.for_model(kind, **plain)
    if getattr(transformers, name).config_class is not type(config):
        message = "architecture of another model type"
        raise ModelError(message, value=name, expected=f"one of {kind}'s")
    return config, tokenizer


def tokenizer_source(name: str | None, *, folder: Path) -> Source:
    """Return where the tokenizer called `name` is: below `folder`, or what a model may be named by.

    A folder need not hold more than the tokenizer.

    Raises:
        ModelError: There is none.
    """
    for place in (folder / (name or ""), Path(name or folder)):
        source = Source(str(place), "folder", place)
        if place.is_dir() and has_tokenizer(source):
            return source
    if name is None:
        message = "no tokenizer beside the configuration file"
        hint = '"tokenizer": "FOLDER or MODEL" in it'
        raise ModelError(message, value=folder, expected="tokenizer.json", hint=hint)
    return resolve(name, weights=False)
