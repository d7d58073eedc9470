"""The audit of an adapter by itself: on its base, or from its files where that is not there."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from layerwise.card.describe import model_info
from layerwise.card.record import LayerCard
from layerwise.errors import BadInputError, ModelError
from layerwise.models.heads import adapter_classes
from layerwise.models.load import LoadedModel, attach, inside, merge
from layerwise.models.sources import Source, named_base, resolve
from layerwise.placement.compare import refuse_another_model
from layerwise.profile.audit import compare_with_card, make_audit
from layerwise.profile.audit_files import audit_files
from layerwise.profile.audit_outputs import record_outputs
from layerwise.profile.audit_record import Audit
from layerwise.profile.compare_states import base_info, in_hand, refuse_other_states
from layerwise.profile.probe_reading import ProbeReading
from layerwise.progress import Progress, silent
from layerwise.provenance import collect
from layerwise.tuning.adapters import adapter_notes, has_adapters

Load = Callable[..., LoadedModel]


def audit_adapter(
    adapter: Any,
    *,
    reading: ProbeReading,
    load: Load,
    card: LayerCard | None = None,
    verify: bool = False,
    tokenizer: Any = None,
    progress: Progress = silent,
) -> Audit:
    """Return the audit of `adapter`: what a user names, or a model in hand that has one.

    Args:
        adapter: A PEFT adapter folder or hub id; or a model in hand with adapters.
        reading: How the probes are shown, on which its effect is measured.
        load: Loads the base, with a head for the classes ``labels`` where they are not None.
        card: A card of the base to hold it against.
        verify: Whether the whole forward with it is tried against PEFT's.
        tokenizer: That of a transformers model in hand; read from where the model was if None.
        progress: Hears how far the forward is.

    Raises:
        BadInputError: It is no adapter, or there is a card and no base.
        ModelError: The adapter or its base cannot be read, or do not fit.
        SchemaError: The card is of another model.
        NonFiniteError: A weight of the adapter is NaN or infinite.
    """
    found, merged = in_hand(adapter, tokenizer), None
    if isinstance(found, str):
        source = resolve(found)
        if source.form != "adapter":
            msg = "model that is no adapter"
            expected = "a folder or hub id with adapter_config.json"
            hint = f"layerwise profile BASE {found}"
            raise BadInputError(msg, value=found, expected=expected, hint=hint)
        classes, _ = adapter_classes(source)
        try:
            base = load(named_base(source), labels=classes)
        except ModelError as error:
            why = f"{error.what}: {error.value or source.name}"
            _refuse_without_base(source, why, card=card, verify=verify)
            return audit_files(source, why=why)
        if card is not None:
            refuse_another_model(model_info(base), card.model)
        found = attach(base, source)
        if verify:
            merged = merge(load(named_base(source), labels=classes), source)
    elif verify or not (isinstance(found, LoadedModel) and has_adapters(found.model)):
        msg = "model in hand to verify" if verify else "model in hand without adapters"
        expected = "the name of an adapter" if verify else "a PeftModel, or the name of an adapter"
        raise BadInputError(msg, value=type(adapter).__name__, expected=expected)
    elif card is not None:
        refuse_another_model(replace(base_info(model_info(found), found), files={}), card.model)
    return _on_base(inside(found), reading, card, progress, merged)


def _refuse_without_base(source: Source, why: str, *, card: LayerCard | None, verify: bool) -> None:
    if card is not None or verify:
        what, option = ("card beside", "card") if card is not None else ("proof of", "verify")
        msg = f"{what} an adapter whose base is not to be had ({why})"
        raise BadInputError(msg, value=source.name, expected="its base", hint=f"no --{option}")


def _on_base(
    loaded: LoadedModel,
    reading: ProbeReading,
    card: LayerCard | None,
    progress: Progress,
    merged: LoadedModel | None,
) -> Audit:
    """Return the audit of the adapters on a model, with their effect on the probes.

    Where it is there `merged` too, that must make the same of them.
    """
    notes, changes = list(adapter_notes(loaded.model)), dict[str, float]()
    try:
        with record_outputs(loaded.model) as outputs:
            states = reading.states(replace(loaded, notes=()), progress=progress)
        changes |= outputs.changes
    except ModelError as error:  # A tower of pictures alone, say.
        if merged is not None:
            raise
        notes.append(f"what the adapter adds to outputs is not known: {error}")
    if merged is not None:
        other = reading.states(merged, progress=progress)
        notes.append(refuse_other_states(other, states, loaded.source))
    audit = make_audit(loaded.model, changes)
    audit = audit if card is None else compare_with_card(audit, card)
    return replace(
        audit,
        notes=(*loaded.notes, *audit.notes, *notes),
        model=model_info(loaded),
        provenance=collect(device=str(loaded.device)),
    )
