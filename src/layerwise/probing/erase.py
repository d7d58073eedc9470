"""A model and minimal pairs in; what erasing the pairs' concept does at each depth out."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from layerwise.compat.torch import widest
from layerwise.errors import BadInputError, DataError
from layerwise.intervals import percentiles, resampled_interval
from layerwise.models.load import LoadedModel
from layerwise.probing.leace import eraser_name, fit_eraser, random_directions
from layerwise.probing.mean_states import ReadoutSettings, each_depth, mean_states
from layerwise.probing.pairs import FEWEST, PairSet
from layerwise.probing.record import ErasedDepth, Erasure, ErasureSettings
from layerwise.profile.states import States
from layerwise.progress import Progress, silent
from layerwise.provenance import collect
from layerwise.seeds import numpy_generator, torch_generator
from layerwise.shapes import Array, Tensor

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

    Raises:
        BadInputError: There are more folds than pairs that share no text, or what fits is missing.
        DataError: Too few pairs have members that read otherwise.
        NonFiniteError: A hidden state is NaN or infinite; names the block.
    """
    settings, readout = settings or ErasureSettings(), readout or ReadoutSettings()
    apart = len(set(pairs.groups))
    if settings.folds > apart:
        msg = "more folds than pairs that share no text"
        raise BadInputError(msg, value=settings.folds, expected=f"at most {apart}")
    eraser = eraser_name()
    # The fit is in float64 or not at all.
    device = loaded.device if widest(loaded.device) == torch.float64 else torch.device("cpu")
    states, shown = mean_states(
        loaded,
        [pair.a for pair in pairs.pairs] + [pair.b for pair in pairs.pairs],
        source=pairs.source,
        sha256=pairs.sha256,
        columns={"a": "a", "b": "b"},
        readout=readout,
        progress=progress,
    )
    kept, notes = _that_differ(states, len(pairs), cut=readout.max_length)
    groups = np.unique(np.array(pairs.groups)[kept], return_inverse=True)[1]
    folds, weights = _folds(groups, settings), _replicates(groups, settings)
    depths = []
    each = each_depth(states, readout.readout)
    for index, relative, values in progress(each, "erasing", states.blocks):
        rows = torch.from_numpy(values).double().to(device)
        judged = _fold_results(rows[: len(pairs)][kept], rows[len(pairs) :][kept], folds, settings)
        depths.append(_depth(index, relative, judged, weights, groups=int(groups.max()) + 1))
    blocks = [str(depth.index) for depth in depths if depth.top_variance > _ONE_SIDED]
    if blocks and not settings.standardised:
        notes.append(
            f"one direction holds over {_ONE_SIDED:.0%} of the variance at blocks "
            f"{', '.join(blocks)}: distances there are about it alone; --standardise weighs all "
            "features alike"
        )
    for note in notes:
        log.warning("%s: %s", pairs.source, note)
    circular = (
        f"each of {settings.folds} parts of the pairs was judged under an eraser fitted on the "
        "others; effect_in_sample alone is of the fit's own pairs"
    )
    return Erasure(
        model=states.model,
        data=shown,
        pairs=len(groups),
        groups=int(groups.max()) + 1,
        stack=states.stack,
        readout=readout.readout,
        settings=settings,
        depths=tuple(depths),
        eraser=eraser,
        provenance=collect(device=str(loaded.device)),
        notes=tuple(dict.fromkeys((*pairs.notes, *notes, *states.notes, circular))),
    )


def _that_differ(states: States, count: int, *, cut: int) -> tuple[list[int], list[str]]:
    """Return the pairs whose members are not the same tokens, and a note on those left out."""
    ids = states.token_ids
    kept = [i for i in range(count) if ids[i] != ids[count + i]]
    same = count - len(kept)
    if same and len(kept) < FEWEST:
        msg = f"pairs whose members read the same in {cut} tokens"
        expected = f"at least {FEWEST} of {count} that differ"
        raise DataError(msg, value=same, expected=expected, hint="a larger --max-length")
    told = f"{same} pairs whose members read the same in {cut} tokens were left out"
    return kept, [told] if same else []


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
    """The result of one fold: `rows` of pairs, what is known of each, and of the fold by itself."""

    rows: Array
    pairs: Mapping[str, Array]
    figures: Mapping[str, float]


