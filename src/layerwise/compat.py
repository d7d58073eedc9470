"""What depends on the version of a library: one short function a difference."""

from typing import Any

__all__ = ["dequantized"]


def dequantized(file: str) -> dict[str, Any]:
    """Return the options by which transformers reads the GGUF file `file` as plain weights.

    Before 5.20 it did so unasked; since then, an unasked file stays packed, and such a model can
    neither be trained nor saved.
    """
    import transformers

    config = getattr(transformers, "GgufConfig", None)
    asked = {} if config is None else {"quantization_config": config(dequantize=True)}
    return {"gguf_file": file, **asked}
