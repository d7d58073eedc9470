"""A hub id, folder, file, adapter or model in hand, as a model with tokenizer and stacks."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from layerwise.errors import BadInputError, ModelError, SchemaError, one_line
from layerwise.files import read_json, sha256
from layerwise.models.blank import blank_config, tokenizer_source
from layerwise.models.causality import keep_causal
from layerwise.models.head_kind import ModelKind, model_kind
from layerwise.models.heads import (
    HeadNote,
    adapter_classes,
    pad_with,
    read_config,
    read_model,
    without_weights,
)
from layerwise.models.linear import packed_modules
from layerwise.models.meta import meta_copy
from layerwise.models.parts import refuse_sharded, unwrapped
from layerwise.models.quantisation import decompress, keep_arranged, refuse_unknown, unpack
from layerwise.models.reading import (
    LoadOptions,
    named_device,
    named_dtype,
    no_processor,
    quiet,
    read_processor,
    read_tokenizer,
    readable,
)
from layerwise.models.sources import (
    Source,
    has_tokenizer,
    hashes,
    named_base,
    resolve,
    tokenizer_hashes,
)
from layerwise.models.stack import Stack, find_stacks
from layerwise.models.weights import check_finite, refuse_more_tokens
from layerwise.seeds import derive, rng_untouched

_LOG = logging.getLogger(__name__)

#: What says how an adapter was trained, beside it.
_TUNED = ("layerwise/tune/2", "layerwise/tune/1")


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
        find_processor: Gives what reads pictures for it, which is read when first asked for.
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
    find_processor: Callable[[], Any] = field(default=no_processor, compare=False)

    def processor(self) -> Any:
        """Return what reads pictures for the model, with its tokenizer.

        Raises:
            ModelError: The model takes text alone.
        """
        found = self.find_processor()
        found.tokenizer = self.tokenizer
        return found

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
    quantize: str | None = None,
    trust_remote_code: bool = False,
    labels: Sequence[str] | None = None,
    seed: int = 0,
) -> LoadedModel:
    """Return the model that `source` names, in eval mode, with its tokenizer and its stacks.

    Args:
        source: A hub id (``org/name`` or ``org/name@revision``), a folder, a ``.gguf`` file, a
            PEFT adapter folder (merged into its base), or ``demo``.
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        dtype: ``auto`` (float32 on a CPU, else the checkpoint's), ``float32``, ``bfloat16`` or
            ``float16``. Of quantised weights, what is computed in.
        quantize: What the weights of blocks are quantised to as they are read: ``nf4`` (with
            double quantisation) or ``int8``, both of bitsandbytes; None keeps them.
        trust_remote_code: Whether code that comes with the model may run.
        labels: The classes to tell apart: the model gets a head for them, its own where that is
            for the same ones. Without any, the head is the one that the model was trained with.
        seed: Fixes the weights of a head that is added.

    Raises:
        ModelError: It cannot be found, read or trusted, or has weights missing or not finite.
        StackError: No stack of blocks was found in it.
        UnknownNameError: The device, dtype or quantisation is not one of those.
        BadInputError: There are labels, but not two different ones or more.
    """
    where = named_device(device)
    refuse_unknown(quantize)
    kept = named_dtype(dtype, where)
    how = LoadOptions(kept, trust_remote_code, labels, seed, quantize, where)
    with quiet():
        loaded = _load(resolve(source), how)
    if getattr(loaded.model, "hf_quantizer", None) is None:  # Codes are there since they were read.
        loaded.model.to(where)
    loaded.model.eval()
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
        hint = f'"vocab_size": {len(read)} in {path.name}'
        refuse_more_tokens(model, read, source=str(path), hint=hint)
        pad_with(model, read.pad_token_id)
    files = {path.name: sha256(path), **tokenizer_hashes(words)}
    notes = (f"random weights from {path}, seed {seed}", *padding)
    loaded = _loaded(model, read, str(path), files=files, notes=notes)
    model.to(where, kept).eval()
    _tell(loaded)
    return loaded


def _loaded(
    model: Any, tokenizer: Any, source: str, *, notes: Sequence[str] = (), **further: Any
) -> LoadedModel:
    """Return `model` with what is found in it: its kind and its stacks."""
    kind, stacks, told = model_kind(model), find_stacks(model), keep_arranged(model)
    return LoadedModel(model, tokenizer, source, kind, stacks, notes=(*notes, *told), **further)


def _tell(loaded: LoadedModel) -> None:
    for note in loaded.notes:
        _LOG.warning("%s: %s", loaded.source, note)


def load_skeleton(
    source: str,
    *,
    trust_remote_code: bool = False,
    labels: Sequence[str] | None = None,
    named: bool = False,
) -> LoadedModel:
    """Return the model that `source` names without its weights, on the meta device; no tokenizer.

    For an adapter, its base. What `load` would find in the weights, such as a head that is
    missing, is not looked for. Where `named`, the model is of the very class that its
    configuration names, such as one for classes, and not of the one that is measured.

    Raises:
        ModelError: The configuration cannot be found, read or trusted.
        StackError: No stack of blocks was found.
    """
    with quiet():
        return _skeleton(source, LoadOptions(torch.float32, trust_remote_code, labels), named=named)


def _skeleton(source: str, how: LoadOptions, *, named: bool) -> LoadedModel:
    if source.endswith(".json"):  # A model that was made from its configuration alone.
        described, revision = source, None
        config, _ = blank_config(Path(source))
    else:
        found = resolve(source, weights=False)
        if found.form == "adapter":
            how = replace(how, labels=adapter_classes(found, how.labels)[0])
            base = _skeleton(named_base(found), how, named=named)
            return replace(base, source=found.name, base=base.source, revision=found.revision)
        described, revision = found.name, found.revision
        with readable(found):
            config = read_config(found, remote=how.remote)
    with readable(Source(described, "folder", Path())), torch.device("meta"):
        model = without_weights(config, how, named=named)
    return _loaded(model.eval(), None, described, revision=revision)


def _load(source: Source, how: LoadOptions) -> LoadedModel:
    if source.form == "adapter":
        return _load_adapter(source, how)
    with readable(source):
        model, notes = read_model(source, how)
        tokenizer, padding = read_tokenizer(source, remote=how.remote)
    refuse_more_tokens(model, tokenizer, source=source.name)
    pad_with(model, tokenizer.pad_token_id)
    notes = [*notes, *keep_causal(model), *padding]
    found = {"revision": source.revision, "files": hashes(source)}
    find = cache(partial(read_processor, source, remote=how.remote))
    return _loaded(model, tokenizer, source.name, notes=notes, find_processor=find, **found)


def _load_adapter(source: Source, how: LoadOptions) -> LoadedModel:
    """Give the base model with the adapter merged into its weights: its modules are plain."""
    if how.quantise is not None:
        message = "quantisation of an adapter folder, which is merged into its base"
        hint = "layerwise profile BASE ADAPTER --quantize nf4, or drop --quantize"
        raise ModelError(message, value=how.quantise, expected="a full model", hint=hint)
    labels, note = adapter_classes(source, how.labels)
    name, how = named_base(source), replace(how, labels=labels)
    try:
        base = _load(resolve(name), how)
    except ModelError as error:
        message = f"adapter whose base model cannot be loaded ({error.what}: {one_line(name)})"
        hint, expected = "correct base_model_name_or_path in adapter_config.json", "its base model"
        raise ModelError(message, value=source.name, expected=expected, hint=hint) from error
    merged = merge(base, source, remote=how.remote)
    return replace(merged, notes=(*merged.notes, note)) if note else merged


def merge(base: LoadedModel, source: Source, *, remote: bool = False) -> LoadedModel:
    """Give `base` with the adapter in `source` in its weights, each module of it proven.

    Raises:
        ModelError: As `attach`.
    """
    from layerwise.models.adapters import put_on  # peft takes a second to import.

    packed = unpack(base.model)
    adapter = put_on(base.model, source, rounded=packed > 0)
    changed, whole, told = adapter.merge()
    notes = [*adapter.notes, f"the adapter was merged into {changed} modules", *told]
    if packed == 0:
        notes += _trained_packed(source)
    if packed:
        notes.append(f"the base's {packed} quantised modules were dequantised for that")
    return _named_after(source, base, notes, whole, remote=remote)


def attach(loaded: LoadedModel, source: Source, *, remote: bool = False) -> LoadedModel:
    """Give `loaded` with the adapter in `source` on it, unmerged, each module of it proven.

    The adapted modules replace those of the model itself, under their names; nothing is copied.
    The tokenizer is the adapter's own where its folder holds one.

    Raises:
        ModelError: The adapter cannot be read, does not fit, or is not one of modules (a soft
            prompt, say).
    """
    from layerwise.models.adapters import put_on  # As above.

    with quiet():
        packed = bool(packed_modules(loaded.model))
        adapter = put_on(loaded.model, source, rounded=packed)
        adapter.prove()
        whole = [n for n, m in loaded.model.named_modules() if hasattr(m, "modules_to_save")]
        notes = [*adapter.notes, *([] if packed else _trained_packed(source))]
        return _named_after(source, loaded, notes, whole, remote=remote)


def _trained_packed(source: Source) -> list[str]:
    """Return a note where the adapter's own ``tune.json`` says that its base was quantised."""
    model: Any = None
    with suppress(SchemaError):
        model = read_json(source.folder / "tune.json", *_TUNED).get("model")
    packed = model.get("quantisation") if isinstance(model, dict) else None
    kind = packed.get("kind") if isinstance(packed, dict) else None
    if not kind:
        return []
    trained = f"the adapter was trained on {one_line(kind)} weights of its base"
    return [f"{trained}, which is read in full here; --quantize reads it so, where it can be said"]


def _named_after(
    source: Source, base: LoadedModel, notes: list[str], whole: Sequence[str], *, remote: bool
) -> LoadedModel:
    """Return `base`, which the adapter in `source` was read into, under that adapter's name."""
    tokenizer = base.tokenizer
    if has_tokenizer(source):
        with readable(source):
            tokenizer, padding = read_tokenizer(source, remote=remote)
        notes = [*padding, *notes]
    refuse_more_tokens(base.model, tokenizer, source=source.name)
    kept = list(base.notes)
    if whole:  # What was added to the base made room for its own.
        kept = [note for note in kept if not isinstance(note, HeadNote)]
        notes.append(f"the adapter brings its own {', '.join(whole)}")
    return replace(
        base,
        tokenizer=tokenizer,
        source=source.name,
        base=base.source,
        stacks=find_stacks(base.model),
        revision=source.revision,
        files={**base.files, **hashes(source)},
        notes=(*kept, *notes),
    )


def skeleton_of(model: Any) -> LoadedModel:
    """Return a copy of the transformers model in `model` on the meta device, without tokenizer.

    Raises:
        BadInputError: It is no such model.
        StackError: No stack of blocks was found in it.
    """
    inner = _pretrained_in(model)
    return _loaded(meta_copy(inner), None, inner.name_or_path or type(inner).__name__)


def _pretrained_in(model: Any) -> Any:
    """Return the `PreTrainedModel` in `model`.

    Raises:
        BadInputError: There is none.
    """
    modules = model.modules() if hasattr(model, "modules") else ()
    inner = next((m for m in modules if isinstance(m, PreTrainedModel)), None)
    if inner is None:
        msg = "no model"
        expected = "a name, a transformers PreTrainedModel, or a PeftModel of one"
        raise BadInputError(msg, value=type(model).__name__, expected=expected)
    return inner


def inside(loaded: LoadedModel) -> LoadedModel:
    """Return `loaded` without an adapter's wrapper: adapters stay on, names are the base's own."""
    inner = _pretrained_in(loaded.model)
    if inner is loaded.model:
        return loaded
    return replace(loaded, model=inner, stacks=find_stacks(inner))


def wrap_model(model: Any, tokenizer: Any = None) -> LoadedModel:
    """Return `model`, in eval mode, with its tokenizer and stacks.

    It attends in eager from then on where SDPA would show it the words that it is to predict.

    Args:
        model: A `PreTrainedModel`, or one in an adapter's wrapper; of one that was compiled or is a
            replica, the model inside.
        tokenizer: Its tokenizer, or the processor around it, which reads pictures; a tokenizer is
            read from where the model was where None.

    Raises:
        BadInputError: It is no such model.
        ModelError: Its tokenizer cannot be found, or has no token that can pad; or its weights are
            sharded over processes.
        StackError: No stack of blocks was found in it.
    """
    if isinstance(model, nn.Module):
        refuse_sharded(model)
        model = unwrapped(model)
    inner = _pretrained_in(model)
    name, notes = inner.name_or_path, decompress(inner)
    find: Callable[[], Any] = cache(partial(_named_processor, name)) if name else no_processor
    if hasattr(tokenizer, "image_processor") or hasattr(tokenizer, "feature_extractor"):
        find, tokenizer = partial(_same, tokenizer), tokenizer.tokenizer
    if tokenizer is None and not name:
        msg = "model without a name to find its tokenizer by"
        raise BadInputError(msg, expected="a tokenizer", hint="tokenizer=...")
    if tokenizer is None:
        source = resolve(name, weights=False)
        with quiet(), readable(source):
            tokenizer, padding = read_tokenizer(source, remote=False)
        notes += padding
    named = name or type(inner).__name__
    refuse_more_tokens(inner, tokenizer, source=named)
    notes += keep_causal(inner)
    return _loaded(model.eval(), tokenizer, named, notes=notes, find_processor=find)


def _named_processor(name: str) -> Any:
    return read_processor(resolve(name, weights=False), remote=False)


def _same(processor: Any) -> Any:
    return processor