def _fold_results(
    a: Tensor, b: Tensor, folds: Array, settings: ErasureSettings
) -> list[_FoldResult]:
    """Return each fold under the eraser of the others."""
    found = []
    for fold in range(int(folds.max()) + 1):
        inside = torch.from_numpy(folds != fold).to(a.device)
        x = torch.cat([a[inside], b[inside]])
        scale = _scale(x) if settings.standardised else 1.0
        x, differences = x * scale, b * scale - a * scale
        apart, known = differences[~inside], differences[inside]
        members = torch.arange(2, device=a.device).repeat_interleave(int(inside.sum()))
        fitted = fit_eraser(x, members)
        generator = torch_generator(settings.seed, "erase control", fold)
        directions = random_directions(x, fitted.energy, draws=settings.draws, generator=generator)
        # What is left of a difference when its part along a unit direction is gone.
        squared = apart.square().sum(1)[:, None] - (apart @ directions).square()
        centred, size = x - fitted.mean, float(fitted.moves.norm())
        along = float((fitted.moves @ directions).abs().mean())
        of_pairs = {
            "before": apart.norm(dim=1),
            "after": fitted.apart(apart),
            "control": squared.clamp_min(0.0).sqrt(),
            "ordered": (apart @ fitted.reads > 0.0).double(),
        }
        figures = {
            "energy": fitted.energy / fitted.variance,
            "control_energy": float((centred @ directions).square().mean()) / fitted.variance,
            "overlap": along / size if size else 0.0,
            "effect_in_sample": 1.0 - float(fitted.apart(known).sum() / known.norm(dim=1).sum()),
            "top_variance": float(torch.linalg.matrix_norm(centred, 2).square())
            / len(x)
            / fitted.variance,
        }
        of_rows = {name: values.cpu().numpy() for name, values in of_pairs.items()}
        found.append(_FoldResult(np.flatnonzero(folds == fold), of_rows, figures))
    return found


def _scale(x: Tensor) -> Tensor:
    """Return what makes each feature's deviation over the rows 1; 0 where it is constant."""
    spread = x.std(0, correction=0)
    return torch.where(spread > 1e-12 * x.abs().amax(0), 1.0 / spread, 0.0)


def _depth(
    index: int, relative: float, parts: list[_FoldResult], weights: Array, *, groups: int
) -> ErasedDepth:
    """Return all folds together: shares are of the sums of distances over all pairs."""
    order = np.argsort(np.concatenate([part.rows for part in parts]), kind="stable")
    before, after, control, ordered = (
        np.concatenate([part.pairs[name] for part in parts])[order]
        for name in ("before", "after", "control", "ordered")
    )
    effect = 1.0 - after.sum() / before.sum()
    draws = 1.0 - control.sum(0) / before.sum()
    totals = weights @ before
    effects = 1.0 - (weights @ after) / totals
    margins = effects - (1.0 - (weights @ control.mean(1)) / totals)
    margin = float(effect - draws.mean())
    intervals = {
        "effect": resampled_interval(float(effect), effects, units=groups),
        "control": percentiles(draws),
        "margin": resampled_interval(margin, margins, units=groups),
    }
    return ErasedDepth(
        relative=relative,
        index=index,
        distance=float(before.mean()),
        effect=float(effect),
        effect_median=float(np.median(1.0 - after / before)),
        control=float(draws.mean()),
        margin=margin,
        ordered=float(ordered.mean()),
        **{f"{name}_low": low for name, (low, _) in intervals.items()},
        **{f"{name}_high": high for name, (_, high) in intervals.items()},
        **{name: float(np.mean([p.figures[name] for p in parts])) for name in parts[0].figures},
    )
