"""A placement from a card: by a policy, by a cost that may not be exceeded, or by hand."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from typing import Any

from layerwise.card.record import LayerCard
from layerwise.errors import PlacementError
from layerwise.models.sources import on_disk
from layerwise.placement import ADVISED, DEFAULT_GOAL, GOALS, POLICIES, WITHOUT_GAINS
from layerwise.placement.cost import StepCost, missing_timings, placement_cost, step_cost
from layerwise.placement.policy import Policy
from layerwise.placement.record import Cost, PlacedBlock, Placement
from layerwise.placement.rows import (
    Ranks,
    adaptable_rows,
    parse_rows,
    resolve_ranks,
    resolve_rows,
    resolve_stack,
)
from layerwise.placement.ski import InflectionSettings

_LOG = logging.getLogger(__name__)

#: What a card, which looks at adapters alone, cannot say of whole blocks.
_WHOLE = (
    "signals and times are those of adapters: what whole blocks gain was not predicted, and the "
    "gradients of their weights are taken to last as long as the forward"
)
#: Sums of the same seconds in another order differ by about this.
_ROUNDING = 1e-9

Pick = Callable[..., tuple[int, ...]]


@dataclass(frozen=True)
class Choice:
    """Rows that were chosen.

    Attributes:
        rows: The rows, ascending.
        policy: What chose them, or ``manual``.
        allowed: The largest step ratio that was allowed; None where none was asked for.
        cost: What they cost; None without timings.
        notes: What was done otherwise than asked.
    """

    rows: tuple[int, ...]
    policy: str
    allowed: float | None = None
    cost: Cost | None = None
    notes: tuple[str, ...] = ()

    @property
    def affordable(self) -> bool:
        """Return whether a step is known to take no longer than was allowed."""
        if self.allowed is None:
            return True
        return self.cost is not None and self.cost.step_ratio <= self.allowed + _ROUNDING


def place(  # noqa: PLR0913 - one keyword for each option of `layerwise place`.
    card: LayerCard,
    *,
    policy: str | None = None,
    layers: int | None = None,
    rows: str | Sequence[int | PlacedBlock] | None = None,
    stack: str | None = None,
    goal: str | None = None,
    rank: int | None = None,
    alpha: int | None = None,
    ranks: Ranks | None = None,
    seed: int = 0,
    whole: bool = False,
    ski: InflectionSettings | None = None,
) -> Placement:
    """Return adapters on some blocks of the model of `card`, or such blocks to train `whole`.

    Args:
        card: What was measured.
        policy: What chooses the blocks, a name in `POLICIES`; None takes the advised one.
        layers: How many blocks; None leaves it to the policy.
        rows: The blocks themselves, in place of a policy: indices in `stack` (or in the only
            stack), or text such as ``"3,7,11"`` and ``"encoder:0,2,decoder:1"``.
        stack: The stack to stay in; a part of its name will do where only one stack has it.
        goal: How long a step may take, ``quality``, ``balanced`` or ``cost``: blocks below the
            lowest that this allows are not offered to the policy. None is ``quality`` for the
            advised policy and no bound for one that is named.
        rank: LoRA rank; None takes the card's.
        alpha: LoRA alpha; None takes twice the rank. It is the alpha of adapters of `rank`: the
            scale alpha / rank is that of all.
        ranks: LoRA ranks of blocks that have another than `rank`, by index (in `stack`, or in the
            only stack) or block, or text such as ``"3=4,encoder:7=16"``.
        seed: Fixes what is random in a policy.
        whole: Train the blocks themselves, without adapters.
        ski: How the policies ``ski`` and ``ski-greedy`` find their blocks.

    Raises:
        UnknownNameError: There is no such policy, goal or stack.
        PlacementError: The blocks cannot be had; the message says why.
    """
    if whole:
        for name, value in {"rank": rank, "alpha": alpha, "ranks": ranks}.items():
            if value is not None:
                msg = f"LoRA {name} for blocks that train whole"
                raise PlacementError(msg, value=value, expected="none", hint=f"drop --{name}")
    rank = card.capture.rank if rank is None else _positive("LoRA rank", rank)
    alpha = 2 * rank if alpha is None else _positive("LoRA alpha", alpha)
    if rows is None:
        choice = choose(
            card, policy=policy, layers=layers, stack=stack, goal=goal, rank=rank, seed=seed,
            whole=whole, ski=ski,
        )  # fmt: skip
    else:
        for name, value in {"policy": policy, "layers": layers, "goal": goal}.items():
            if value is not None:  # Blocks named by hand leave nothing to choose.
                msg = f"{name} beside blocks that are named"
                raise PlacementError(msg, value=value, expected="one or the other")
        blocks = parse_rows(rows) if isinstance(rows, str) else rows
        found = resolve_rows(card, blocks, stack=stack)
        choice = Choice(found, "manual", cost=placement_cost(card, found, rank=rank, whole=whole))
    if whole:
        return _whole(card, choice)
    by_row = {} if ranks is None else resolve_ranks(card, ranks, within=choice.rows, stack=stack)
    return _placement(card, choice, rank=rank, alpha=alpha, ranks=by_row)


def _positive(what: str, value: int) -> int:
    if value < 1:
        raise PlacementError(what, value=value, expected="a whole number of at least 1")
    return value


def _whole(card: LayerCard, choice: Choice) -> Placement:
    """Return the blocks of `choice` to train whole."""
    layers = [card.layers[row] for row in choice.rows]
    return Placement(
        policy=choice.policy,
        blocks=tuple(PlacedBlock(layer.stack, layer.index) for layer in layers),
        modules=(),
        rank=0,
        alpha=0,
        adapter_parameters=0,
        cost=choice.cost,
        model=on_disk(card.model.source),
        revision=card.model.revision,
        notes=_told(card, (*choice.notes, _WHOLE)),
        whole_parameters=sum(layer.parameters for layer in layers),
    )


def _told(card: LayerCard, notes: Sequence[str]) -> tuple[str, ...]:
    """Return `notes` and what else there is to say of the cost, once they are logged."""
    reason = missing_timings(card)
    told = (*notes, *([f"cost unknown: {reason}"] if reason else []))
    for note in told:
        _LOG.warning("%s", note)
    return told


def _placement(
    card: LayerCard, choice: Choice, *, rank: int, alpha: int, ranks: Mapping[int, int]
) -> Placement:
    layers = {row: card.layers[row] for row in choice.rows}
    by_row = [ranks.get(row, rank) for row in range(len(card.layers))]
    size = sum(x.adapter_parameters * by_row[row] // card.capture.rank for row, x in layers.items())
    other = {m: by_row[row] for row, x in layers.items() if by_row[row] != rank for m in x.modules}
    return Placement(
        policy=choice.policy,
        blocks=tuple(PlacedBlock(layer.stack, layer.index) for layer in layers.values()),
        modules=tuple(name for layer in layers.values() for name in layer.modules),
        rank=rank,
        alpha=alpha,
        adapter_parameters=size,
        cost=placement_cost(card, choice.rows, rank=by_row) if other else choice.cost,
        model=on_disk(card.model.source),  # For trainers, which know no demo.
        revision=card.model.revision,
        notes=_told(card, choice.notes),
        ranks=other or None,
    )


def choose(  # noqa: PLR0913 - as `place`.
    card: LayerCard,
    *,
    policy: str | None = None,
    layers: int | None = None,
    stack: str | None = None,
    goal: str | None = None,
    rank: int | None = None,
    seed: int = 0,
    whole: bool = False,
    ski: InflectionSettings | None = None,
) -> Choice:
    """Return the rows that a policy takes within the cost that `goal` allows; see `place`.

    Raises:
        UnknownNameError: There is no such policy, goal or stack.
        PlacementError: There are no such rows, or the card lacks what the policy goes by.
    """
    goal = DEFAULT_GOAL if goal is None and policy is None else goal
    allowed = None if goal is None else GOALS[goal]
    name, lacking = (ADVISED if policy is None else policy), list[str]()
    if policy is None and "adam_gram" not in card.arrays:
        why = card.absent.get("gain", "the card's arrays.safetensors is not there")
        name, lacking = WITHOUT_GAINS, [f"policy {WITHOUT_GAINS} in place of {ADVISED}: {why}"]
    rows = adaptable_rows(card, stack=stack)
    pick: Pick = partial(_with(POLICIES[name], ski), card, seed=seed)
    taken = pick(layers, rows=rows)
    notes = [*lacking, *_left_out(card, rows, stack)]
    if name == "all" and len(taken) < len(rows):
        notes.append(f"policy all with {len(taken)} of {len(rows)} blocks: they are evenly spread")
    if missing_timings(card):
        bounded = allowed is not None and allowed < 1.0  # No set takes longer than all blocks.
        notes += [f"goal {goal} not applied: the cost is unknown"] if bounded else []
        return Choice(taken, name, allowed=allowed, notes=tuple(notes))
    costs = step_cost(card, rank=rank, whole=whole)
    if allowed is not None:
        taken, excess = _cheap_enough(pick, rows, len(taken), costs=costs, allowed=allowed)
        notes += excess
    return Choice(taken, name, allowed, costs.relative(taken), tuple(notes))


def _with(policy: Policy, ski: InflectionSettings | None) -> Policy:
    """Return `policy` with its settings, where it is one that has some.

    Raises:
        PlacementError: It has none, and some were asked for.
    """
    if ski is None or ski == InflectionSettings():
        return policy
    if not policy.name.startswith("ski"):
        msg = "settings of inflection layers for another policy"
        hint = "--policy ski or ski-greedy"
        raise PlacementError(msg, value=policy.name, expected="ski, ski-greedy", hint=hint)
    chooses: Any = policy.choose  # Those of SKI take settings, which no other policy has.
    sizes: Any = policy.size
    return replace(policy, choose=partial(chooses, how=ski), size=partial(sizes, how=ski))


def _cheap_enough(
    pick: Pick, rows: Sequence[int], k: int, *, costs: StepCost, allowed: float
) -> tuple[tuple[int, ...], list[str]]:
    """Return what `pick` takes of `rows`, from the lowest on whose choice `allowed` allows.

    Where none does, what is cheapest, and a note that says so.
    """
    tried = []
    for lowest in range(len(rows) - k + 1):
        taken = pick(k, rows=rows[lowest:])
        ratio = costs.relative(taken).step_ratio
        if ratio <= allowed + _ROUNDING:
            return taken, []
        tried.append((ratio, taken))
    ratio, taken = min(tried, key=itemgetter(0))
    wanted = "1 block" if k == 1 else f"{k} blocks"
    note = f"no choice of {wanted} takes {allowed:.2f} of a step with all blocks or less"
    return taken, [f"{note}; the cheapest takes {ratio:.2f}"]


def _left_out(card: LayerCard, rows: Sequence[int], stack: str | None) -> list[str]:
    """Return a note on blocks that no policy can take, since none of their modules is adapted."""
    wanted = None if stack is None else resolve_stack(card.layers, stack)
    inside = [row for row, x in enumerate(card.layers) if wanted in {None, x.stack}]
    missed = [card.layers[row].name for row in inside if row not in rows]
    if not missed:
        return []
    shown = ", ".join(missed[:5]) + (", ..." if len(missed) > 5 else "")
    return [f"{len(missed)} of {len(inside)} blocks have no module to adapt: {shown}"]
