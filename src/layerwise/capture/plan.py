"""What a pass must measure so that every wanted signal can be computed from it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from layerwise.errors import BadInputError, UnknownNameError

#: What a pass can measure, and what else each needs to be measured.
MEASUREMENTS: dict[str, frozenset[str]] = {
    "inputs": frozenset(),
    "gradients": frozenset({"inputs"}),
    "covariance": frozenset({"inputs"}),
    "gram": frozenset({"inputs", "gradients"}),
    "entropy": frozenset(),
    "outputs": frozenset(),
}

READOUTS = ("hf", "residual", "normed")
#: Readings of the residual norm in arXiv 2602.04019: algorithm 1 divides by the mean squared entry
#: of the inputs, equation 1 by their mean squared norm; the norm is within the expectation, or of
#: the mean gradient.
READINGS = ("algorithm-1", "equation-1", "algorithm-1-of-mean", "equation-1-of-mean")


@dataclass(frozen=True)
class Plan:
    """One pass.

    Attributes:
        needs: What is measured, of `MEASUREMENTS`.
        rank: Rank r of the simulated adapters.
        draws: How many independent A each module's adapter is simulated with.
        targets: Module names to adapt; None for the architecture's own.
        entropy_rows: Query rows sampled per example; 0 takes every row.
        gram_examples: Examples kept for the Gram matrices: what bounds their memory.
        sketch_width: Output width beyond which kept gradients are sketched to it.
        readout: Which tensor stands for a block's output.
        reading: Of the residual norm, one of `READINGS`.
        seed: Fixes A and every sample.
    """

    needs: frozenset[str]
    rank: int = 8
    draws: int = 4
    targets: tuple[str, ...] | None = None
    entropy_rows: int = 16
    gram_examples: int = 64
    sketch_width: int = 2048
    readout: str = "residual"
    reading: str = "algorithm-1"
    seed: int = 0

    def measuring(self, needs: Iterable[str]) -> "Plan":
        """Return the same pass over `needs` and what those need, and nothing else.

        Raises:
            UnknownNameError: A pass cannot measure one of them.
        """
        wanted = frozenset(needs)
        for need in sorted(wanted - MEASUREMENTS.keys()):
            raise UnknownNameError(what="measurement", value=need, known=MEASUREMENTS)
        return replace(self, needs=wanted.union(*(MEASUREMENTS[need] for need in wanted)))


def plan(
    needs: Iterable[str] | None = None,
    *,
    rank: int = 8,
    targets: Sequence[str] | None = None,
    exact_entropy: bool = False,
    readout: str = "residual",
    reading: str = "algorithm-1",
    seed: int = 0,
) -> Plan:
    """Return the pass that measures `needs`, or all that can be measured where None.

    Raises:
        UnknownNameError: A measurement, readout or reading is not known.
        BadInputError: The rank is below 1.
    """
    if readout not in READOUTS:
        raise UnknownNameError(what="readout", value=readout, known=READOUTS)
    if reading not in READINGS:
        raise UnknownNameError(what="residual norm", value=reading, known=READINGS)
    if rank < 1:
        raise BadInputError(what="adapter rank", value=rank, expected="at least 1", hint="--rank 8")
    whole = Plan(
        needs=frozenset(MEASUREMENTS),
        rank=rank,
        targets=None if targets is None else tuple(targets),
        entropy_rows=0 if exact_entropy else 16,
        readout=readout,
        reading=reading,
        seed=seed,
    )
    return whole if needs is None else whole.measuring(needs)
