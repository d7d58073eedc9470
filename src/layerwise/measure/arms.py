"""Rival placements at one budget: policies, other tools' choices, random draws, and all blocks."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from layerwise.card.record import LayerCard
from layerwise.errors import PlacementError, UnknownNameError
from layerwise.measure.record import ArmKind
from layerwise.measure.scores import SCORES, ScoreInputs, rows_by_score
from layerwise.placement import DEFAULT_GOAL, GOALS, POLICIES
from layerwise.placement.place import choose, place
from layerwise.placement.policy import default_size
from layerwise.placement.record import PlacedBlock, Placement
from layerwise.placement.rows import adaptable_rows

_LOG = logging.getLogger(__name__)

RECOMMENDED = "recommended"
"""The arm that `place` gives without a policy."""
ALL = "all"
"""Every block at the full rank: larger than the budget, and what the others are held against."""
LOW_RANK = "low-rank"
"""Every block, with as little rank as the budget leaves."""
RANDOM = "random"

#: How far the parameters of an arm may be from the budget, relatively (ours).
TOLERANCE = 0.05

Rows = tuple[int, ...]
Adapters = tuple[tuple[str, int], ...]
"""What tells adapters from others: each module with its rank."""


@dataclass(frozen=True)
class Size:
    """How much an arm may adapt.

    Attributes:
        layers: Blocks that it takes.
        rank: LoRA rank on them.
        draws: Random placements.
        seed: Of the draws.
    """

    layers: int
    rank: int
    draws: int
    seed: int = 0


@dataclass(frozen=True)
class Arm:
    """One way to place adapters.

    Attributes:
        name: What it is called.
        kind: What it is.
        placement: Its adapters; None where it has none to offer.
        equal: Whether it is bound to the budget.
        policy: The policy that chose the blocks, where one did.
        failed: Why there is no placement.
    """

    name: str
    kind: ArmKind
    placement: Placement | None = None
    equal: bool = True
    policy: str | None = None
    failed: str | None = None

    @property
    def adapters(self) -> Adapters:
        """Its modules and their ranks; none without a placement."""
        placed = self.placement
        return tuple((name, placed.rank_of(name)) for name in placed.modules) if placed else ()


def known_arms() -> tuple[str, ...]:
    """Return the names of all arms, in the order in which they run."""
    policies = [name for name in POLICIES if name not in {ALL, RANDOM}]
    return (RECOMMENDED, *bounds(), *policies, *SCORES, RANDOM, LOW_RANK, ALL)


def bounds() -> tuple[str, ...]:
    """Return the goals that bound the advised policy more than it is by default: an arm each."""
    return tuple(goal for goal in GOALS if goal != DEFAULT_GOAL)


def size_of(
    card: LayerCard, *, layers: int | None, rank: int | None, draws: int = 0, seed: int = 0
) -> Size:
    """Return how much each arm adapts of the model of `card`; a sixth of its blocks where not said.

    Raises:
        PlacementError: The model does not have so many blocks, or a number is not positive.
    """
    rows = adaptable_rows(card)
    taken = default_size(rows) if layers is None else layers
    if not 1 <= taken <= len(rows):
        message = "number of layers"
        expected = f"1 to {len(rows)}, the blocks that can be adapted"
        hint = f"--layers {default_size(rows)}"
        raise PlacementError(message, value=taken, expected=expected, hint=hint)
    wanted = card.capture.rank if rank is None else rank
    for what, value, least in (("LoRA rank", wanted, 1), ("random draws", draws, 0)):
        if value < least:
            raise PlacementError(what, value=value, expected=f"at least {least}")
    return Size(taken, wanted, draws, seed)


def budget_of(card: LayerCard, size: Size) -> int:
    """Return the parameters of adapters of the size's rank on as many blocks of mean size."""
    rows = adaptable_rows(card)
    per_block = sum(_unit(card, row) for row in rows) / len(rows)
    return round(size.rank * size.layers * per_block)


def _unit(card: LayerCard, row: int) -> float:
    """Return the parameters of a block's adapters for each rank."""
    return card.layers[row].adapter_parameters / card.capture.rank


