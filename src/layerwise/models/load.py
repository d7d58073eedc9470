"""A hub id, folder, GGUF file or PEFT adapter folder, as a model and its tokenizer."""

import logging
import pickle
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForTextEncoding,
    AutoTokenizer,
    GgufConfig,
)
from transformers.utils import logging as hf_logging

from layerwise.errors import ModelError, UnknownNameError, one_line
from layerwise.models.gguf import read_once
from layerwise.models.kind import ModelKind, is_vision_text, kind_of, model_kind
from layerwise.models.sources import Source, adapter_base, has_tokenizer, hashes, resolve
from layerwise.models.stack import Stack, find_stacks
from layerwise.models.weights import check_finite, merge_adapter

__all__ = ["LoadedModel", "ModelKind", "load", "load_skeleton"]

_LOG = logging.getLogger(__name__)
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_NO_SDPA = "scaled_dot_product_attention"
_REMOTE = "trust_remote_code"
# What transformers, safetensors, gguf and the unpickler raise on files that are not what they say.
_UNREADABLE = (
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    IndexError,
    KeyError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SafetensorError,
    StrictDataclassError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
)


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be measured.

    Attributes:
        model: The `PreTrainedModel`, in eval mode.
        tokenizer: Its tokenizer, with a padding token.
        source: What the user named, resolved (a path or hub id).
        kind: What its head does.
        stacks: Its blocks.
        revision: The hub commit, where there is one.
        files: SHA-256 of each file that was read, by name.
        base: For an adapter, the source of its base model.
        notes: What was not as the source says: fallbacks taken, parts left out.
    """

    model: Any
    tokenizer: Any
    source: str
    kind: ModelKind
    stacks: tuple[Stack, ...]
    revision: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    base: str | None = None
    notes: tuple[str, ...] = ()


def load(
    source: str, *, device: str = "auto", dtype: str = "auto", trust_remote_code: bool = False
) -> LoadedModel:
    """The model that `source` names, in eval mode, with its tokenizer and its stacks.

    Args:
        source: A hub id (``org/name`` or ``org/name@revision``), a folder, a ``.gguf`` file, a
            PEFT adapter folder (merged into its base), or ``demo``.
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: ``auto`` (float32 on a CPU, else the checkpoint's), ``float32``, ``bfloat16`` or
            ``float16``.
        trust_remote_code: Whether code that comes with the model may run.

    Raises:
        ModelError: It cannot be found, read or trusted, or has weights missing or not finite.
        StackError: No stack of blocks was found in it.
        UnknownNameError: The device or dtype is not one of those.
    """
    where = _device(device)
    kept = _dtype(dtype, where)
    with _quiet():
        loaded = _load(resolve(source), kept, remote=trust_remote_code)
    loaded.model.to(where).eval()
    check_finite(loaded.model, source=source)
    for note in loaded.notes:
        _LOG.warning("%s: %s", loaded.source, note)
    return loaded


def load_skeleton(source: str, *, trust_remote_code: bool = False) -> LoadedModel:
    """The model that `source` names without its weights, on the meta device; no tokenizer.

    For an adapter, its base. What `load` would find in the weights, such as a head that is
    missing, is not looked for.

    Raises:
        ModelError: The configuration cannot be found, read or trusted.
        StackError: No stack of blocks was found.
    """
    with _quiet():
        found = resolve(source, weights=False)
        if found.form == "adapter":
            base = load_skeleton(adapter_base(found), trust_remote_code=trust_remote_code)
            return replace(base, source=found.name, base=base.source, revision=found.revision)
        with _readable(found):
            config = _config(found, remote=trust_remote_code)
            auto, _ = _auto_class(config)
            with torch.device("meta"):
                model = _with_sdpa(
                    auto.from_config,
                    config,
                    dtype=torch.float32,
                    trust_remote_code=trust_remote_code,
                )
        return LoadedModel(
            model=model.eval(),
            tokenizer=None,
            source=found.name,
            kind=model_kind(model),
            stacks=find_stacks(model),
            revision=found.revision,
        )


def _device(name: str) -> torch.device:
    """The device called `name`.

    Raises:
        UnknownNameError: It is none of auto, cpu, cuda, cuda:N.
        ModelError: CUDA was asked for and there is none, or not that many.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        kind = "device"
        raise UnknownNameError(kind, value=name, known=("auto", "cpu", "cuda", "cuda:N"))
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if count else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= count:
        message = "device that is not there"
        raise ModelError(
            message, value=name, expected=f"one of {count} CUDA devices", hint="--device cpu"
        )
    return device


def _dtype(name: str, device: torch.device) -> torch.dtype | str:
    if name == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    if name not in _DTYPES:
        kind = "dtype"
        raise UnknownNameError(kind, value=name, known=("auto", *_DTYPES))
    return _DTYPES[name]


@contextmanager
def _quiet() -> Iterator[None]:
    """A span without transformers' own progress bars and load reports."""
    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        with read_once():
            yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()


@contextmanager
def _readable(source: Source) -> Iterator[None]:
    """Whatever a reader raises on a bad file, as one `ModelError` that names the source."""
    try:
        yield
    except (ModelError, torch.OutOfMemoryError):
        raise
    except _UNREADABLE as error:
        if _REMOTE in str(error):
            message = "model that brings its own code, which was not run"
            hint = "--trust-remote-code, once you have read that code"
            raise ModelError(message, value=source.name, hint=hint) from error
        message = (
            f"model that cannot be read ({type(error).__name__}: {one_line(error, limit=160)})"
        )
        expected = "whole files" if source.form == "gguf" else "config.json and whole weight files"
        raise ModelError(message, value=source.name, expected=expected) from error


def _load(source: Source, dtype: torch.dtype | str, *, remote: bool) -> LoadedModel:
    if source.form == "adapter":
        return _load_adapter(source, dtype, remote=remote)
    with _readable(source):
        model, notes = _model(source, dtype, remote=remote)
        tokenizer, padding = _tokenizer(source, remote=remote)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        source=source.name,
        kind=model_kind(model),
        stacks=find_stacks(model),
        revision=source.revision,
        files=hashes(source),
        notes=(*notes, *padding),
    )


