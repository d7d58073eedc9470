"""Before and after, from what a user names: one model in memory at a time, one copy of a base."""

import gc
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from layerwise.card.describe import model_info
from layerwise.card.record import LayerCard, ModelInfo
from layerwise.errors import BadInputError, ModelError
from layerwise.models.heads import adapter_classes
from layerwise.models.load import LoadedModel
from layerwise.models.sources import adapter_base, resolve
from layerwise.models.wrap_model import wrap_model
from layerwise.profile.audit import make_audit
from layerwise.profile.audit_card import beside_card, refuse_foreign_card
from layerwise.profile.audit_outputs import Outputs, heard
from layerwise.profile.audit_record import Audit
from layerwise.profile.reading import Reading
from layerwise.profile.states import States
from layerwise.progress import Progress, silent
from layerwise.tuning.adapters import (
    adapter_notes,
    attach,
    base_of,
    base_parameters,
    disabled,
    has_adapters,
    inseparable,
    untrained_modules,
)

__all__ = ["Auditing", "Pair", "read_pair"]

_LOG = logging.getLogger(__name__)

Load = Callable[..., LoadedModel]


@dataclass(frozen=True)
class Pair:
    """Both states of a profile.

    Attributes:
        before: The states before.
        after: The states after.
        device: Where the model after ran.
        untrained_modules: Modules whose adapter never trained.
        notes: What was done otherwise than asked.
        audit: What the adapter is, where that was asked for and there is one on the model before.
    """

    before: States
    after: States
    device: str
    untrained_modules: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    audit: Audit | None = None


@dataclass(frozen=True)
class Auditing:
    """That an adapter shall be looked into, beside what `card` would have placed, if any."""

    card: LayerCard | None = None

    def refuse_card(self, why: str) -> None:
        """Raise where there is a card, but no adapter to hold against it.

        Raises:
            BadInputError: There is.
        """
        if self.card is not None:
            msg = f"card beside what cannot be audited: {why}"
            hint = "layerwise profile BASE ADAPTER --card CARD"
            raise BadInputError(msg, expected="an adapter on the model before", hint=hint)

    def check(self, base: ModelInfo) -> None:
        """Raise where the card is not of the model under the adapter.

        Raises:
            SchemaError: It is not.
        """
        if self.card is not None:
            refuse_foreign_card(self.card, base)

    def audit(self, adapted: LoadedModel, outputs: Outputs) -> Audit:
        """What the adapter on `adapted` is."""
        found = make_audit(adapted.model, outputs.changes)
        return found if self.card is None else beside_card(found, self.card)


def read_pair(
    before: Any,
    after: Any,
    *,
    reading: Reading,
    load: Load,
    progress: Progress = silent,
    auditing: Auditing | None = None,
) -> Pair:
    """The states of two models, or of a base and an adapter on it.

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
        auditing: Whether an adapter is looked into too, and beside which card.

    Raises:
        BadInputError: There is no model before to be had.
        ModelError: A model cannot be loaded, or the adapter does not fit.
    """
    before, after = _in_hand(before), _in_hand(after)
    if isinstance(after, str):
        form = resolve(after, weights=False).form
        if form == "adapter" and not isinstance(before, LoadedModel | States):
            return _adapter_file(
                before, after, reading=reading, load=load, progress=progress, auditing=auditing
            )
    if isinstance(after, LoadedModel) and has_adapters(after.model):
        return _adapter_in_hand(
            before, after, reading=reading, load=load, progress=progress, auditing=auditing
        )
    if before is None:
        msg = "no model to compare with"
        expected = "a model before, or an adapter, whose base it is"
        raise BadInputError(msg, expected=expected, hint="the model that was fine-tuned")
    _refuse_same(before, after)
    if auditing is not None:
        auditing.refuse_card("there is no adapter")
    return _two(before, after, reading=reading, load=load, progress=progress)


def _in_hand(model: Any) -> Any:
    """What `tune` returned as its model, a transformers model as loaded, the rest as it is."""
    model = getattr(model, "loaded", model)
    is_known = model is None or isinstance(model, str | LoadedModel | States)
    return model if is_known else wrap_model(model)


def _refuse_same(before: Any, after: Any) -> None:
    """Raise where both are one model in hand: it was trained in place, and what it was is gone.

    Raises:
        BadInputError: They are.
    """
    both = (before, after)
    if all(isinstance(m, LoadedModel) for m in both) and before.model is after.model:
        msg = "the models before and after are one object: training changed it in place"
        expected = "the model as it was before"
        hint = f"profile({before.source!r}, after), or read its states before training"
        raise BadInputError(msg, expected=expected, hint=hint)


def _states(model: Any, when: str, reading: Reading, load: Load, progress: Progress) -> States:
    """The states of what a user gave; a model that is loaded here is gone on return."""
    if isinstance(model, States):
        return model
    loaded = load(model) if isinstance(model, str) else model
    found = reading.states(loaded, title=f"probes {when}", progress=progress)
    if isinstance(model, str):
        del loaded
        gc.collect()  # Some models hold themselves in a cycle; the next one needs the room.
    return found


