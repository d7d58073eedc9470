"""A model and minimal pairs in; what erasing the pairs' concept does at each depth out."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from layerwise.errors import BadInputError, DataError
from layerwise.intervals import percentiles
from layerwise.models.load import LoadedModel
from layerwise.probing.leace import Eraser, eraser_name, fit_eraser, random_directions
from layerwise.probing.mean_states import MeanStates, ReadoutSettings, mean_states
from layerwise.probing.pairs import FEWEST, PairSet
from layerwise.probing.record import ErasedDepth, Erasure, ErasureSettings
from layerwise.progress import Progress, silent
from layerwise.provenance import collect
from layerwise.seeds import numpy_generator, torch_generator
from layerwise.shapes import Array, Tensor

__all__ = ["make_erasure"]

log = logging.getLogger(__name__)

#: Share of the variance along one direction from which on a note says so (ours).
_ONE_SIDED = 0.8


def make_erasure(
    loaded: LoadedModel,
    pairs: PairSet,
    *,
    settings: ErasureSettings | None = None,
    readout: ReadoutSettings | None = None,
    progress: Progress = silent,
) -> Erasure:
    """Return by how much erasing the concept of `pairs` draws their members together, by depth.

    Cross-fitted: pairs are judged under an eraser that was fitted on other pairs. No weight moves.

    Args:
        loaded: The model.
        pairs: The minimal pairs.
        settings: Folds, draws and the rest.
        readout: How the texts are shown to the model.
        progress: Hears how far the forward, then the erasure, are.

    Raises:
        BadInputError: A setting cannot be used.
        DataError: Too few pairs have members that read otherwise.
        NonFiniteError: A hidden state is NaN or infinite; names the block.
    """
    settings, readout = settings or ErasureSettings(), readout or ReadoutSettings()
    _refuse_settings(pairs, settings)
    found = mean_states(
        loaded,
        [pair.a for pair in pairs.pairs] + [pair.b for pair in pairs.pairs],
        source=pairs.source,
        sha256=pairs.sha256,
        columns={"a": "a", "b": "b"},
        readout=readout,
        progress=progress,
    )
    kept, notes = _that_differ(found, len(pairs))
    groups = _numbered(np.array(pairs.groups)[kept])
    folds, weights = _folds(groups, settings), _replicates(groups, settings)
    depths = []
    for index, relative, states in progress(found.each(), "erasing", len(found.depths)):
        rows = torch.from_numpy(states).to(found.device, torch.float64)
        judged = _fold_results(rows[: len(pairs)][kept], rows[len(pairs) :][kept], folds, settings)
        depths.append(_depth(index, relative, judged, weights))
    notes += _one_sided(depths, settings)
    for note in notes:
        log.warning("%s: %s", pairs.source, note)
    return Erasure(
        model=found.model,
        data=found.texts,
        pairs=len(groups),
        groups=int(groups.max()) + 1,
        stack=found.stack,
        readout=readout.readout,
        settings=settings,
        depths=tuple(depths),
        eraser=eraser_name(),
        provenance=collect(device=found.device),
        notes=tuple(dict.fromkeys((*pairs.notes, *notes, *found.notes, _circular(settings)))),
    )


def _circular(settings: ErasureSettings) -> str:
    return (
        f"each of {settings.folds} parts of the pairs was judged under an eraser fitted on the "
        "others; effect_in_sample alone is of the fit's own pairs"
    )


def _refuse_settings(pairs: PairSet, settings: ErasureSettings) -> None:
    """Raise where pairs cannot be parted so.

    Raises:
        BadInputError: There are fewer groups than folds, or settings are out of range.
    """
    for name, least in (("folds", 2), ("draws", 1), ("bootstrap", 1)):
        if getattr(settings, name) < least:
            raise BadInputError(name, value=getattr(settings, name), expected=f"at least {least}")
    apart = len(set(pairs.groups))
    if settings.folds > apart:
        msg = "more folds than pairs that share no text"
        raise BadInputError(msg, value=settings.folds, expected=f"at most {apart}")


def _that_differ(found: MeanStates, count: int) -> tuple[list[int], list[str]]:
    """Return the pairs whose members are not the same tokens, and a note on those left out.

    Raises:
        DataError: Too few are left.
    """
    ids, cut = found.token_ids, found.texts.max_length
    kept = [i for i in range(count) if ids[i] != ids[count + i]]
    same = count - len(kept)
    if same and len(kept) < FEWEST:
        msg = f"pairs whose members read the same in {cut} tokens"
        expected = f"at least {FEWEST} of {count} that differ"
        hint = "a larger --max-length"
        raise DataError(msg, value=same, expected=expected, hint=hint)
    told = f"{same} pairs whose members read the same in {cut} tokens were left out"
    return kept, [told] if same else []


def _numbered(groups: Array) -> Array:
    """Return the groups that are left, numbered from 0."""
    return np.asarray(np.unique(groups, return_inverse=True)[1])


def _one_sided(depths: Sequence[ErasedDepth], settings: ErasureSettings) -> list[str]:
    """Return a note where distances are about one direction."""
    blocks = [str(depth.index) for depth in depths if depth.top_variance > _ONE_SIDED]
    if not blocks or settings.standardised:
        return []
    told = f"one direction holds over {_ONE_SIDED:.0%} of the variance at blocks"
    hint = "distances there are about it alone; --standardise weighs all features alike"
    return [f"{told} {', '.join(blocks)}: {hint}"]


def _folds(groups: Array, settings: ErasureSettings) -> Array:
    """Return the fold of each pair; pairs of one group share theirs."""
    total = int(groups.max()) + 1
    order = numpy_generator(settings.seed, "erase folds").permutation(total)
    folds = np.empty(total, dtype=np.int64)
    folds[order] = np.arange(total) % min(settings.folds, total)
    return np.asarray(folds[groups])


def _replicates(groups: Array, settings: ErasureSettings) -> Array:
    """Return how often each pair counts in each bootstrap replicate, groups drawn whole, (b, m)."""
    total = int(groups.max()) + 1
    generator = numpy_generator(settings.seed, "erase bootstrap")
    counts = generator.multinomial(total, [1.0 / total] * total, size=settings.bootstrap)
    return np.asarray(counts[:, groups], dtype=np.float64)


@dataclass(frozen=True)
class _FoldResult:
    """What one fold says: `rows` of pairs, and numbers of each of them or of the fold."""

    rows: Array
    before: Array
    after: Array
    control: Array
    ordered: Array
    energy: float
    control_energy: float
    overlap: float
    in_sample: float
    top: float


def _fold_results(
    a: Tensor, b: Tensor, folds: Array, settings: ErasureSettings
) -> list[_FoldResult]:
    """Return each fold under the eraser of the others."""
    return [_fold_result(a, b, folds, fold, settings) for fold in range(int(folds.max()) + 1)]


def _fold_result(
    a: Tensor, b: Tensor, folds: Array, fold: int, settings: ErasureSettings
) -> _FoldResult:
    inside = torch.from_numpy(folds != fold).to(a.device)
    x = torch.cat([a[inside], b[inside]])
    scale = _scale(x) if settings.standardised else 1.0
    a, b, x = a * scale, b * scale, x * scale
    members = torch.arange(2, device=a.device).repeat_interleave(int(inside.sum()))
    fitted = fit_eraser(x, members)
    generator = torch_generator(settings.seed, "erase control", fold)
    directions = random_directions(x, fitted.energy, draws=settings.draws, generator=generator)
    apart, known = b[~inside] - a[~inside], b[inside] - a[inside]
    # What is left of a difference when its part along a unit direction is gone.
    squared = apart.square().sum(1)[:, None] - (apart @ directions).square()
    return _FoldResult(
        rows=np.flatnonzero(folds == fold),
        before=apart.norm(dim=1).cpu().numpy(),
        after=fitted.apart(apart).cpu().numpy(),
        control=squared.clamp_min(0.0).sqrt().cpu().numpy(),
        ordered=(apart @ fitted.reads > 0.0).double().cpu().numpy(),
        energy=fitted.energy / fitted.variance,
        control_energy=float(((x - fitted.mean) @ directions).square().mean()) / fitted.variance,
        overlap=_overlap(fitted, directions),
        in_sample=1.0 - float(fitted.apart(known).sum() / known.norm(dim=1).sum()),
        top=float(torch.linalg.matrix_norm(x - fitted.mean, 2).square()) / len(x) / fitted.variance,
    )


def _scale(x: Tensor) -> Tensor:
    """Return what makes each feature's deviation over the rows 1; 0 where it is constant."""
    spread = x.std(0, correction=0)
    return torch.where(spread > 1e-12 * x.abs().amax(0), 1.0 / spread, 0.0)


