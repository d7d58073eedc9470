"""What a Layer Card would have placed, beside where an adapter is."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from layerwise.card.record import LayerCard, ModelInfo
from layerwise.placement.compare import refuse_another_model
from layerwise.placement.cost import placement_cost
from layerwise.placement.place import choose
from layerwise.placement.record import PlacedBlock
from layerwise.placement.rows import adaptable_rows
from layerwise.profile.audit import agreement
from layerwise.profile.audit_record import Audit, BlockAudit, CardPlacement

__all__ = ["compare_with_card", "refuse_foreign_card"]


def refuse_foreign_card(card: LayerCard, base: ModelInfo) -> None:
    """Raise unless `card` is of the model that the adapter is on.

    Raises:
        SchemaError: It is not.
    """
    refuse_another_model(base, card.model)


def compare_with_card(audit: Audit, card: LayerCard) -> Audit:
    """`audit` with what `card` would have placed.

    That is its advised choice: as many blocks as the adapter is on, or, where the adapter is on
    all that can be adapted, as many as it takes by default (ours).

    Raises:
        PlacementError: The card lacks what its advice goes by.
    """
    places = [(layer.stack, layer.index) for layer in card.layers]
    adapted = [row for row, place in enumerate(places) if place in _known(audit)]
    fewer = 0 < len(adapted) < len(adaptable_rows(card))
    choice = choose(card, layers=len(adapted) if fewer else None)
    chosen = set(choice.rows)
    blocks = tuple(replace(b, carded=_row(b, places) in chosen) for b in audit.blocks)
    cost = placement_cost(card, adapted, rank=_rank(audit)) if adapted else None
    found = CardPlacement(
        data=card.data.source,
        objective=card.data.objective,
        policy=choice.policy,
        blocks=_placed(choice.rows, card),
        shared=len(chosen.intersection(adapted)),
        missed=_placed(sorted(chosen.difference(adapted)), card),
        elsewhere=_placed([row for row in adapted if row not in chosen], card),
        norm_share=_norm_share(blocks),
        spearman=_rank_agreement(blocks, card),
        step_ratio=None if choice.cost is None else choice.cost.step_ratio,
        adapter_step_ratio=None if cost is None else cost.step_ratio,
    )
    return replace(audit, blocks=blocks, card=found)


def _known(audit: Audit) -> set[tuple[str, int]]:
    return {(block.stack, block.index) for block in audit.blocks}


def _row(block: BlockAudit, places: Sequence[tuple[str, int]]) -> int:
    """The card's row of a block; -1 where the card has none."""
    place = (block.stack, block.index)
    return places.index(place) if place in places else -1


def _rank(audit: Audit) -> int:
    """The rank of a typical adapter, at least 1."""
    return max(round(median(m.rank / m.experts for m in audit.modules)), 1)


def _placed(rows: Sequence[int], card: LayerCard) -> tuple[PlacedBlock, ...]:
    return tuple(PlacedBlock(card.layers[row].stack, card.layers[row].index) for row in rows)


def _norm_share(blocks: Sequence[BlockAudit]) -> float:
    whole = sum(b.frobenius_norm**2 for b in blocks)
    inside = sum(b.frobenius_norm**2 for b in blocks if b.carded)
    return inside / whole if whole > 0.0 else 0.0


def _rank_agreement(blocks: Sequence[BlockAudit], card: LayerCard) -> float | None:
    norms = {(layer.stack, layer.index): layer.residual_norm for layer in card.layers}
    return agreement([(norms.get((b.stack, b.index)), b.relative_norm) for b in blocks])
