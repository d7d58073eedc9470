"""LoRA for a run: where adapters go without a card, or where they are."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from layerwise.errors import ModelError, PlacementError, SchemaError
from layerwise.models.heads import head_modules
from layerwise.models.load import LoadedModel
from layerwise.models.sources import on_disk
from layerwise.models.stack import all_refs, find_stacks
from layerwise.models.targets import resolve_targets
from layerwise.objectives.forward import without_adapter
from layerwise.options.declaration import declared
from layerwise.options.stages import PlacementSettings
from layerwise.placement.record import PlacedBlock, Placement
from layerwise.placement.rows import locate, parse_rows
from layerwise.placement.verify import apply
from layerwise.tuning.adapters import has_adapters

#: In the name of a parameter of a module that trains whole beside the adapters.
_WHOLE = ".modules_to_save.default."
_DEFAULTS = declared(PlacementSettings)
#: The `lora` condition of arXiv 2604.17177; it names no alpha (ours).
RANK, ALPHA, DROPOUT = (_DEFAULTS[name].default for name in ("rank", "alpha", "dropout"))


def named_placement(
    named: Placement | Path | str | Sequence[int | PlacedBlock] | None, loaded: LoadedModel
) -> Placement | None:
    """Return the placement that a user means, made for `loaded` where blocks alone are named.

    That is a placement, a file that holds one, or blocks (``"3,7,11"``).

    Raises:
        PlacementError: A block is not there, is named twice, or has no module to adapt.
        SchemaError: The file holds no placement.
    """
    named = read_placement(named)
    if named is None or isinstance(named, Placement):
        return named
    return placed_on(loaded, parse_rows(named) if isinstance(named, str) else named)


def read_placement(
    named: Placement | Path | str | Sequence[int | PlacedBlock] | None,
) -> Placement | str | Sequence[int | PlacedBlock] | None:
    """Return the placement in the file that is named; what names none as it is.

    Raises:
        SchemaError: The file holds no placement.
    """
    if isinstance(named, str) and (named.endswith(".json") or Path(named).exists()):
        named = Path(named)
    if not isinstance(named, Path):
        return named
    try:
        return Placement.load(named)
    except SchemaError as error:
        hint = error.hint or "layerwise place CARD, which makes a placement of a card"
        raise SchemaError(
            error.what, value=error.value, expected=error.expected, hint=hint
        ) from error


def placed_on(
    loaded: LoadedModel,
    blocks: Sequence[int | PlacedBlock] | None = None,
    *,
    rank: int = RANK,
    alpha: int = ALPHA,
    dropout: float = DROPOUT,
    targets: Sequence[str] | None = None,
) -> Placement:
    """Adapters on `blocks` of a model that has no card; on all of them where None.

    Raises:
        PlacementError: A block is not there, is named twice, or has no module to adapt.
        UnknownNameError: A target names no module.
    """
    refs = all_refs(loaded.stacks)
    found = resolve_targets(loaded.model, loaded.stacks, targets)
    rows = locate(refs, blocks) if blocks is not None else sorted({t.row for t in found})
    inside = [t for t in found if t.row in set(rows)]
    bare = set(rows) - {t.row for t in inside}
    if bare:
        message = "block without a module to adapt"
        raise PlacementError(message, value=refs[min(bare)].name, hint="other --targets")
    return Placement(
        policy="all" if blocks is None else "manual",
        blocks=tuple(PlacedBlock(refs[r].stack, refs[r].index) for r in rows),
        modules=tuple(t.name for t in inside),
        rank=rank,
        alpha=alpha,
        adapter_parameters=sum(rank * (t.in_features + t.out_features) for t in inside),
        model=loaded.source,
        revision=loaded.revision,
        dropout=dropout,
    )


def prepared(loaded: LoadedModel, placement: Placement | None) -> tuple[LoadedModel, Placement]:
    """Return `loaded` with adapters, and where they are; changed in place.

    A model that has adapters keeps them, wherever they are, unless `placement` says otherwise. One
    without gets them where `placement` says, or on all blocks.

    Raises:
        SchemaError: The placement is for another model, or for other modules or ranks than those of
            the adapters that are there.
        ModelError: There are adapters of another kind than LoRA.
        VerificationError: PEFT would adapt other modules than the placement's.
    """
    if not has_adapters(loaded.model):
        placed = placement or placed_on(loaded)
        return adapted(loaded, placed), placed
    found = _found(loaded)
    if placement is None:
        return loaded, found
    expected = "its own placement, or none"
    odd = set(placement.modules) ^ set(found.modules)
    if odd:
        message = "model with adapters on other modules than the placement's"
        raise SchemaError(message, value=min(odd), expected=expected)
    for name in found.modules:
        if placement.rank_of(name) != found.rank_of(name):
            message = f"adapter on {name} of another rank than the placement's"
            raise SchemaError(message, value=found.rank_of(name), expected=expected)
    return loaded, placement


def _found(loaded: LoadedModel) -> Placement:
    """Return where the LoRA adapters of a PEFT model are."""
    model, base = loaded.model, without_adapter(loaded.model)
    layers = {name: m for name, m in base.named_modules() if hasattr(m, "lora_A")}
    if not layers or any("default" not in layer.lora_A for layer in layers.values()):
        hint = "placement.apply(model)"
        message = "adapters that cannot be trained here"
        raise ModelError(message, value=loaded.source, expected="LoRA, as `default`", hint=hint)
    config = model.peft_config["default"]
    refs = all_refs(find_stacks(base))
    inside = [ref for ref in refs if any(name.startswith(f"{ref.name}.") for name in layers)]
    ranks = {n: layer.r["default"] for n, layer in layers.items() if layer.r["default"] != config.r}
    usual = config.lora_alpha / config.r
    scales = {n: x for n in ranks if (x := layers[n].scaling["default"]) != usual}
    told = f"adapters of another rank are scaled by other than alpha / rank = {usual:g}: "
    odd = ", ".join(f"{name} ({scale:g})" for name, scale in scales.items())
    return Placement(
        policy="manual",
        blocks=tuple(PlacedBlock(ref.stack, ref.index) for ref in inside),
        modules=tuple(layers),
        rank=config.r,
        alpha=config.lora_alpha,
        adapter_parameters=sum(p.numel() for n, p in model.named_parameters() if ".lora_" in n),
        model=loaded.source,
        revision=loaded.revision,
        dropout=config.lora_dropout,
        notes=(told + odd,) if odd else (),
        ranks=ranks or None,
    )


def adapted(loaded: LoadedModel, placement: Placement) -> LoadedModel:
    """Put adapters on the placement's modules of `loaded`, checked; changed in place.

    Raises:
        SchemaError: The placement is for another model.
        VerificationError: PEFT would adapt other modules than those.
    """
    names = {name for name, _ in loaded.model.named_modules()}
    if not names.issuperset(placement.modules):
        lacking = next(m for m in placement.modules if m not in names)
        expected = f"one for {loaded.source}, which has no {lacking}"
        message = "placement for another model"
        raise SchemaError(message, value=placement.model, expected=expected)
    model = apply(placement, loaded.model)
    base = on_disk(loaded.source)
    if Path(base).exists():  # The adapter shall find its base from wherever it is loaded.
        model.active_peft_config.base_model_name_or_path = base
    return replace(loaded, model=model, stacks=find_stacks(model))


def adapter_parameters(model: nn.Module) -> tuple[str, ...]:
    """Name what trains in a PEFT `model`: each adapter's A and B, a head beside them."""
    kinds = (".lora_", _WHOLE)
    return tuple(n for n, _ in model.named_parameters() if any(kind in n for kind in kinds))


def head_notes(model: nn.Module, placement: Placement) -> tuple[str, ...]:
    """Tell if the head of a `model` for classes trains beside what is placed; empty without."""
    base = without_adapter(model)
    heads = head_modules(base)
    if not heads:
        return ()
    held = placement.whole or any(_WHOLE in name for name, _ in model.named_parameters())
    beside = "blocks" if placement.whole else "adapters"
    told = f"trains whole, beside the {beside}" if held else "stays: the adapters do not hold it"
    return (f"the head ({', '.join(heads)}) {told}",)
