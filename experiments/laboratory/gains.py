"""What adapters on several blocks would gain together: the formulas that the advice does not use.

Source: docs/methods.md; what one block gains is in `layerwise.signals.gain`. Every function takes a
stack of Gram matrices of per-example adapter gradients, so that all work is in example space.
"""

from collections.abc import Sequence

import numpy as np

from layerwise.shapes import Array, Float64
from layerwise.signals.gain import pulls, ridge, single_gains, step_gains

#: Parts that the examples are cut into, each held out once (ours).
FOLDS = 8


def coupled_gain(gram: Float64[Array, "l n n"], rows: Sequence[int], *, damping: float) -> float:
    """Return Delta(S) of the blocks `rows` taken together, in units of the loss; 0 for none.

    It never falls when a block is added, and is 0 where no block has any gradient.

    Raises:
        BadInputError: `damping` is not positive.
    """
    chosen = gram[list(rows)].sum(axis=0, keepdims=True)
    return float(step_gains(chosen, ridge(gram, damping))[0])


def additive_gain(gram: Float64[Array, "l n n"], rows: Sequence[int], *, damping: float) -> float:
    """Return the sum of single gains over `rows`: Delta if blocks did not interact.

    Raises:
        BadInputError: `damping` is not positive.
    """
    return float(single_gains(gram, damping=damping)[list(rows)].sum())


def line_gain(gram: Float64[Array, "l n n"], rows: Sequence[int], *, damping: float) -> float:
    """Return the gain of one joint step of `rows`, each along its own direction, all at one rate.

    With p_i the sum over `rows` of `pulls`, the loss of example i falls by t p_i - t^2 p_i^2 / 2 on
    a step of length t (the empirical Fisher for curvature), so the best t gives

        1/2 mean(p)^2 / (mean(p^2) + lambda),    lambda = damping * mean over blocks of mean(p^2).

    Blocks that pull the same examples by the same amounts add nothing to each other. Negative where
    the examples' gradients disagree so much that the step would raise the loss.

    Raises:
        BadInputError: `damping` is not positive.
    """
    ridge(gram, damping)
    pulled = pulls(gram)
    joint = pulled[:, list(rows)].sum(axis=1)
    whole = float(np.square(joint).mean()) + damping * float(np.square(pulled).mean())
    mean = float(joint.mean())
    return 0.5 * mean * abs(mean) / whole if whole > 0.0 else 0.0


def held_out_gain(gram: Float64[Array, "l n n"], rows: Sequence[int], *, damping: float) -> float:
    """Return what the damped step of some examples gains on others, cross-validated over them.

    The step of `coupled_gain`, (F + lambda I)^-1 g with F and g from all examples but an eighth,
    times the mean gradient of that eighth; the mean over the eighths. What one example alone pulls
    at is no gain here, since no other example shares it.

    Raises:
        BadInputError: `damping` is not positive.
    """
    chosen, floor = gram[list(rows)].sum(axis=0), ridge(gram, damping)
    n = chosen.shape[0]
    if n < 2 or not floor > 0.0:
        return 0.0
    fold = np.arange(n) % min(FOLDS, n)
    gained = [_gained(chosen, fold == f, floor).sum() for f in range(min(FOLDS, n))]
    return float(sum(gained) / n)


def _gained(chosen: Float64[Array, "n n"], out: np.ndarray, floor: float) -> Float64[Array, "k"]:
    """Return the first-order fall of the loss of each example in `out` on the others' step."""
    kept = chosen[np.ix_(~out, ~out)]
    count = len(kept)
    weights = np.linalg.solve(kept / count + floor * np.eye(count), np.full(count, 1.0 / count))
    return np.asarray(chosen[np.ix_(out, ~out)] @ weights, dtype=np.float64)


def agreement(gram: Float64[Array, "l n n"]) -> Float64[Array, "l l"]:
    """Return how alike two blocks see which examples pull together, in [-1, 1].

    The cosine of their Gram matrices without the diagonals (an example agrees with itself in every
    block, which would make all blocks alike). 1 on the diagonal, zero beside a block without
    gradients.
    """
    n = gram.shape[1]
    flat = np.where(np.eye(n, dtype=bool), 0.0, gram).reshape(len(gram), -1)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    unit = np.divide(flat, norms, out=np.zeros_like(flat), where=norms > 0.0)
    cosines = np.clip(unit @ unit.T, -1.0, 1.0)
    np.fill_diagonal(cosines, 1.0)
    return np.asarray(cosines, dtype=np.float64)


def determinant(gram: Float64[Array, "l n n"], rows: Sequence[int], *, damping: float) -> float:
    """Return quality and diversity of `rows` as the logarithm of a determinant.

    The sum of log gains of the blocks plus log det (C_S + damping I), C the `agreement`: the
    log-probability of a determinantal point process up to a constant (Kulesza and Taskar 2012,
    Determinantal Point Processes for Machine Learning, section 3.1). For sets of one size.

    Raises:
        BadInputError: `damping` is not positive.
    """
    ridge(gram, damping)
    chosen, gains = list(rows), _gains(gram)
    floor = 1e-12 * max(float(gains.max()), 1e-300)
    alike = agreement(gram)[np.ix_(chosen, chosen)] + damping * np.eye(len(chosen))
    volume = float(np.linalg.slogdet(alike)[1])
    return float(np.log(np.maximum(gains[chosen], floor)).sum()) + volume


def represented(gram: Float64[Array, "l n n"], rows: Sequence[int]) -> float:
    """Return the gain of every block, counted by how alike the most alike of `rows` is.

    Facility location: a block that is not adapted still has its errors corrected by an adapted one
    that sees the examples as it does.
    """
    alike = agreement(gram)[:, list(rows)].max(axis=1)
    return float(_gains(gram) @ np.maximum(alike, 0.0))


def _gains(gram: Float64[Array, "l n n"]) -> Float64[Array, "l"]:
    """Return the first-order gain of each block alone, at least 0."""
    return np.maximum(pulls(gram).mean(axis=0), 0.0)
