"""GGUF files read once and in silence, whichever way transformers goes about it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import numpy as np

from layerwise.extras import require


@contextmanager
def read_once() -> Iterator[None]:
    """Parse each GGUF file once inside, its fields too, without a progress bar.

    For most families transformers parses the whole file for the configuration, again for the
    weights and again for the tokenizer, and builds the table of tensor names anew for each of
    the model's modules: more than half of the time that loading takes.
    """
    gguf = require("gguf", extra="gguf", purpose="read GGUF files")
    from transformers import modeling_gguf_pytorch_utils as legacy
    from transformers.utils import logging as hf_logging

    with (
        _swapped(gguf, "GGUFReader", cache(partial(_read, gguf.GGUFReader))),
        _swapped(gguf, "get_tensor_name_map", cache(gguf.get_tensor_name_map)),
        _swapped(legacy, "_gguf_parse_value", _remembered(legacy._gguf_parse_value)),
        _swapped(legacy, "tqdm", hf_logging.tqdm),
    ):
        yield


def _read(reader: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return what `reader` makes of a file through plain arrays: each slice of a memmap is slow."""
    memmap = np.memmap
    with _swapped(np, "memmap", lambda *file, **how: np.asarray(memmap(*file, **how))):
        return reader(*args, **options)


def _remembered(parse: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return `parse` that decodes each part of a file once; parts are known by identity."""
    known: dict[int, tuple[Any, Any]] = {}

    def decoded(part: Any, kind: Any) -> Any:
        if id(part) not in known:
            known[id(part)] = part, parse(part, kind)  # The part stays, so that its id does.
        return known[id(part)][1]

    return decoded


@contextmanager
def _swapped(module: Any, name: str, value: Any) -> Iterator[None]:
    original = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, original)
