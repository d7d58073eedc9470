"""Rival placements in, a leaderboard out: all fine-tuned at one budget on the same batches."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from layerwise.capture import plan
from layerwise.card.describe import data_info, model_info
from layerwise.card.make import make_card
from layerwise.card.record import DataInfo, LayerCard
from layerwise.data.text import TextData
from layerwise.errors import (
    BadInputError,
    DataError,
    NonFiniteError,
    PlacementError,
    VerificationError,
)
from layerwise.measure.arms import (
    DRAWS,
    RECOMMENDED,
    TOLERANCE,
    Adapters,
    Arm,
    Size,
    arms_of,
    budget_of,
    refuse_unknown,
    size_of,
)
from layerwise.measure.leaderboard import (
    compare_improvements,
    improvements,
    mean_of_random,
    rank_arms,
    reason,
)
from layerwise.measure.record import ArmResult, Budget, Measure, RateRung
from layerwise.measure.rivals import train_rivals
from layerwise.measure.scores import ScoreInputs
from layerwise.measure.trial import Bench, Quality, Trial, bench
from layerwise.measure.trial_log import TrialLog
from layerwise.models.load import LoadedModel
from layerwise.objectives import Objective
from layerwise.placement.compare import refuse_another_model
from layerwise.progress import Progress, silent
from layerwise.provenance import collect
from layerwise.tuning.material import gather, held_out
from layerwise.tuning.record import TuneSettings

__all__ = ["LADDER", "Protocol", "run_measure"]

_LOG = logging.getLogger(__name__)

#: Learning rates that each arm chooses from (ours).
LADDER = (2e-4, 6e-4, 2e-3)
#: Batches that a score may look at (as many as its source takes).
_SCORED = 5
#: A card that nobody brought: examples, those in memory at a time, and adapter rank (ours).
_CARD_EXAMPLES, _CARD_BATCH, _CARD_RANK = 64, 8, 8
_ELSEWHERE = "the card was made on other text ({})"


@dataclass(frozen=True)
class Protocol:
    """What is compared, and how often.

    Attributes:
        layers: Blocks that a placement takes; a sixth of them where None.
        rank: LoRA rank on them; the card's where None.
        draws: Random placements.
        arms: The names of the arms; None takes all.
        seeds: Of the trials that score.
        ladder: Learning rates that each arm chooses from.
        eval_examples: Examples that score, and as many others that the choice of rates goes by.
        seed: Of the split of the examples and of the random draws.
    """

    layers: int | None = None
    rank: int | None = None
    draws: int = DRAWS
    arms: tuple[str, ...] | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    ladder: tuple[float, ...] = LADDER
    eval_examples: int = 64
    seed: int = 0

    @property
    def ladder_seed(self) -> int:
        """The seed of the trials that choose learning rates: one that scores nobody."""
        return max(self.seeds) + 1


def run_measure(  # noqa: PLR0913 - what, on what, how, and what it tells on the way.
    loaded: LoadedModel,
    data: TextData,
    objective: Objective,
    settings: TuneSettings,
    protocol: Protocol,
    *,
    card: LayerCard | None = None,
    quality: Quality | None = None,
    kept: Path | None = None,
    progress: Progress = silent,
) -> Measure:
    """Return what each arm of `protocol` does for `loaded`, which is as it was afterwards.

    Args:
        loaded: The model.
        data: The text: a part of it scores, another chooses learning rates, the rest trains.
        objective: The loss.
        settings: The rest of the budget: steps, batch, length.
        protocol: What is compared, and how often.
        card: The card that policies choose by; made on some of what trains where None.
        quality: What the improvement is in; the loss where None.
        kept: A file that each trial goes into as it ends; those that it holds are not made again.
        progress: Hears how far the trials are.

    Raises:
        SchemaError: The card is of another model, or `kept` holds something else.
        OutputError: `kept` cannot be written.
        PlacementError: The card recommends nothing that meets the budget.
        DataError: Too few examples.
        NonFiniteError: The recommended arm diverged at every rate.
        VerificationError: Arms were not given the same budget.
    """
    _refuse_odd(protocol, blocks=sum(len(stack.blocks) for stack in loaded.stacks))
    if card is not None:
        refuse_another_model(card.model, model_info(loaded))
    log = TrialLog(kept)
    train, choosing, scoring = _parts(data, protocol)
    card = card or _card(loaded, train, objective, settings, protocol)
    size = size_of(
        card, layers=protocol.layers, rank=protocol.rank, draws=protocol.draws, seed=protocol.seed
    )
    batches = gather(loaded, train, objective, settings).batches
    inputs = ScoreInputs(loaded, card, objective, batches.batches[:_SCORED], protocol.seed)
    arms = arms_of(inputs, size, protocol.arms)
    bench_of = partial(bench, loaded, train, objective=objective, settings=settings)
    scored, chosen = (bench_of(text, quality=quality) for text in (scoring, choosing))
    first = _first_arms(arms)
    ladders = _ladders(chosen, first, protocol, log, progress)
    trials = _trials(scored, first, ladders, protocol, log, progress)
    results = rank_arms([_result(arm, first, ladders, trials) for arm in arms])
    _refuse_unequal(results)
    info = data_info(train, batches, objective, max_length=settings.max_length)
    notes = _notes(card, data, loaded, (*batches.notes, *_from_before(log)))
    budget = _budget(card, size, results, settings)
    return _measure(scored, results, protocol, budget, card=card.data, info=info, notes=notes)


def _card(
    loaded: LoadedModel,
    train: TextData,
    objective: Objective,
    settings: TuneSettings,
    protocol: Protocol,
) -> LayerCard:
    """Return a card of some of what trains: nothing that scores has a say in where adapters go."""
    some = replace(train, examples=train.examples[:_CARD_EXAMPLES])
    wanted = plan(None, rank=protocol.rank or _CARD_RANK, seed=protocol.seed)
    _LOG.info("no card is given: one is made of %d examples", len(some))
    return make_card(
        loaded, some, objective, wanted, batch_size=_CARD_BATCH, max_length=settings.max_length
    )


def _budget(
    card: LayerCard, size: Size, arms: Sequence[ArmResult], settings: TuneSettings
) -> Budget:
    spent = next((arm.trials for arm in arms if arm.trials), ())
    return Budget(
        layers=size.layers,
        rank=size.rank,
        adapter_parameters=budget_of(card, size),
        tolerance=TOLERANCE,
        steps=settings.steps,
        tokens=tuple(found.tokens for found in spent),
    )


def _refuse_odd(protocol: Protocol, *, blocks: int) -> None:
    """Raise unless seeds come once, rates are above 0, and arms and so many blocks exist."""
    refuse_unknown(protocol.arms or ())
    if protocol.layers is not None and not 1 <= protocol.layers <= blocks:
        what, expected = "number of layers", f"1 to {blocks}, the model's blocks"
        raise PlacementError(what, value=protocol.layers, expected=expected, hint="-k N")
    if not protocol.seeds or len(set(protocol.seeds)) < len(protocol.seeds):
        what = "seeds"
        raise BadInputError(what, value=protocol.seeds, expected="at least one, each once")
    if not protocol.ladder or min(protocol.ladder) <= 0.0:
        what = "ladder of learning rates"
        raise BadInputError(what, value=protocol.ladder, expected="at least one, above 0")
    if protocol.eval_examples < 1:
        what = "examples held out for evaluation"
        raise BadInputError(what, value=protocol.eval_examples, expected="at least 1")


def _parts(data: TextData, protocol: Protocol) -> tuple[TextData, TextData, TextData]:
    """Return what trains, what learning rates are chosen by, and what scores.

    Raises:
        DataError: Nothing would be left to train on.
    """
    if 2 * protocol.eval_examples >= len(data):
        message = f"examples that score, and as many for the ladder, out of {len(data)}"
        raise DataError(
            message,
            value=protocol.eval_examples,
            expected=f"at most {(len(data) - 1) // 2}",
            hint="--eval-examples N, or more --examples",
        )
    rest, scoring = held_out(data, examples=protocol.eval_examples, seed=protocol.seed)
    train, choosing = held_out(rest, examples=protocol.eval_examples, seed=protocol.seed)
    return train, choosing, scoring


def _first_arms(arms: Sequence[Arm]) -> dict[Adapters, Arm]:
    """Return the first arm of each set of adapters, in the order of the arms."""
    found: dict[Adapters, Arm] = {}
    for arm in arms:
        if arm.placement:
            found.setdefault(arm.adapters, arm)
    return found


def _ladders(
    base: Bench,
    first: Mapping[Adapters, Arm],
    protocol: Protocol,
    log: TrialLog,
    progress: Progress,
) -> dict[Adapters, tuple[RateRung, ...]]:
    """Return how far each rate improves each arm, on text and a seed that score nobody."""

    def climb(adapters: Adapters, rate: float) -> RateRung:
        arm = first[adapters]
        made = _trial(base, arm, log, seed=protocol.ladder_seed, rate=rate)
        improvement = made.improvement if isinstance(made, Trial) else None
        told = "diverged" if improvement is None else f"improves by {improvement:.4g}"
        _LOG.info("%s at %g: %s", arm.name, rate, told)
        return RateRung(rate, improvement)

    title = "choosing learning rates"
    made = train_rivals(first, protocol.ladder, climb, title=title, progress=progress)
    return {adapters: tuple(rungs.values()) for adapters, rungs in made.items()}


def _best_rate(ladder: Sequence[RateRung]) -> float | None:
    """Return the rate that improves most, the smaller on ties; None where all diverged."""
    went = [(-r.improvement, r.learning_rate) for r in ladder if r.improvement is not None]
    return min(went)[1] if went else None


def _trials(
    base: Bench,
    first: Mapping[Adapters, Arm],
    ladders: Mapping[Adapters, Sequence[RateRung]],
    protocol: Protocol,
    log: TrialLog,
    progress: Progress,
) -> dict[Adapters, tuple[Trial | str, ...]]:
    """Return each arm's trials at its best rate, one a seed."""
    rates = {a: rate for a in first if (rate := _best_rate(ladders[a])) is not None}

    def score(adapters: Adapters, seed: int) -> Trial | str:
        arm = first[adapters]
        found = _trial(base, arm, log, seed=seed, rate=rates[adapters])
        told = f"improves by {found.improvement:.4g}" if isinstance(found, Trial) else found
        _LOG.info("%s, seed %d: %s", arm.name, seed, told)
        return found

    made = train_rivals(rates, protocol.seeds, score, title="trials", progress=progress)
    return {adapters: tuple(by_seed.values()) for adapters, by_seed in made.items()}