def _overlap(fitted: Eraser, directions: Tensor) -> float:
    size = float(fitted.moves.norm())
    return float((fitted.moves @ directions).abs().mean()) / size if size else 0.0


def _depth(index: int, relative: float, parts: list[_FoldResult], weights: Array) -> ErasedDepth:
    """Return all folds together: shares are of the sums of distances over all pairs."""
    before, after, control, ordered = _gathered(parts)
    effect = 1.0 - after.sum() / before.sum()
    draws = 1.0 - control.sum(0) / before.sum()
    totals = weights @ before
    effects = 1.0 - (weights @ after) / totals
    margins = effects - (1.0 - (weights @ control.mean(1)) / totals)
    low, high = percentiles(effects)
    least, most = percentiles(draws)
    margin_low, margin_high = percentiles(margins)
    return ErasedDepth(
        relative=relative,
        index=index,
        distance=float(before.mean()),
        effect=float(effect),
        effect_median=float(np.median(1.0 - after / before)),
        effect_low=low,
        effect_high=high,
        control=float(draws.mean()),
        control_low=least,
        control_high=most,
        margin=float(effect - draws.mean()),
        margin_low=margin_low,
        margin_high=margin_high,
        ordered=float(ordered.mean()),
        **{name: float(np.mean(list(values))) for name, values in _means(parts)},
    )


def _means(parts: list[_FoldResult]) -> Iterator[tuple[str, Iterator[float]]]:
    """Yield the numbers of a fold that a depth has the mean of."""
    yield "energy", (part.energy for part in parts)
    yield "control_energy", (part.control_energy for part in parts)
    yield "overlap", (part.overlap for part in parts)
    yield "effect_in_sample", (part.in_sample for part in parts)
    yield "top_variance", (part.top for part in parts)


def _gathered(parts: list[_FoldResult]) -> tuple[Array, Array, Array, Array]:
    """Return each fold's numbers of pairs, in the order of the pairs."""
    order = np.argsort(np.concatenate([part.rows for part in parts]), kind="stable")
    columns = [
        np.concatenate([getattr(part, name) for part in parts])[order]
        for name in ("before", "after", "control", "ordered")
    ]
    return columns[0], columns[1], columns[2], columns[3]