def arms_of(inputs: ScoreInputs, size: Size, names: Sequence[str] | None = None) -> tuple[Arm, ...]:
    """Return the arms called `names`, each placed or with the reason why not; all where None.

    The recommended one is always the first.

    Raises:
        UnknownNameError: There is no such arm.
        PlacementError: The card recommends nothing that meets the budget.
    """
    known = known_arms()
    refuse_unknown(names or ())
    wanted = {RECOMMENDED, *(known if names is None else names)}
    made = [arm for name in known if name in wanted for arm in _arms(name, inputs, size)]
    if made[0].failed:
        message = f"the card recommends nothing that can be measured ({made[0].failed})"
        raise PlacementError(message, value=size.layers, hint="another number of --layers")
    for arm in made:
        if arm.failed:
            _LOG.warning("%s is left out: %s", arm.name, arm.failed)
    return tuple(made)


def refuse_unknown(names: Sequence[str]) -> None:
    """Raise where one of `names` is no arm's.

    Raises:
        UnknownNameError: One is not.
    """
    known = known_arms()
    for name in names:
        if name not in known:
            raise UnknownNameError(what="arm", value=name, known=known)


def _arms(name: str, inputs: ScoreInputs, size: Size) -> Iterator[Arm]:
    card, rows = inputs.card, adaptable_rows(inputs.card)
    if name == RECOMMENDED:
        yield _advised(name, "recommended", card, size, goal=DEFAULT_GOAL)
    elif name in bounds():
        yield _advised(name, "policy", card, size, goal=name)
    elif name == ALL:
        placed = place(card, policy=ALL, rank=size.rank)
        yield Arm(name, "everywhere", placed, equal=False, policy=ALL)
    elif name == LOW_RANK:
        yield _arm(name, "everywhere", card, size, lambda: rows)
    elif name == RANDOM:
        pick = POLICIES[RANDOM]
        for draw in range(size.draws):
            drawn = partial(pick, card, size.layers, rows=rows, seed=size.seed + draw)
            yield _arm(f"{RANDOM}-{draw}", "random", card, size, drawn)
    elif name in SCORES:
        found = lambda: rows_by_score(SCORES[name](inputs), size.layers, rows=rows)  # noqa: E731
        yield _arm(name, "incumbent", card, size, found)
    else:
        taken = partial(POLICIES[name], card, size.layers, rows=rows, seed=size.seed)
        yield _arm(name, "policy", card, size, taken, policy=name)


def _advised(name: str, kind: ArmKind, card: LayerCard, size: Size, *, goal: str) -> Arm:
    """Return the arm that `place` gives without a policy, for `goal`; failed where none can be."""
    choice = choose(card, layers=size.layers, rank=size.rank, goal=goal)
    if goal != DEFAULT_GOAL and not choice.affordable:
        return Arm(name, kind, policy=choice.policy, failed="; ".join(choice.notes))
    return _arm(name, kind, card, size, lambda: choice.rows, policy=choice.policy)


def _arm(
    name: str,
    kind: ArmKind,
    card: LayerCard,
    size: Size,
    rows: Callable[[], Rows],
    *,
    policy: str | None = None,
) -> Arm:
    """Return the arm with adapters on `rows` that are as large as the budget says."""
    try:
        placed = _fitted(card, rows(), size)
    except PlacementError as error:
        return Arm(name, kind, policy=policy, failed=error.message)
    return Arm(name, kind, replace(placed, policy=policy or name), policy=policy)


def _fitted(card: LayerCard, rows: Rows, size: Size) -> Placement:
    """Return adapters on `rows` of the largest rank that the budget allows, some of one more."""
    budget = budget_of(card, size)
    ranks = {row: rank for row, rank in _ranks(card, rows, budget).items() if rank}
    found = round(sum(_unit(card, row) * rank for row, rank in ranks.items()))
    if not ranks or abs(found - budget) > TOLERANCE * budget:
        message = "adapters on these blocks cannot be as large as the others'"
        raise PlacementError(message, value=found, expected=f"{budget} parameters")
    least = min(ranks.values())
    blocks = [PlacedBlock(card.layers[row].stack, card.layers[row].index) for row in ranks]
    more = {m: ranks[row] for row in ranks if ranks[row] > least for m in card.layers[row].modules}
    placed = place(card, rows=blocks, rank=least)
    return replace(placed, adapter_parameters=found, ranks=more or None)


def _ranks(card: LayerCard, rows: Rows, budget: int) -> dict[int, int]:
    """Return one rank for all of `rows`, and one more for as many, spread, as the budget pays."""
    units = {row: _unit(card, row) for row in rows}
    whole = sum(units.values())
    base = int(budget / whole)
    share = budget / whole - base
    ranks, wanted, given = {}, 0.0, 0.0
    for row, unit in units.items():
        wanted += share * unit
        more = given + unit / 2 <= wanted
        given += unit * more
        ranks[row] = base + more
    return ranks
