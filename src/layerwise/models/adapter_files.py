"""What lies in an adapter's folder: its settings and its weights, whole and finite or refused."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file

from layerwise.errors import ModelError
from layerwise.models.reading import readable
from layerwise.models.sources import Source, adapter_settings
from layerwise.shapes import Tensor

_STEM = "adapter_model"
#: Names under which PEFT keeps the head of a model that tells classes apart.
_HEADS = frozenset({"score", "classifier"})
_CLASSIFIER = "ForSequenceClassification"


def read_weights(source: Source) -> dict[str, Tensor]:
    """Return the tensors of the adapter in `source`, by their names in its files.

    Files are ``adapter_model.safetensors``, the same in parts, or ``adapter_model.bin``, of which
    nothing but tensors is read.

    Raises:
        ModelError: There are none, or one cannot be read or is not finite.
    """
    found: dict[str, Tensor] = {}
    with readable(source):
        for path in weight_files(source):
            found |= _tensors(path)
    if not found:
        message = "adapter whose files hold no weights"
        raise ModelError(message, value=source.name, expected="those that were trained")
    for name, tensor in found.items():
        if tensor.is_floating_point() and tensor.dtype.itemsize < 2:
            found[name] = tensor.float()  # torch computes with none of 8 bits.
        if tensor.is_floating_point() and not bool(found[name].isfinite().all()):
            message = f"weights with NaN or infinite values, first in {name}"
            raise ModelError(message, value=source.name, expected="finite weights")
    return found


def weight_files(source: Source) -> list[Path]:
    """Return the files of the adapter's weights; pickled ones where there are no others.

    Raises:
        ModelError: There are none.
    """
    for end in ("safetensors", "bin"):
        pattern, whole = rf"{_STEM}-\d+-of-\d+\.{end}", source.folder / f"{_STEM}.{end}"
        if whole.is_file():
            return [whole]
        parts = [p for p in sorted(source.folder.iterdir()) if re.fullmatch(pattern, p.name)]
        count = int(parts[0].stem.rpartition("-")[2]) if parts else 0
        if len(parts) != count:
            message = f"adapter of which {len(parts)} of {count} parts are there"
            raise ModelError(message, value=source.name, expected=f"{_STEM}-*-of-{count:05d}")
        if parts:
            return parts
    message = "adapter without weights"
    raise ModelError(message, value=source.name, expected=f"{_STEM}.safetensors")


def _tensors(path: Path) -> Mapping[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    held = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(held, dict) or not all(isinstance(t, Tensor) for t in held.values()):
        message = "file that holds something else than named tensors"
        raise ModelError(message, value=path, expected="the weights of an adapter")
    return held


def head_classes(source: Source) -> int:
    """Return how many classes the head tells apart that the adapter in `source` brings; 0 without.

    Raises:
        ModelError: The adapter's files cannot be read.
    """
    settings = adapter_settings(source)
    saved, mapping = settings.get("modules_to_save"), settings.get("auto_mapping")
    saved = saved if isinstance(saved, list) else []
    named = _HEADS.intersection(str(name).rpartition(".")[2] for name in saved)
    made = mapping.get("base_model_class") if isinstance(mapping, dict) else None
    is_classifier = str(made or _CLASSIFIER).endswith(_CLASSIFIER)
    if settings.get("task_type") not in ("SEQ_CLS", None) or not is_classifier:
        return 0  # The head of another task.
    weights = read_weights(source) if named else {}
    rows = [len(t) for n, t in weights.items() if t.ndim == 2 and named & set(n.split("."))]
    return min(rows, default=0)  # A head's last layer is its narrowest.