def _trial(base: Bench, arm: Arm, log: TrialLog, *, seed: int, rate: float) -> Trial | str:
    """Return one trial of an arm, or why it came to nothing."""
    if arm.placement is None:
        return arm.failed or ""
    return log.attempt(base, arm.placement, seed=seed, learning_rate=rate)


def _result(
    arm: Arm,
    first: Mapping[Adapters, Arm],
    ladders: Mapping[Adapters, tuple[RateRung, ...]],
    trials: Mapping[Adapters, Sequence[Trial | str]],
) -> ArmResult:
    """Return an arm with its trials, which may be those of an arm before it."""
    ladder, made = ladders.get(arm.adapters, ()), trials.get(arm.adapters, ())
    placed, rate = arm.placement, _best_rate(ladder)
    faults = [found for found in made if isinstance(found, str)]
    if placed is not None and rate is None:
        faults = ["it diverged at every learning rate"]
    trained = first.get(arm.adapters, arm)
    return ArmResult(
        name=arm.name,
        kind=arm.kind,
        blocks=placed.blocks if placed else (),
        rank=placed.rank if placed else 0,
        adapter_parameters=placed.adapter_parameters if placed else 0,
        equal=arm.equal,
        ladder=ladder,
        trials=() if faults else tuple(t for t in made if isinstance(t, Trial)),
        policy=arm.policy,
        learning_rate=rate,
        same_as=None if trained is arm else trained.name,
        failed=arm.failed or (faults[0] if faults else None),
    )


