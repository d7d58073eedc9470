"""The blocks that a Layer Card would have placed, beside those that an adapter is on."""

from collections.abc import Iterable
from dataclasses import replace
from statistics import median

from layerwise.card.record import LayerCard
from layerwise.placement.cost import placement_cost
from layerwise.placement.place import choose
from layerwise.placement.record import PlacedBlock
from layerwise.placement.rows import adaptable_rows
from layerwise.profile.audit import agreement
from layerwise.profile.audit_record import Audit, CardPlacement


def compare_with_card(audit: Audit, card: LayerCard) -> Audit:
    """Return `audit` with what `card` would have placed.

    That is its advised choice: as many blocks as the adapter is on, or, where the adapter is on
    all that can be adapted, as many as it takes by default (ours).

    Raises:
        PlacementError: The card lacks what its advice goes by.
    """
    rows = {(layer.stack, layer.index): row for row, layer in enumerate(card.layers)}
    adapted = sorted(rows[b.stack, b.index] for b in audit.blocks if (b.stack, b.index) in rows)
    fewer = 0 < len(adapted) < len(adaptable_rows(card))
    choice = choose(card, layers=len(adapted) if fewer else None)
    chosen = set(choice.rows)
    blocks = tuple(
        replace(block, carded=rows.get((block.stack, block.index)) in chosen)
        for block in audit.blocks
    )
    rank = max(round(median(m.rank / m.experts for m in audit.modules)), 1)  # A typical adapter's.
    cost = placement_cost(card, adapted, rank=rank) if adapted else None
    whole = sum(b.frobenius_norm**2 for b in blocks)
    inside = sum(b.frobenius_norm**2 for b in blocks if b.carded)
    norms = {(layer.stack, layer.index): layer.residual_norm for layer in card.layers}

    def placed(rows: Iterable[int]) -> tuple[PlacedBlock, ...]:
        return tuple(PlacedBlock(card.layers[row].stack, card.layers[row].index) for row in rows)

    placement = CardPlacement(
        data=card.data.source,
        objective=card.data.objective,
        policy=choice.policy,
        blocks=placed(choice.rows),
        shared=len(chosen.intersection(adapted)),
        missed=placed(sorted(chosen.difference(adapted))),
        elsewhere=placed(row for row in adapted if row not in chosen),
        norm_share=inside / whole if whole > 0.0 else 0.0,
        spearman=agreement([(norms.get((b.stack, b.index)), b.relative_norm) for b in blocks]),
        step_ratio=None if choice.cost is None else choice.cost.step_ratio,
        adapter_step_ratio=None if cost is None else cost.step_ratio,
    )
    return replace(audit, blocks=blocks, card=placement)
