"""The audit of an adapter: its spectra, its size by depth, dead modules, wasted rank, its place."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import ceil, sqrt
from statistics import median

import numpy as np
from torch import nn

from layerwise.card.record import LayerCard
from layerwise.models.stack import BlockRef, blocks_of, find_stacks
from layerwise.objectives.forward import without_adapter
from layerwise.placement.cost import placement_cost
from layerwise.placement.place import choose
from layerwise.placement.record import PlacedBlock
from layerwise.placement.rows import adaptable_rows
from layerwise.profile.audit_record import Audit, BlockAudit, CardPlacement, ModuleAudit, Spectrum
from layerwise.profile.audit_update import (
    DORA_NOTE,
    Update,
    adapted_layers,
    adapter_kinds,
    dora_change,
    saved_modules,
    unread_reason,
    update,
    whole_modules,
)
from layerwise.signals.ranks import spearman
from layerwise.signals.spectrum import (
    effective_rank,
    energy_rank,
    product_singular_values,
    spectral_norm,
    stable_rank,
)
from layerwise.tuning.adapters import adapter_configs

# What is not counted, in so many modules.
_UNKNOWN = "the weights of {} adapted modules are packed or not there: their norms are not known"
_MAGNITUDES = "DoRA's magnitudes of {} modules are not counted"
#: The share of modules that `Audit.enough_rank` must do for (ours).
_MOST = 0.9


def make_audit(model: nn.Module, outputs: Mapping[str, float]) -> Audit:
    """Return the audit of the active adapters on `model`.

    No update is formed: the work is that of two thin QR decompositions a module, and of one
    spectral norm for the weight that it adapts.

    Args:
        model: A model with adapters, unmerged.
        outputs: By module, the relative change that the adapter makes to its output.

    Raises:
        NonFiniteError: A factor has a value that is NaN or infinite.
        StackError: The model's blocks cannot be found.
    """
    layers = dict(adapted_layers(model))
    places = blocks_of(layers, find_stacks(without_adapter(model)))
    unread = {name: why for name, layer in layers.items() if (why := unread_reason(layer))}
    updates = ((name, update(name, layer)) for name, layer in layers.items() if name not in unread)
    audit = audit_updates(updates, places, outputs)
    configs, saved = adapter_configs(model).values(), saved_modules(model)
    lost = () if saved else whole_modules(configs)
    said = f"what was trained whole beside the adapters ({', '.join(lost)}) has no place here"
    return replace(
        audit,
        kinds=adapter_kinds(configs),
        unread=unread,
        saved_modules=saved,
        notes=(*audit.notes, said) if lost else audit.notes,
    )


def audit_updates(
    updates: Iterable[tuple[str, Update]],
    places: Mapping[str, BlockRef],
    outputs: Mapping[str, float],
) -> Audit:
    """Return the audit of the `updates`, each read when its turn comes, of modules by name."""
    modules, counts = list[ModuleAudit](), Counter[str]()
    for name, found in updates:
        made = _module(name, found, places.get(name), outputs.get(name))
        modules.append(made)
        counts.update(found.notes)
        counts[_MAGNITUDES] += DORA_NOTE in found.notes and made.whole_relative_norm is None
        counts[_UNKNOWN] += made.base_frobenius_norm is None
    live = [m for m in modules if not m.dead]
    # The least rank that `_MOST` of the modules do with for 90 % of their energy.
    ranks = sorted(ceil(m.update.energy_rank_90 / m.experts) for m in live)
    blocks = _blocks(modules)
    return Audit(
        kinds=(),
        modules=tuple(modules),
        blocks=blocks,
        parameters=sum(m.parameters for m in modules),
        dead=tuple(m.name for m in modules if m.dead),
        stable_rank=_median(m.update.stable_rank for m in live),
        effective_rank=_median(m.update.effective_rank for m in live),
        energy_rank_90=_median(m.update.energy_rank_90 for m in live),
        utilisation=_median(m.update.stable_rank / m.rank for m in live),
        enough_rank=ranks[ceil(_MOST * len(ranks)) - 1] if ranks else 0,
        wasted_share=_wasted(modules),
        frobenius_norm=_root_sum(m.update.frobenius_norm for m in modules),
        relative_norm=_relative(modules),
        depth_agreement=agreement([(b.relative_norm, b.output_change) for b in blocks]),
        notes=tuple(text.format(count) for text, count in counts.items() if count),
    )


def _module(
    name: str, found: Update, block: BlockRef | None, output_change: float | None
) -> ModuleAudit:
    figures = spectrum(product_singular_values(found.up, found.down))
    whole_norm, moved = dora_change(found) or (None, False)
    weight = found.base
    largest = None if weight is None else spectral_norm(weight)
    length = None if weight is None else sqrt(float(np.square(weight, dtype=np.float64).sum()))
    return ModuleAudit(
        name=name,
        stack=None if block is None else block.stack,
        index=None if block is None else block.index,
        rank=found.rank,
        parameters=found.parameters,
        dead=figures.spectral_norm == 0.0 and not moved,
        update=figures,
        experts=len(found.up),
        base_spectral_norm=largest,
        base_frobenius_norm=length,
        dominance=_ratio(figures.spectral_norm, largest),
        relative_norm=_ratio(figures.frobenius_norm, length),
        whole_relative_norm=None if whole_norm is None else _ratio(whole_norm, length),
        output_change=output_change,
    )


def spectrum(values: np.ndarray) -> Spectrum:
    """Return the figures of an update with these singular values, (k,), largest first."""
    return Spectrum(
        spectral_norm=float(values[0]) if values.size else 0.0,
        frobenius_norm=float(np.linalg.norm(values)),
        stable_rank=stable_rank(values),
        effective_rank=effective_rank(values),
        energy_rank_90=energy_rank(values, share=0.90),
        energy_rank_95=energy_rank(values, share=0.95),
        energy_rank_99=energy_rank(values, share=0.99),
    )


def _ratio(part: float, whole: float | None) -> float | None:
    return part / whole if whole else None


def _median(values: Iterable[float]) -> float:
    found = list(values)
    return float(median(found)) if found else 0.0


def _root_sum(values: Iterable[float]) -> float:
    return sqrt(sum(value**2 for value in values))


def _wasted(modules: Sequence[ModuleAudit]) -> float:
    held = sum(m.parameters for m in modules)
    used = sum(m.parameters * m.update.energy_rank_99 / m.rank for m in modules if m.rank)
    return 1.0 - used / held if held else 0.0


def _relative(modules: Sequence[ModuleAudit]) -> float | None:
    """Return the norm of the updates over that of their weights; None where one is unknown."""
    known = [m.base_frobenius_norm for m in modules if m.base_frobenius_norm is not None]
    whole = _root_sum(known) if len(known) == len(modules) else None
    return _ratio(_root_sum(m.update.frobenius_norm for m in modules), whole)


def _blocks(modules: Sequence[ModuleAudit]) -> tuple[BlockAudit, ...]:
    by_block: dict[tuple[str, int], list[ModuleAudit]] = {}
    for module in modules:
        if module.stack is not None and module.index is not None:
            by_block.setdefault((module.stack, module.index), []).append(module)
    blocks = []
    for (stack, index), inside in by_block.items():
        changes = [m.output_change for m in inside if m.output_change is not None]
        block = BlockAudit(
            stack=stack,
            index=index,
            modules=len(inside),
            dead=sum(m.dead for m in inside),
            rank=sum(m.rank for m in inside),
            parameters=sum(m.parameters for m in inside),
            frobenius_norm=_root_sum(m.update.frobenius_norm for m in inside),
            energy_rank_90=sum(m.update.energy_rank_90 for m in inside),
            wasted_share=_wasted(inside),
            relative_norm=_relative(inside),
            dominance=max((m.dominance for m in inside if m.dominance is not None), default=None),
            output_change=_root_sum(changes) / sqrt(len(changes)) if changes else None,
        )
        blocks.append(block)
    return tuple(blocks)


def agreement(pairs: Iterable[tuple[float | None, float | None]]) -> float | None:
    """Return Spearman's correlation of the `pairs` that have both sides; None under three."""
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    if len(known) < 3:
        return None
    first, second = np.array(known, dtype=np.float64).T
    return spearman(first, second)


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