def _config(source: Source, *, remote: bool) -> Any:
    options = {"gguf_file": source.file} if source.file else {}
    config = AutoConfig.from_pretrained(source.folder, trust_remote_code=remote, **options)
    if source.file:
        # Adapters name their base by this; the folder alone would not lead back to the file.
        config.name_or_path = str(source.folder / source.file)
    return config


def _auto_class(config: Any) -> tuple[Any, str]:
    """The transformers class that loads the head which `config` names, and the head's name."""
    name = (getattr(config, "architectures", None) or [""])[0]
    if not name:
        # GGUF files name a family, not a class; they hold language models.
        is_pair = getattr(config, "is_encoder_decoder", False)
        return (AutoModelForSeq2SeqLM if is_pair else AutoModelForCausalLM), name
    if is_vision_text(name):
        return AutoModelForImageTextToText, name
    if name.endswith("EncoderModel"):  # One side of an encoder-decoder.
        return AutoModelForTextEncoding, name
    classes: dict[ModelKind, Any] = {
        "causal": AutoModelForCausalLM,
        "masked": AutoModelForMaskedLM,
        "seq2seq": AutoModelForSeq2SeqLM,
        "encoder": AutoModel,
    }
    return classes[kind_of(name)], name


def _model(source: Source, dtype: torch.dtype | str, *, remote: bool) -> tuple[Any, list[str]]:
    """The model with the head whose weights are really there, and what was left out.

    Raises:
        ModelError: Weights of its body are missing: random ones would stand in for them.
    """
    config = _config(source, remote=remote)
    auto, name = _auto_class(config)
    model, missing = _pretrained(auto, source, config, dtype, remote=remote)
    notes = []
    if missing and auto is not AutoModel:
        notes.append(f"the {name} head has no weights in the checkpoint and was left out")
        auto = AutoModel
        model, missing = _pretrained(auto, source, config, dtype, remote=remote)
    unused = {key for key in missing if key.split(".")[0] == "pooler"}
    if missing - unused:
        message = f"checkpoint without the weights {', '.join(sorted(missing - unused)[:4])}"
        raise ModelError(message, value=source.name, expected=f"a whole {type(model).__name__}")
    if unused:
        notes.append("the pooler has no weights in the checkpoint; its output is not used")
    elif auto is AutoModel and name not in {"", type(model).__name__} and not notes:
        notes.append(f"the head of {name} was left out: it is not a language model's")
    if _attention(model) == "eager":
        notes.append("attention runs in eager: this architecture has no SDPA")
    return model, notes


