"""Least-squares concept erasure on fixed features, and random directions of the same energy."""

import warnings
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch

from layerwise.extras import require
from layerwise.shapes import Float64, Int, Tensor

#: Halvings of the bracket of the exponent: 2^-60 of it is left.
_HALVINGS = 60
#: Exponents of the covariance that are tried; beyond, a direction is an extreme eigenvector.
_STEEPEST = 40.0


@dataclass(frozen=True)
class Eraser:
    """An eraser of one binary concept.

    Attributes:
        moves: Where an input is moved along, (p,); zero where there was nothing to erase.
        reads: What is read off an input, (p,): the member b lies further along it. An input x
            becomes x - ((x - mean) . reads) moves.
        mean: Of the inputs of the fit, (p,).
        energy: Mean squared length of that change over the inputs of the fit.
        variance: Total variance of those inputs.
    """

    moves: Float64[Tensor, "p"]
    reads: Float64[Tensor, "p"]
    mean: Float64[Tensor, "p"]
    energy: float
    variance: float

    def apart(self, differences: Float64[Tensor, "m p"]) -> Float64[Tensor, "m"]:
        """Return the distances that are left of the `differences` between members of pairs."""
        left: Tensor = differences - torch.outer(differences @ self.reads, self.moves)
        return left.norm(dim=1)


def eraser_name() -> str:
    """Return the package that fits, with its version.

    Raises:
        BadInputError: It is not installed.
    """
    _package()
    return f"concept-erasure {version('concept-erasure')}"


def _package() -> Any:
    """Import the package, which compiles a function by a way that torch is giving up."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.script.* is deprecated")
        return require("concept_erasure", extra="erase", purpose="erase a concept")


def fit_eraser(x: Float64[Tensor, "n p"], members: Int[Tensor, "n"]) -> Eraser:
    """Return the eraser of which member (0 or 1) each row of `x` is.

    Source: Belrose et al., LEACE: Perfect linear concept erasure in closed form (2023); the
    covariance is shrunk linearly, as its package does by default, so fewer rows than features will
    do.
    """
    eraser = _package().LeaceEraser.fit(x, members[:, None])
    moves, reads, mean = eraser.proj_left[:, 0], eraser.proj_right[0], x.mean(0)
    apart = x[members == 1].mean(0) - x[members == 0].mean(0)
    sign = -1.0 if float(reads @ apart) < 0.0 else 1.0
    centred = x - mean
    energy = float((centred @ reads).square().mean() * moves.square().sum())
    return Eraser(moves * sign, reads * sign, mean, energy, float(centred.square().sum(1).mean()))


def random_directions(
    x: Float64[Tensor, "n p"], energy: float, *, draws: int, generator: torch.Generator
) -> Float64[Tensor, "p draws"]:
    """Return random unit directions along which the rows of `x` have the variance `energy`.

    A Gaussian vector is multiplied by a power of the shrunk covariance, whose exponent, one a draw,
    sets the variance along the result; erasing such a direction by orthogonal projection changes an
    input by `energy` in the mean square. An energy that no direction has is met as nearly as can
    be; with none, the directions are zero. `generator` draws on the CPU.
    """
    drawn = torch.randn(x.shape[1], draws, dtype=torch.float64, generator=generator).to(x.device)
    if energy <= 0.0:
        return torch.zeros_like(drawn)
    centred = x - x.mean(0)
    shrunk = _package().optimal_linear_shrinkage(centred.T @ centred / len(x), len(x))
    values, basis = torch.linalg.eigh(shrunk)
    kept = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
    values, basis, drawn = values[kept], basis[:, kept], drawn[kept]
    along = (centred @ basis).square().mean(0)
    scores, sizes = values.log()[:, None], 2.0 * drawn.abs().log()
    low = torch.full((draws,), -_STEEPEST, dtype=torch.float64, device=x.device)
    high = -low
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        # The variance along basis @ (values^t * drawn), normalised; it rises with t.
        reached = along @ (2.0 * middle * scores + sizes).softmax(0)
        low, high = (
            torch.where(reached < energy, middle, low),
            torch.where(reached < energy, high, middle),
        )
    weights = (2.0 * middle * scores + sizes).softmax(0)
    return basis @ (weights.sqrt() * drawn.sign())
