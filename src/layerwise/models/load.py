"""A hub id, folder, file, adapter or model in hand, as a model with tokenizer and stacks."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from layerwise.errors import BadInputError, ModelError, one_line
from layerwise.files import sha256
from layerwise.models.blank import blank_config, tokenizer_source
from layerwise.models.causality import keep_causal
from layerwise.models.head_kind import ModelKind, model_kind
from layerwise.models.heads import (
    AddedHead,
    adapter_classes,
    pad_with,
    read_config,
    read_model,
    without_weights,
)
from layerwise.models.parts import unwrapped
from layerwise.models.reading import (
    LoadOptions,
    named_device,
    named_dtype,
    quiet,
    read_tokenizer,
    readable,
)
from layerwise.models.sources import (
    Source,
    adapter_base,
    has_tokenizer,
    hashes,
    refuse_without_weights,
    resolve,
    tokenizer_hashes,
)
from layerwise.models.stack import Stack, find_stacks
from layerwise.models.weights import check_finite, merge_adapter, refuse_unfit
from layerwise.seeds import derive, rng_untouched

_LOG = logging.getLogger(__name__)


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

    @property
    def device(self) -> torch.device:
        """Return where the model is."""
        found: torch.device = next(self.model.parameters()).device
        return found


def load(
    source: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    labels: Sequence[str] | None = None,
    seed: int = 0,
) -> LoadedModel:
    """Return the model that `source` names, in eval mode, with its tokenizer and its stacks.

    Args:
        source: A hub id (``org/name`` or ``org/name@revision``), a folder, a ``.gguf`` file, a
            PEFT adapter folder (merged into its base), or ``demo``.
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: ``auto`` (float32 on a CPU, else the checkpoint's), ``float32``, ``bfloat16`` or
            ``float16``.
        trust_remote_code: Whether code that comes with the model may run.
        labels: The classes to tell apart: the model gets a head for them, its own where that is
            for the same ones. Without any, the head is the one that the model was trained with.
        seed: Fixes the weights of a head that is added.

    Raises:
        ModelError: It cannot be found, read or trusted, or has weights missing or not finite.
        StackError: No stack of blocks was found in it.
        UnknownNameError: The device or dtype is not one of those.
        BadInputError: There are labels, but not two different ones or more.
    """
    where = named_device(device)
    how = LoadOptions(named_dtype(dtype, where), trust_remote_code, labels, seed)
    with quiet():
        loaded = _load(resolve(source), how)
    loaded.model.to(where).eval()
    check_finite(loaded.model, source=source)
    _tell(loaded)
    return loaded


def from_config(
    file: str | Path,
    *,
    tokenizer: str | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    labels: Sequence[str] | None = None,
) -> LoadedModel:
    """Make a model with random weights drawn by `seed`: what was never trained is its own.

    Args:
        file: A transformers configuration (JSON) with ``model_type`` and ``architectures``.
        tokenizer: Where its tokenizer is: a folder, a hub id or a ``.gguf`` file. The file's key
            ``tokenizer`` where None, and without that the file's folder.
        seed: Fixes the weights; they are the same on every device.
        device: As for `load`.
        dtype: As for `load`; ``auto`` is float32 everywhere.
        labels: As for `load`.

    Raises:
        ModelError: The file cannot be read or names no model that is known, or there is no
            tokenizer, or one with more tokens than the model.
        StackError, UnknownNameError, BadInputError: As for `load`.
    """
    path, where = Path(file), named_device(device)
    kept = torch.float32 if dtype == "auto" else named_dtype(dtype, where)
    with quiet():
        config, named = blank_config(path)
        words = tokenizer_source(tokenizer or named, folder=path.parent)
        described = Source(str(path), "folder", path.parent)
        with readable(described), rng_untouched(derive(seed, "weights")):
            model = without_weights(config, LoadOptions(torch.float32, labels=labels, seed=seed))
        with readable(words):
            read, padding = read_tokenizer(words, remote=False)
        rows = model.get_input_embeddings().weight.shape[0]
        if len(read) > rows:
            message = f"configuration with fewer tokens than its tokenizer, {len(read)}"
            hint = f'"vocab_size": {len(read)} in {path.name}'
            raise ModelError(message, value=rows, expected="at least as many", hint=hint)
        pad_with(model, read.pad_token_id)
    files = {path.name: sha256(path), **tokenizer_hashes(words)}
    notes = (f"random weights from {path}, seed {seed}", *padding)
    loaded = _loaded(model, read, str(path), files=files, notes=notes)
    model.to(where, kept).eval()
    _tell(loaded)
    return loaded


def _loaded(model: Any, tokenizer: Any, source: str, **further: Any) -> LoadedModel:
    """Return `model` with what is found in it: its kind and its stacks."""
    kind, stacks = model_kind(model), find_stacks(model)
    return LoadedModel(model, tokenizer, source, kind, stacks, **further)


def _tell(loaded: LoadedModel) -> None:
    for note in loaded.notes:
        _LOG.warning("%s: %s", loaded.source, note)


def load_skeleton(
    source: str, *, trust_remote_code: bool = False, labels: Sequence[str] | None = None
) -> LoadedModel:
    """Return the model that `source` names without its weights, on the meta device; no tokenizer.

    For an adapter, its base. What `load` would find in the weights, such as a head that is
    missing, is not looked for.

    Raises:
        ModelError: The configuration cannot be found, read or trusted.
        StackError: No stack of blocks was found.
    """
    with quiet():
        return _skeleton(source, LoadOptions(torch.float32, trust_remote_code, labels))


def _skeleton(source: str, how: LoadOptions) -> LoadedModel:
    if source.endswith(".json"):  # A model that was made from its configuration alone.
        described, revision = source, None
        config, _ = blank_config(Path(source))
    else:
        found = resolve(source, weights=False)
        if found.form == "adapter":
            how = replace(how, labels=_classes(found, how))
            base = _skeleton(adapter_base(found), how)
            return replace(base, source=found.name, base=base.source, revision=found.revision)
        described, revision = found.name, found.revision
        with readable(found):
            config = read_config(found, remote=how.remote)
    with readable(Source(described, "folder", Path())), torch.device("meta"):
        model = without_weights(config, how)
    return _loaded(model.eval(), None, described, revision=revision)


def _load(source: Source, how: LoadOptions) -> LoadedModel:
    if source.form == "adapter":
        return _load_adapter(source, how)
    with readable(source):
        model, notes = read_model(source, how)
        tokenizer, padding = read_tokenizer(source, remote=how.remote)
    pad_with(model, tokenizer.pad_token_id)
    notes = [*notes, *keep_causal(model), *padding]
    found = {"revision": source.revision, "files": hashes(source), "notes": tuple(notes)}
    return _loaded(model, tokenizer, source.name, **found)


def _load_adapter(source: Source, how: LoadOptions) -> LoadedModel:
    """Give the base model with the adapter merged into its weights: its modules are plain."""
    refuse_without_weights(source)
    name, how = adapter_base(source), replace(how, labels=_classes(source, how))
    try:
        base = _load(resolve(name), how)
    except ModelError as error:
        message = f"adapter whose base model cannot be loaded ({error.what}: {one_line(name)})"
        hint, expected = "correct base_model_name_or_path in adapter_config.json", "its base model"
        raise ModelError(message, value=source.name, expected=expected, hint=hint) from error
    with readable(source):
        report, merged, brought = merge_adapter(base.model, source.folder)
        tokenizer, padding = base.tokenizer, list[str]()
        if has_tokenizer(source):
            tokenizer, padding = read_tokenizer(source, remote=how.remote)
    refuse_unfit(report, source=source.name, lacking="" if merged else "layers that can be merged")
    notes = [*base.notes, *padding, f"the adapter was merged into {merged} modules"]
    if brought:  # What was added to the base made room for its own.
        notes = [note for note in notes if not isinstance(note, AddedHead)]
        notes.append(f"the adapter brings its own {', '.join(brought)}")
    return replace(adapted(base, source, tokenizer), notes=tuple(notes))


def adapted(base: LoadedModel, source: Source, tokenizer: Any) -> LoadedModel:
    """Return `base`, which the adapter in `source` was read into, under that adapter's name."""
    return replace(
        base,
        tokenizer=tokenizer,
        source=source.name,
        base=base.source,
        revision=source.revision,
        files={**base.files, **hashes(source)},
    )


def _classes(source: Source, how: LoadOptions) -> tuple[str, ...] | None:
    """Return the classes that the base of an adapter gets a head for."""
    with readable(source):
        return adapter_classes(source, how.labels)


def wrap_model(model: Any, tokenizer: Any = None) -> LoadedModel:
    """Return `model`, in eval mode, with its tokenizer and stacks.

    Args:
        model: A `PreTrainedModel`, or one in an adapter's wrapper; of one that was compiled or is a
            replica, the model inside.
        tokenizer: Its tokenizer; read from where the model was where None.

    Raises:
        BadInputError: It is no such model.
        ModelError: Its tokenizer cannot be found, or has no token that can pad.
        StackError: No stack of blocks was found in it.
    """
    model = unwrapped(model) if isinstance(model, nn.Module) else model
    modules = model.modules() if hasattr(model, "modules") else ()
    inner = next((m for m in modules if isinstance(m, PreTrainedModel)), None)
    if inner is None:
        msg = "no model"
        expected = "a name, a transformers PreTrainedModel, or a PeftModel of one"
        raise BadInputError(msg, value=type(model).__name__, expected=expected)
    name, notes = inner.name_or_path, list[str]()
    if tokenizer is None and not name:
        msg = "model without a name to find its tokenizer by"
        raise BadInputError(msg, expected="a tokenizer", hint="tokenizer=...")
    if tokenizer is None:
        source = resolve(name, weights=False)
        with quiet(), readable(source):
            tokenizer, notes = read_tokenizer(source, remote=False)
    return _loaded(model.eval(), tokenizer, name or type(inner).__name__, notes=tuple(notes))