def _refuse_unequal(arms: Sequence[ArmResult]) -> None:
    """Raise unless every arm saw as many steps and tokens, and trained what its placement says.

    A head that is trained beside the adapters is the same for every arm.

    Raises:
        VerificationError: One did not.
    """
    ran = [arm for arm in arms if arm.trials]
    for arm in ran:
        if _spent(arm) != _spent(ran[0]):
            message = "arms of unequal budget"
            value = f"{arm.name} and {ran[0].name}"
            raise VerificationError(message, value=value, expected="the same steps and tokens")


def _spent(arm: ArmResult) -> list[tuple[int, ...]]:
    """Return what an arm was given for each seed, and what it trained beside its adapters."""
    size = arm.adapter_parameters
    return [(t.seed, t.steps, t.tokens, t.trainable_parameters - size) for t in arm.trials]


def _from_before(log: TrialLog) -> tuple[str, ...]:
    """Return a note where trials were not made now: their seconds are those of another time."""
    count = len(log.taken)
    if not count:
        return ()
    kept = f"{count} trials were kept from a measurement that was cut short"
    return (f"{kept}, so step times are of different hours, and compare them only roughly",)


def _notes(
    card: LayerCard, data: TextData, loaded: LoadedModel, batched: Sequence[str]
) -> tuple[str, ...]:
    """Return what was done otherwise than by default."""
    other = () if card.data.source == data.source else (_ELSEWHERE.format(card.data.source),)
    return tuple(dict.fromkeys((*loaded.notes, *data.notes, *batched, *other)))


def _measure(
    base: Bench,
    arms: Sequence[ArmResult],
    protocol: Protocol,
    budget: Budget,
    *,
    card: DataInfo,
    info: DataInfo,
    notes: tuple[str, ...],
) -> Measure:
    by_name = {arm.name: arm for arm in arms}
    recommended = by_name[RECOMMENDED]
    if not recommended.trials:
        message = f"recommended placement that could not be measured ({recommended.failed})"
        raise NonFiniteError(
            message, expected="a loss that stays finite", hint="--ladder 1e-5,1e-4"
        )
    drawn = mean_of_random(by_name)
    against = (
        None if drawn is None else compare_improvements(improvements(recommended.trials), drawn)
    )
    is_loss = base.quality is None or base.quality_before is None
    return Measure(
        model=model_info(base.loaded),
        data=info,
        card=card,
        validation=len(base.validation),
        quality="loss" if base.quality is None else base.quality.name,
        higher_is_better=base.quality is not None and base.quality.higher_is_better,
        before=base.loss_before if is_loss else float(base.quality_before or 0.0),
        settings=base.settings,
        budget=budget,
        seeds=protocol.seeds,
        ladder=protocol.ladder,
        ladder_seed=protocol.ladder_seed,
        ladder_examples=protocol.eval_examples,
        arms=tuple(arms),
        recommended=RECOMMENDED,
        verdict="no difference" if against is None else against.verdict,
        reason=reason(recommended, arms, against),
        provenance=collect(device=str(next(base.loaded.model.parameters()).device)),
        against_random=against,
        notes=notes,
    )
