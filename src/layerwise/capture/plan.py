"""What a pass must measure so that every wanted signal can be computed from it."""

from collections.abc import Sequence
from dataclasses import dataclass

from layerwise.errors import BadInputError, UnknownNameError

__all__ = ["READOUTS", "SIGNALS", "Plan", "plan"]

#: What each signal needs to be measured.
SIGNALS: dict[str, frozenset[str]] = {
    "residual_norm": frozenset({"gradients", "inputs"}),
    "coherence": frozenset({"gradients", "inputs"}),
    "activation_energy": frozenset({"inputs"}),
    "effective_rank": frozenset({"inputs", "covariance"}),
    "attention_entropy": frozenset({"entropy"}),
    "activation_gradient": frozenset({"outputs"}),
    "gain": frozenset({"gradients", "inputs", "gram"}),
}

READOUTS = ("hf", "residual", "normed")


@dataclass(frozen=True)
class Plan:
    """One pass.

    Attributes:
        needs: The union of what the wanted signals need.
        signals: The wanted signals.
        rank: Rank r of the simulated adapters.
        targets: Module names to adapt; None for the architecture's own.
        entropy_rows: Query rows sampled per example; 0 takes every row.
        gram_examples: Examples kept for the Gram matrices: what bounds their memory.
        sketch_width: Output width beyond which kept gradients are sketched to it.
        readout: Which tensor stands for a block's output.
        seed: Fixes A and every sample.
    """

    needs: frozenset[str]
    signals: tuple[str, ...]
    rank: int = 8
    targets: tuple[str, ...] | None = None
    entropy_rows: int = 16
    gram_examples: int = 64
    sketch_width: int = 2048
    readout: str = "residual"
    seed: int = 0


def plan(
    signals: Sequence[str] | None = None,
    *,
    rank: int = 8,
    targets: Sequence[str] | None = None,
    exact_entropy: bool = False,
    readout: str = "residual",
    seed: int = 0,
) -> Plan:
    """Return the pass that serves `signals` (all, where None).

    Raises:
        UnknownNameError: A signal or readout is not known.
        BadInputError: The rank is below 1, or no signal is asked for.
    """
    wanted = tuple(SIGNALS) if signals is None else tuple(dict.fromkeys(signals))
    for name in wanted:
        if name not in SIGNALS:
            raise UnknownNameError(what="signal", value=name, known=SIGNALS)
    if not wanted:
        raise BadInputError(
            what="signals", value="", expected="at least one", hint="leave --signals out"
        )
    if readout not in READOUTS:
        raise UnknownNameError(what="readout", value=readout, known=READOUTS)
    if rank < 1:
        raise BadInputError(what="adapter rank", value=rank, expected="at least 1", hint="--rank 8")
    return Plan(
        needs=frozenset().union(*(SIGNALS[name] for name in wanted)),
        signals=wanted,
        rank=rank,
        targets=None if targets is None else tuple(targets),
        entropy_rows=0 if exact_entropy else 16,
        readout=readout,
        seed=seed,
    )
