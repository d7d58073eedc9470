"""What depends on the version of transformers."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any

from torch import nn


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


@contextmanager
def precision_kept() -> Iterator[None]:
    """Leave the precision of a Trainer inside to that one: 4 hands it on in the environment."""
    name = "ACCELERATE_MIXED_PRECISION"
    before = os.environ.get(name)
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


def input_embedding(model: Any, name: str) -> Any:
    """Return what `model` embeds its input by, or its half that holds the module called `name`.

    None for a tower that embeds something other than tokens. The halves of CLIP and its like are no
    models of their own in 4; the one that reads text has an embedding of its vocabulary.
    """
    try:
        return model.get_input_embeddings()
    except NotImplementedError:
        half = getattr(model, name.partition(".")[0], model)
    size = getattr(getattr(half, "config", None), "vocab_size", None)
    return next(
        (m for m in half.modules() if isinstance(m, nn.Embedding) and m.num_embeddings == size),
        None,
    )


def checkpoint_blocks(model: Any, *, reentrant: bool = False) -> None:
    """Let `model` recompute the activations of its blocks in the backward."""
    name = "activation_checkpointing_enable"
    enable = getattr(model, name, None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": reentrant})


def tokenizer_in(folder: Path, **options: Any) -> Any:
    """Return the tokenizer in `folder`; one that 5 has saved is read by 4 too.

    What tokenizers.json alone describes has a class with a new name since 5.
    """
    import transformers

    file = folder / "tokenizer_config.json"
    named = json.loads(file.read_text("utf-8")).get("tokenizer_class") if file.is_file() else None
    kind: Any = transformers.AutoTokenizer
    if named == "TokenizersBackend" and not hasattr(transformers, named):
        kind = transformers.PreTrainedTokenizerFast
    return kind.from_pretrained(folder, **options)
