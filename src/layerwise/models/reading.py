"""Reading of models: device and precision, in silence, every fault as one typed error."""

import pickle
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers.utils import logging as hf_logging

from layerwise.compat.transformers import tokenizer_in
from layerwise.errors import BadInputError, ModelError, UnknownNameError, is_bug, one_line
from layerwise.models.gguf import read_once
from layerwise.models.sources import Source, has_tokenizer
from layerwise.resources import out_of_memory

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
REMOTE = "trust_remote_code"
# What transformers, safetensors, gguf and the unpickler raise on files that are not what they say.
_UNREADABLE = (
    AssertionError, AttributeError, EOFError, ImportError, LookupError, OSError, RuntimeError,
    SafetensorError, StrictDataclassError, TypeError, ValueError, pickle.UnpicklingError,
    struct.error,
)  # fmt: skip


@dataclass(frozen=True)
class LoadOptions:
    """What is asked of a model that is read.

    Attributes:
        dtype: Of its weights; ``"auto"`` takes the checkpoint's.
        remote: Whether code that comes with it may run.
        labels: The classes that its head must tell apart; None for the head it was made with.
        seed: Fixes a head that has to be added.
        quantise: What plain weights are quantised to; None leaves them.
        device: Where quantised weights go as they are read; others are moved after.
    """

    dtype: torch.dtype | str
    remote: bool = False
    labels: Sequence[str] | None = None
    seed: int = 0
    quantise: str | None = None
    device: torch.device | str = "cpu"


def named_device(name: str) -> torch.device:
    """Return the device called `name`.

    Raises:
        UnknownNameError: It is none of auto, cpu, cuda, cuda:N, mps.
        ModelError: A GPU was asked for that is not there.
    """
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        kind = "device"
        raise UnknownNameError(kind, value=name, known=("auto", "cpu", "cuda", "cuda:N", "mps"))
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if count else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= count:
        message = "device that is not there"
        raise ModelError(
            message, value=name, expected=f"one of {count} CUDA devices", hint="--device cpu"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        message = "device that is not there"
        raise ModelError(message, value=name, expected="an Apple GPU", hint="--device cpu")
    return device


def named_dtype(name: str, device: torch.device) -> torch.dtype | str:
    """Return the precision `name`; for ``auto``, float32 on a CPU, else the checkpoint's.

    Raises:
        UnknownNameError: It is none of auto, float32, bfloat16, float16.
    """
    if name == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    if name not in _DTYPES:
        kind = "dtype"
        raise UnknownNameError(kind, value=name, known=("auto", *_DTYPES))
    return _DTYPES[name]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' own progress bars and load reports away inside."""
    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()


@contextmanager
def readable(source: Source) -> Iterator[None]:
    """Whatever a reader raises on a bad file, as one `ModelError` that names the source."""
    try:
        with read_once() if source.form == "gguf" else nullcontext():
            yield
    except _UNREADABLE as error:
        if isinstance(error, ModelError) or out_of_memory(error) or is_bug(error):
            raise
        if REMOTE in str(error):
            message = "model that brings its own code, which was not run"
            hint = "--trust-remote-code, once you have read that code"
            raise ModelError(message, value=source.name, hint=hint) from error
        message = (
            f"model that cannot be read ({type(error).__name__}: {one_line(error, limit=160)})"
        )
        expected = "whole files" if source.form == "gguf" else "config.json and whole weight files"
        raise ModelError(message, value=source.name, expected=expected) from error


def read_tokenizer(source: Source, *, remote: bool) -> tuple[Any, list[str]]:
    """Return the tokenizer, with a padding token, and a note where another token serves as one.

    Raises:
        ModelError: There is no vocabulary beside the weights, or no token that can pad.
    """
    if not has_tokenizer(source):
        message = "model without a tokenizer"
        hint = "save its tokenizer into the same folder"
        raise ModelError(message, value=source.name, expected="tokenizer.json", hint=hint)
    options = {"gguf_file": source.file} if source.file else {}
    tokenizer = tokenizer_in(source.folder, **{REMOTE: remote}, **options)
    if tokenizer.pad_token is not None:
        return tokenizer, []
    for token in (tokenizer.eos_token, tokenizer.unk_token):
        if token is not None:
            tokenizer.pad_token = token
            return tokenizer, [f"the tokenizer has no padding token; {token} pads"]
    message = "tokenizer without a token that can pad"
    raise ModelError(message, value=source.name, expected="a pad, eos or unk token")


def read_processor(source: Source, *, remote: bool) -> Any:
    """Return what makes of pictures or sounds, beside text, what the model in `source` takes.

    Raises:
        ModelError: The model takes text alone, or its processor cannot be read.
        BadInputError: What its processor needs is not installed.
    """
    from transformers import AutoProcessor

    try:
        with quiet():
            found = AutoProcessor.from_pretrained(source.folder, **{REMOTE: remote})
    except ImportError as error:
        why = one_line(error)
        message = f"package that is needed to read pictures or sounds is not installed ({why})"
        hint = "pip install 'layerwise[pictures,sounds]'"
        raise BadInputError(message, value=source.name, hint=hint) from error
    except _UNREADABLE as error:
        unknown = "Unrecognized processing class" in str(error)
        why = "" if unknown else f" that can be read ({one_line(error, limit=120)})"
        raise _no_processor(source.name, why=why) from error
    if not hasattr(found, "image_processor") and not hasattr(found, "feature_extractor"):
        raise _no_processor(source.name)
    return found


def no_processor() -> Any:
    """Raise what says that pictures cannot be read for a model.

    Raises:
        ModelError: Always.
    """
    raise _no_processor(None)


def _no_processor(name: str | None, *, why: str = "") -> ModelError:
    return ModelError(
        what=f"pictures or sounds for a model without a processor of such{why}",
        value=name,
        expected="a model that sees or hears, with its processor beside it",
        hint="--text-column NAME, to read the text beside them alone",
    )