def _attention(model: Any) -> str | None:
    """How attention is computed (``sdpa``, ``eager``), as transformers records it."""
    return getattr(model.config, "_attn_implementation", None)


def _pretrained(
    auto: Any, source: Source, config: Any, dtype: torch.dtype | str, *, remote: bool
) -> tuple[Any, set[str]]:
    """A model of `auto`'s family, and the names of its weights that the files do not hold."""
    options: dict[str, Any] = {}
    if source.file:
        options = {
            "gguf_file": source.file,
            "quantization_config": GgufConfig(dequantize=True),
        }
    model, info = _with_sdpa(
        auto.from_pretrained,
        source.folder,
        config=config,
        dtype=dtype,
        trust_remote_code=remote,
        output_loading_info=True,
        **options,
    )
    if source.file:
        model.name_or_path = config.name_or_path
    return model, set(info["missing_keys"])


def _with_sdpa(make: Any, *args: Any, **options: Any) -> Any:
    """What `make` gives with SDPA attention, or with eager attention for a model without SDPA."""
    try:
        return make(*args, attn_implementation="sdpa", **options)
    except ValueError as error:
        if _NO_SDPA not in str(error):
            raise
        return make(*args, attn_implementation="eager", **options)


def _tokenizer(source: Source, *, remote: bool) -> tuple[Any, list[str]]:
    """The tokenizer, with a padding token, and a note where another token serves as one.

    Raises:
        ModelError: There is no vocabulary beside the weights, or no token that can pad.
    """
    if not has_tokenizer(source):
        message = "model without a tokenizer"
        hint = "save its tokenizer into the same folder"
        raise ModelError(message, value=source.name, expected="tokenizer.json", hint=hint)
    options = {"gguf_file": source.file} if source.file else {}
    tokenizer = AutoTokenizer.from_pretrained(source.folder, trust_remote_code=remote, **options)
    if tokenizer.pad_token is not None:
        return tokenizer, []
    for token in (tokenizer.eos_token, tokenizer.unk_token):
        if token is not None:
            tokenizer.pad_token = token
            return tokenizer, [f"the tokenizer has no padding token; {token} pads"]
    message = "tokenizer without a token that can pad"
    raise ModelError(message, value=source.name, expected="a pad, eos or unk token")


def _load_adapter(source: Source, dtype: torch.dtype | str, *, remote: bool) -> LoadedModel:
    """The base model with the adapter merged into its weights, so that its modules are plain.

    Raises:
        ModelError: The base cannot be loaded, or the adapter is of a kind that cannot be merged.
    """
    name = adapter_base(source)
    try:
        base = _load(resolve(name), dtype, remote=remote)
    except ModelError as error:
        message = f"adapter whose base model cannot be loaded ({error.what}: {one_line(name)})"
        hint = "correct base_model_name_or_path in adapter_config.json"
        raise ModelError(
            message, value=source.name, expected="its base model", hint=hint
        ) from error
    with _readable(source):
        report = base.model.load_adapter(str(source.folder))
        merged = merge_adapter(base.model)
        tokenizer, padding = (
            _tokenizer(source, remote=remote) if has_tokenizer(source) else (base.tokenizer, [])
        )
    _check_adapter(source, report, merged)
    base.model._hf_peft_config_loaded = False
    notes = (*base.notes, *padding, f"the adapter was merged into {merged} modules")
    return replace(
        base,
        tokenizer=tokenizer,
        source=source.name,
        base=base.source,
        revision=source.revision,
        files={**base.files, **hashes(source)},
        notes=notes,
    )


def _check_adapter(source: Source, report: Any, merged: int) -> None:
    missing = sorted(getattr(report, "missing_keys", ()))
    if missing or not merged:
        message = "adapter that does not fit its base model"
        lacking = (
            f"weights for {', '.join(missing[:3])}" if missing else "layers that can be merged"
        )
        raise ModelError(message, value=source.name, expected=lacking)
