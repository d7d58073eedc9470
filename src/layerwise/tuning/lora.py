"""LoRA for a run: where adapters go without a card, and how deep the backward then is."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from layerwise.errors import PlacementError, SchemaError
from layerwise.models.load import LoadedModel
from layerwise.models.stack import BlockRef, all_refs, find_stacks
from layerwise.models.targets import Target, resolve_targets
from layerwise.placement.record import PlacedBlock, Placement
from layerwise.placement.verify import apply

__all__ = ["adapted", "placed_on", "stop_at_lowest"]

#: The `lora` condition of arXiv 2604.17177; it names no alpha (ours).
RANK, ALPHA, DROPOUT = 8, 16, 0.1


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
    rows = _rows(refs, blocks) if blocks is not None else sorted({t.row for t in found})
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
        adapter_parameters=sum(_size(t, rank) for t in inside),
        model=loaded.source,
        revision=loaded.revision,
        dropout=dropout,
    )


def _size(target: Target, rank: int) -> int:
    return rank * (target.in_features + target.out_features)


def _rows(refs: Sequence[BlockRef], blocks: Sequence[int | PlacedBlock]) -> list[int]:
    """The rows that `blocks` mean; a number alone counts within the only stack."""
    stacks = list(dict.fromkeys(ref.stack for ref in refs))
    by_place = {(ref.stack, ref.index): row for row, ref in enumerate(refs)}
    rows = []
    for block in blocks:
        if isinstance(block, int) and len(stacks) > 1:
            message = "block of a model with several stacks"
            hint = f"{stacks[0]}:{block} or {stacks[-1]}:{block}"
            raise PlacementError(message, value=block, expected="STACK:INDEX", hint=hint)
        key = (stacks[0], block) if isinstance(block, int) else (block.stack, block.index)
        if key not in by_place or by_place[key] in rows:
            message = "block named twice" if key in by_place else "block that is not there"
            expected = ", ".join(f"{s}:0 to {s}:{_last(refs, s)}" for s in stacks)
            raise PlacementError(message, value=block, expected=expected)
        rows.append(by_place[key])
    return sorted(rows)


def _last(refs: Sequence[BlockRef], stack: str) -> int:
    return max(ref.index for ref in refs if ref.stack == stack)


def adapted(loaded: LoadedModel, placement: Placement) -> LoadedModel:
    """`loaded` as a PEFT model with adapters on the placement's modules, checked; changed in place.

    Raises:
        SchemaError: The placement is for another model.
        VerificationError: PEFT would adapt other modules than those.
    """
    names = {name for name, _ in loaded.model.named_modules()}
    if not names.issuperset(placement.modules):
        lacking = next(m for m in placement.modules if m not in names)
        message = "placement for another model"
        raise SchemaError(message, value=placement.model, expected=f"one without {lacking}")
    model = apply(placement, loaded.model)
    return replace(loaded, model=model, stacks=find_stacks(model))


def stop_at_lowest(model: Any) -> None:
    """Let the backward pass of an adapted model stop at its lowest adapter.

    With gradient checkpointing, libraries make the embeddings' output require a gradient, since
    reentrant checkpointing drops gradients otherwise. It takes the backward down to the input,
    whatever is adapted. Non-reentrant checkpointing needs no such thing.
    """
    for module in model.modules():
        if hasattr(module, "disable_input_require_grads"):
            module.disable_input_require_grads()
