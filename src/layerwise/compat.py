"""What depends on the version of a library: one short function a difference."""

from inspect import signature
from typing import Any


def dequantized(file: str) -> dict[str, Any]:
    """Return the options by which transformers reads the GGUF file `file` as plain weights.

    Before 5.20 it did so unasked; since then, an unasked file stays packed, and such a model can
    neither be trained nor saved.
    """
    import transformers

    config = getattr(transformers, "GgufConfig", None)
    asked = {} if config is None else {"quantization_config": config(dequantize=True)}
    return {"gguf_file": file, **asked}


def dequantising(method: str) -> dict[str, bool]:
    """Return the keys of a quantization_config by which transformers reads plain weights.

    Those of `method` whose codes no gradient passes through; none of others. What was
    ``run_compressed`` is ``dequantize`` since 5.20.
    """
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING as CONFIGS

    if method not in {"fp8", "fbgemm_fp8", "mxfp4", "mxfp8", "compressed-tensors"}:
        return {}
    known = signature(CONFIGS[method].__init__).parameters
    return {"dequantize": True} if "dequantize" in known else {"run_compressed": False}


def checkpointing(*, wanted: bool) -> dict[str, Any]:
    """Return the options by which Trainer recomputes activations in the backward, if `wanted`.

    transformers called it gradient checkpointing first.
    """
    from transformers import TrainingArguments

    known = TrainingArguments.__dataclass_fields__
    name = "activation" if "activation_checkpointing" in known else "gradient"
    how = {"use_reentrant": False}
    return {f"{name}_checkpointing": wanted, f"{name}_checkpointing_kwargs": how}


def checkpoint_blocks(model: Any, *, reentrant: bool = False) -> None:
    """Let `model` recompute the activations of its blocks in the backward."""
    name = "activation_checkpointing_enable"
    enable = getattr(model, name, None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": reentrant})
