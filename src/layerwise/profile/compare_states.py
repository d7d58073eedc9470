"""Before and after, from what a user names: one model in memory at a time, one copy of a base."""

import gc
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from layerwise.card.describe import model_info
from layerwise.card.record import LayerCard, ModelInfo
from layerwise.errors import BadInputError, ModelError
from layerwise.models.heads import adapter_classes
from layerwise.models.linear import packed_modules
from layerwise.models.load import LoadedModel, attach, merge, wrap_model
from layerwise.models.sources import adapter_base, named_base, resolve
from layerwise.objectives.forward import without_adapter
from layerwise.placement.compare import refuse_another_model
from layerwise.profile.audit import compare_with_card, make_audit
from layerwise.profile.audit_outputs import OutputChanges, record_outputs
from layerwise.profile.audit_record import Audit
from layerwise.profile.probe_reading import ProbeReading
from layerwise.profile.record import Profile
from layerwise.profile.states import States
from layerwise.progress import Progress, silent
from layerwise.provenance import collect
from layerwise.tuning.adapters import (
    adapter_notes,
    base_parameters,
    disabled,
    has_adapters,
    untrained_modules,
)

_LOG = logging.getLogger(__name__)

Load = Callable[..., LoadedModel]
#: How far the states of a merged model may be from PEFT's own, over those, in float32.
_UNLIKE = 1e-4


@dataclass(frozen=True)
class StatePair:
    """Both states of a profile, where the model after ran, and what its adapter is if asked for."""

    before: States
    after: States
    device: str
    untrained_modules: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    audit: Audit | None = None

    def profile(self, reading: ProbeReading) -> Profile:
        """Return what moved between them, read off as `reading` says."""
        provenance = collect(device=self.device)
        made = reading.profile(self.before, self.after, provenance=provenance)
        notes = tuple(dict.fromkeys((*made.notes, *self.notes)))
        return replace(
            made, untrained_modules=self.untrained_modules, notes=notes, audit=self.audit
        )


@dataclass(frozen=True)
class _StateReader:
    """A reader of states, one model at a time, that audits adapters if that is asked for."""

    reading: ProbeReading
    load: Load
    progress: Progress
    audits: bool
    card: LayerCard | None
    verifies: bool = False

    def states(self, model: Any, when: str) -> States:
        """Return the states of a model, named or in hand; one that is loaded here is let go."""
        if isinstance(model, States):
            return model
        loaded = self.load(model) if isinstance(model, str) else model
        found = self.reading.states(loaded, title=f"probes {when}", progress=self.progress)
        if isinstance(model, str):
            del loaded
            gc.collect()  # Some models hold themselves in a cycle; the next one needs the room.
        return found

    def two(self, before: Any, after: Any, notes: tuple[str, ...] = ()) -> StatePair:
        """Read two models one after the other."""
        first = self.states(before, "before")
        loaded = self.load(after) if isinstance(after, str) else after
        second = self.states(loaded, "after")
        device = "" if isinstance(loaded, States) else str(loaded.device)
        return StatePair(first, second, device, notes=notes)

    def outputs(self, adapted: LoadedModel) -> AbstractContextManager[OutputChanges]:
        """Record inside what the adapters on `adapted` add, where they are to be audited."""
        return record_outputs(adapted.model) if self.audits else nullcontext(OutputChanges())

    def pair(
        self,
        before: States,
        after: States,
        adapted: LoadedModel,
        outputs: OutputChanges,
        notes: tuple[str, ...],
    ) -> StatePair:
        """Return both states with what the adapters of the model after say about themselves."""
        model, audit = adapted.model, None
        untrained = untrained_modules(model)
        if untrained:
            _LOG.warning("%d adapted modules never trained, first %s", len(untrained), untrained[0])
        if self.audits:
            audit = make_audit(model, outputs.changes)
            audit = audit if self.card is None else compare_with_card(audit, self.card)
        notes = (*notes, *adapter_notes(model))
        return StatePair(before, after, str(adapted.device), untrained, notes, audit)

    def refuse_card(self, why: str) -> None:
        """Raise where there is a card, but no adapter to hold against it."""
        if self.card is not None:
            msg = f"card beside what cannot be audited: {why}"
            hint = "layerwise profile BASE ADAPTER --card CARD"
            raise BadInputError(msg, expected="an adapter on the model before", hint=hint)

    def unaudited(self, why: str) -> tuple[str, ...]:
        """Return the note that an adapter is not audited, where that was asked for."""
        self.refuse_card(why)
        if not self.audits:
            return ()
        _LOG.warning("no audit of the adapter: %s", why)
        return (f"no audit of the adapter: {why}",)


