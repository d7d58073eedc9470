"""Scores by which other tools choose where to adapt, each one number a block, larger chosen first.

They are written here from their definitions. A tool that chooses single modules is given blocks
(ours): a block's score is what its adapted modules get together, so that each tool fills the same
budget on the same kind of place.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from layerwise.capture.restore import frozen
from layerwise.card.record import LayerCard
from layerwise.data.batches import Batch
from layerwise.errors import PlacementError
from layerwise.models.linear import packed_modules, weight_of
from layerwise.models.load import LoadedModel
from layerwise.objectives import Objective
from layerwise.registry import Registry
from layerwise.shapes import Tensor

#: The interquartile range of a standard normal distribution.
_IQR = 1.349
#: What PEFT adds to the smallest singular value.
_EPSILON = 1e-8


@dataclass(frozen=True)
class ScoreInputs:
    """What a score may look at.

    Attributes:
        loaded: The model.
        card: Its card, on the text that is trained on.
        objective: The loss.
        batches: A few batches of that text.
        seed: Fixes dropout.
    """

    loaded: LoadedModel
    card: LayerCard
    objective: Objective
    batches: Sequence[Batch]
    seed: int = 0


#: A way to rank blocks: one number a row of the card, float64 (l,); NaN without adapted modules.
#: Raises PlacementError where the card lacks what the score goes by.
Score = Callable[[ScoreInputs], np.ndarray]

#: Every score by name.
SCORES = Registry[Score]("score")


def rows_by_score(scores: np.ndarray, k: int, *, rows: Sequence[int]) -> tuple[int, ...]:
    """Return the `k` of `rows` with the largest scores, ascending; the lower block on ties.

    Raises:
        PlacementError: Fewer than `k` of them have a score.
    """
    known = [row for row in rows if np.isfinite(scores[row])]
    if len(known) < k:
        raise PlacementError(what="blocks with a score", value=len(known), expected=f"at least {k}")
    best = sorted(known, key=lambda row: (-scores[row], row))[:k]
    return tuple(sorted(best))


def _weights(inputs: ScoreInputs, row: int) -> Iterator[tuple[str, Tensor]]:
    """Yield the last part of each adapted module's name in a block, and its float32 weight."""
    for name in inputs.card.layers[row].modules:
        module: Any = inputs.loaded.model.get_submodule(name)
        yield name.rpartition(".")[2], weight_of(module).float()


@SCORES.register("eva")
def eva(inputs: ScoreInputs) -> np.ndarray:
    """Return the ranks that EVA would give to a block's inputs, for each of them.

    Source: Paischer et al., arXiv 2410.07170, and PEFT's ``EvaConfig``: the explained-variance
    ratios of the principal components of every adapted module's input are sorted together, and
    the first (rank x modules) of them each bring their module one rank, at most twice the rank
    (PEFT's rho = 2). Modules that read the same input have the same components; here an input
    counts once (ours). The components are those of the card's pass.
    """
    card, rank = inputs.card, inputs.card.capture.rank
    names = {f"spectrum/{n}": row for row, layer in enumerate(card.layers) for n in layer.modules}
    spectra = [(names[key], values) for key, values in card.arrays.items() if key in names]
    if not spectra:
        message = "score eva needs the spectra of the card's inputs"
        expected = "arrays.safetensors beside card.json, of a card with all signals"
        raise PlacementError(message, expected=expected, hint="other --arms")
    ratios: list[tuple[float, int]] = []
    read, given = (np.zeros(len(card.layers)) for _ in range(2))
    for row, values in spectra:
        read[row] += 1
        total, largest = float(values.sum()), np.sort(values)[::-1][: 2 * rank]
        ratios += [(float(v) / total, row) for v in largest if total > 0]
    ratios.sort(key=lambda pair: -pair[0])
    for _, row in ratios[: rank * len(spectra)]:
        given[row] += 1
    return np.divide(given, read, out=np.full_like(given, np.nan), where=read > 0)