def _two(before: Any, after: Any, *, reading: Reading, load: Load, progress: Progress) -> Pair:
    first = _states(before, "before", reading, load, progress)
    loaded = load(after) if isinstance(after, str) else after
    second = _states(loaded, "after", reading, load, progress)
    device = "" if isinstance(loaded, States) else _device(loaded)
    return Pair(first, second, device)


def _device(loaded: LoadedModel) -> str:
    return str(next(loaded.model.parameters()).device)


def _heard(adapted: LoadedModel, auditing: Auditing | None) -> AbstractContextManager[Outputs]:
    """Inside, what the adapters on `adapted` add is heard, where they are to be looked into."""
    return nullcontext(Outputs()) if auditing is None else heard(adapted.model)


def _unaudited(auditing: Auditing | None, why: str) -> tuple[str, ...]:
    """The note that an adapter which is there is not looked into, where that was asked for.

    Raises:
        BadInputError: A card was to be held against it.
    """
    if auditing is None:
        return ()
    auditing.refuse_card(why)
    _LOG.warning("no audit of the adapter: %s", why)
    return (f"no audit of the adapter: {why}",)


def _adapter_file(
    before: str | None,
    after: str,
    *,
    reading: Reading,
    load: Load,
    progress: Progress,
    auditing: Auditing | None,
) -> Pair:
    """The base, then the adapter that a user names `after` on the same weights."""
    source = resolve(after)
    named = adapter_base(source)
    why = inseparable(source.folder)
    notes: tuple[str, ...] = ()
    base = named if before is None else before
    if not why and before is not None and not _same(before, named):
        if _there(named):
            notes = _unaudited(auditing, f"it was read on its own base, {named}")
            found = _two(before, after, reading=reading, load=load, progress=progress)
            return replace(found, notes=notes)
        notes = (f"the adapter names a base that is not there ({named}); it was put on {before}",)
    if why:
        notes = (f"two copies of the weights were read, since {why}", *_unaudited(auditing, why))
        found = _two(base, after, reading=reading, load=load, progress=progress)
        return replace(found, notes=notes)
    loaded = load(base, labels=adapter_classes(source, None))
    if auditing is not None:
        auditing.check(model_info(loaded))
    first = _states(loaded, "before", reading, load, progress)
    adapted = attach(loaded, source)
    with _heard(adapted, auditing) as outputs:
        second = _states(replace(adapted, notes=()), "after", reading, load, progress)
    audit = None if auditing is None else auditing.audit(adapted, outputs)
    return _with_adapter(Pair(first, second, _device(adapted), notes=notes, audit=audit), adapted)


def _same(one: str, other: str) -> bool:
    """Whether two names lead to the same model files."""
    if one == other:
        return True
    try:
        found = [resolve(name, weights=False) for name in (one, other)]
    except ModelError:
        return False
    places = [(source.folder.resolve(), source.file) for source in found]
    return places[0] == places[1]


def _there(name: str) -> bool:
    try:
        resolve(name, weights=False)
    except ModelError:
        return False
    return True


def _adapter_in_hand(
    before: Any,
    after: LoadedModel,
    *,
    reading: Reading,
    load: Load,
    progress: Progress,
    auditing: Auditing | None,
) -> Pair:
    """The model with its adapters switched off, then on; or another model before."""
    with _heard(after, auditing) as outputs:
        second = _states(after, "after", reading, load, progress)
    notes: tuple[str, ...] = ()
    if _is_base(before, after):
        with disabled(after.model):
            first = _states(after, "before", reading, load, progress)
        first = replace(first, model=_base_info(first.model, after))
    else:
        first = _states(before, "before", reading, load, progress)
        if auditing is not None and not isinstance(before, States):
            notes = ("the audit holds the adapter against its own base, not the model before",)
    audit = None
    if auditing is not None:
        auditing.check(_base_only(second.model, after))
        audit = auditing.audit(after, outputs)
    return _with_adapter(Pair(first, second, _device(after), notes=notes, audit=audit), after)


def _is_base(before: Any, after: LoadedModel) -> bool:
    """Whether the model before is the one under the adapters of `after`."""
    if isinstance(before, LoadedModel):
        return base_of(before.model) is base_of(after.model)
    names = {after.base, after.source, str(base_of(after.model).name_or_path)} - {None, ""}
    return before is None or (
        isinstance(before, str) and any(_same(before, str(name)) for name in names)
    )


def _base_info(info: ModelInfo, after: LoadedModel) -> ModelInfo:
    """What a record says of the base: its own name, and its parameters without the adapters'."""
    name = after.base or str(base_of(after.model).name_or_path) or info.source
    return replace(info, source=name, base=None, parameters=base_parameters(after.model))


def _base_only(info: ModelInfo, after: LoadedModel) -> ModelInfo:
    """What is known of the base alone; its files only where they are not beside an adapter's."""
    return replace(_base_info(info, after), files={} if after.base else info.files)


def _with_adapter(pair: Pair, adapted: LoadedModel) -> Pair:
    """`pair` with what the adapters of the model after say about themselves."""
    untrained, notes = untrained_modules(adapted.model), adapter_notes(adapted.model)
    if untrained:
        _LOG.warning("%d adapted modules never trained, first %s", len(untrained), untrained[0])
    return replace(pair, untrained_modules=untrained, notes=(*pair.notes, *notes))