def read_pair(
    before: Any,
    after: Any,
    *,
    reading: ProbeReading,
    load: Load,
    progress: Progress = silent,
    audit: bool = False,
    card: LayerCard | None = None,
    verify: bool = False,
) -> StatePair:
    """Read the states of two models, or of a base and an adapter on it.

    A model that is named is loaded, shown the probes and let go before the other is loaded. An
    adapter that is named is put onto the base in memory once that has been read, unmerged; one
    that is on a model in hand is switched off for the reading before.

    Args:
        before: What a user names, a model in hand, or states read before; None for the base of
            an adapter.
        after: The same, never None. What `tune` returns counts as a model in hand.
        reading: How the states are read.
        load: Loads what is named, with a head for the classes ``labels`` where they are not None.
        progress: Hears how far each reading is.
        audit: Whether an adapter is audited too.
        card: A card of the base to hold it against.
        verify: Whether the whole forward with an adapter that is named is tried against PEFT's.

    Raises:
        BadInputError: There is no model before to be had, or nothing to verify.
        ModelError: A model cannot be loaded, or the adapter does not fit.
    """
    reader = _StateReader(reading, load, progress, audit, card, verify)
    before, after = in_hand(before), in_hand(after)
    form = resolve(after, weights=False).form if isinstance(after, str) else ""
    if form == "adapter" and not isinstance(before, LoadedModel | States):
        return _adapter_file(reader, before, after)
    if form == "adapter" and packed_modules(getattr(before, "model", None) or nn.Module()):
        msg = "adapter by name after a quantised model in hand: it is read on its own base, in full"
        raise BadInputError(msg, value=after, hint="profile(BASE, ADAPTER, quantize=...), by names")
    if verify:
        msg = "nothing to verify: there is no adapter that is named, on the model before"
        raise BadInputError(msg, hint="layerwise profile BASE ADAPTER --verify")
    if isinstance(after, LoadedModel) and has_adapters(after.model):
        return _adapter_in_hand(reader, before, after)
    if before is None:
        msg = "no model to compare with"
        expected = "a model before, or an adapter, whose base it is"
        raise BadInputError(msg, expected=expected, hint="the model that was fine-tuned")
    if isinstance(before, LoadedModel) and before.model is getattr(after, "model", None):
        msg = "the models before and after are one object: training changed it in place"
        hint = f"profile({before.source!r}, after), or read its states before training"
        raise BadInputError(msg, expected="the model as it was before", hint=hint)
    reader.refuse_card("there is no adapter")
    return reader.two(before, after)


def in_hand(model: Any, tokenizer: Any = None) -> Any:
    """Return the model that `tune` returned, a transformers model as loaded, the rest as it is."""
    model = getattr(model, "loaded", model)
    model = str(model) if isinstance(model, Path) else model
    is_known = model is None or isinstance(model, str | LoadedModel | States)
    return model if is_known else wrap_model(model, tokenizer)