@SCORES.register("kappa")
def kappa(inputs: ScoreInputs) -> np.ndarray:
    """Return minus the mean log10 condition number of a block's adapted weights.

    Source: PEFT's ``find_kappa_target_modules``, which takes the modules of the smallest condition
    number, the largest singular value over the smallest plus 1e-8. The mean of the logarithm over
    a block's modules is ours.
    """
    scores = []
    for row in range(len(inputs.card.layers)):
        each = [torch.linalg.svdvals(weight.flatten(1)) for _, weight in _weights(inputs, row)]
        scores.append(_mean([-float(torch.log10(v[0] / (v[-1] + _EPSILON))) for v in each]))
    return np.array(scores)


@SCORES.register("snr")
def snr(inputs: ScoreInputs) -> np.ndarray:
    """Return how high a block's weights stand, by signal to noise, among those of their name.

    Source: Spectrum, arXiv 2406.06623: singular values above sigma (1 + sqrt(beta)) are signal,
    with sigma the interquartile range of the singular values over 1.349 and beta the smaller side
    of the weight over the larger; the ratio of their sum to the sum of the others, divided by the
    largest singular value. Spectrum ranks the modules of one name among themselves; a block's score
    is the mean over its modules of the share of such modules that it is at least level with (ours).
    """
    ratios: dict[str, dict[int, float]] = {}
    for row, _ in enumerate(inputs.card.layers):
        for name, weight in _weights(inputs, row):
            ratios.setdefault(name, {}).setdefault(row, _signal_to_noise(weight))
    standings = [
        {row: sum(r <= ratio for r in found.values()) / len(found) for row, ratio in found.items()}
        for found in ratios.values()
    ]
    return np.array(
        [_mean([s[row] for s in standings if row in s]) for row in range(len(inputs.card.layers))]
    )


def _signal_to_noise(weight: Tensor) -> float:
    flat = weight.flatten(1)
    values = torch.linalg.svdvals(flat)
    low, high = torch.quantile(values, torch.tensor([0.25, 0.75], device=values.device))
    beta = min(flat.shape) / max(flat.shape)
    is_signal = values > (high - low) / _IQR * (1 + beta**0.5)
    noise = float(values[~is_signal].sum())
    signal = float(values[is_signal].sum())
    return signal / max(noise, _EPSILON) / max(float(values[0]), _EPSILON)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


@SCORES.register("gradient")
def gradient(inputs: ScoreInputs) -> np.ndarray:
    """Return the loss-gradient norms of a block's weights, summed over weights and batches.

    Source: the probe of PyPI's ``aletheia-lora`` 0.1, which takes the blocks where this is largest.
    Weights are differentiated in eval mode (ours; the package leaves dropout on). A gradient is
    freed as soon as its norm is taken.

    Raises:
        PlacementError: The weights are codes.
    """
    model = inputs.loaded.model
    if packed_modules(model):
        message = "score gradient needs gradients of weights, which are codes here"
        raise PlacementError(message, expected="a plain base", hint="other --arms")
    totals = np.full(len(inputs.card.layers), np.nan)
    blocks = {row: model.get_submodule(layer.name) for row, layer in enumerate(inputs.card.layers)}
    adapted = {row: block for row, block in blocks.items() if inputs.card.layers[row].modules}
    totals[list(adapted)] = 0.0
    training = inputs.objective.stochastic
    with (
        inputs.objective.prepare(model),
        frozen(model, training=training, seed=inputs.seed),
        _norms_into(totals, adapted),
    ):
        for batch in inputs.batches:
            own = batch.to(inputs.loaded.device)
            inputs.objective.losses(model, own).mean().backward()
    return totals


@contextmanager
def _norms_into(totals: np.ndarray, blocks: dict[int, nn.Module]) -> Iterator[None]:
    """Add the norm of each gradient of a weight of `blocks` to its block's, and free it."""

    def hear(row: int, parameter: Tensor) -> None:
        if parameter.grad is not None:
            totals[row] += float(parameter.grad.float().norm())
        parameter.grad = None

    with ExitStack() as hooks:
        for row, block in blocks.items():
            for parameter in block.parameters():
                parameter.requires_grad_(True)  # noqa: FBT003  # torch's own argument
                hook = parameter.register_post_accumulate_grad_hook(partial(hear, row))
                hooks.callback(hook.remove)
        yield