def _adapter_file(reader: _StateReader, before: str | None, after: str) -> StatePair:
    """Read the base, then the adapter that a user names `after` on the same weights."""
    source = resolve(after)
    named = adapter_base(source)
    base = before or named_base(source)
    notes: tuple[str, ...] = ()
    if named is None:
        notes = (f"the adapter names no base; it was put on {base}",)
    elif before is not None and not _same(before, named):
        if _model_files(named) is not None:
            notes = reader.unaudited(f"it was read on its own base, {named}")
            return reader.two(before, after, notes=notes)
        notes = (f"the adapter names a base that is not there ({named}); it was put on {before}",)
    classes, _ = adapter_classes(source)
    loaded = reader.load(base, labels=classes)
    if reader.card is not None:
        refuse_another_model(model_info(loaded), reader.card.model)
    first = reader.states(loaded, "before")
    adapted = attach(loaded, source)
    notes += tuple(note for note in adapted.notes if note not in loaded.notes)
    with reader.outputs(adapted) as outputs:
        second = reader.states(replace(adapted, notes=()), "after")
    pair = reader.pair(first, second, adapted, outputs, notes)
    if not reader.verifies:
        return pair
    merged = merge(reader.load(base, labels=classes), source)
    told = refuse_other_states(reader.states(merged, "merged"), second, source.name)
    return replace(pair, notes=(*pair.notes, told))


def refuse_other_states(merged: States, own: States, source: str) -> str:
    """Return the note that the states of a merged model are those of PEFT's forward.

    Raises:
        ModelError: They are not, at some block.
    """
    found, wanted = merged.pooled["residual"], own.pooled["residual"]
    off = [
        float(np.linalg.norm(f - w) / np.linalg.norm(w)) for f, w in zip(found, wanted, strict=True)
    ]
    worst = int(np.argmax(off))
    if off[worst] > _UNLIKE:
        message = f"adapter whose merged model is off by {off[worst]:.2g} at block {worst}"
        raise ModelError(message, value=source, expected="what PEFT's own forward gives")
    return f"verified: the merged model's states are PEFT's to {off[worst]:.1g} at every block"


def _model_files(name: str) -> tuple[Path, str | None] | None:
    """Return where the model files that a name leads to lie; None where there are none."""
    try:
        source = resolve(name, weights=False)
    except ModelError:
        return None
    return source.folder.resolve(), source.file


def _same(one: str, other: str) -> bool:
    """Return whether two names lead to the same model files."""
    if one == other:
        return True
    files = _model_files(one)
    return files is not None and files == _model_files(other)


def _adapter_in_hand(reader: _StateReader, before: Any, after: LoadedModel) -> StatePair:
    """Read the model with its adapters on, then switched off; or another model before."""
    with reader.outputs(after) as outputs:
        second = reader.states(after, "after")
    notes: tuple[str, ...] = ()
    if _is_base(before, after):
        with disabled(after.model):
            first = reader.states(after, "before")
        first = replace(first, model=base_info(first.model, after))
    else:
        first = reader.states(before, "before")
        if reader.audits and not isinstance(before, States):
            notes = ("the audit holds the adapter against its own base, not the model before",)
    if reader.card is not None:
        base = base_info(second.model, after)
        # A base's files are known only where they are not beside an adapter's.
        base = replace(base, files={} if after.base else base.files)
        refuse_another_model(base, reader.card.model)
    return reader.pair(first, second, after, outputs, notes)


def _is_base(before: Any, after: LoadedModel) -> bool:
    """Return whether the model before is the one under the adapters of `after`."""
    if isinstance(before, LoadedModel):
        return without_adapter(before.model) is without_adapter(after.model)
    names = {after.base, after.source, str(without_adapter(after.model).name_or_path)} - {None, ""}
    return before is None or (
        isinstance(before, str) and any(_same(before, str(name)) for name in names)
    )


def base_info(info: ModelInfo, after: LoadedModel) -> ModelInfo:
    """Return the base's own name, and its parameters without the adapters'."""
    name = after.base or str(without_adapter(after.model).name_or_path) or info.source
    return replace(info, source=name, base=None, parameters=base_parameters(after.model))
