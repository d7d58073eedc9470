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
from layerwise.errors import DataError, NonFiniteError, PlacementError, VerificationError
from layerwise.measure.arms import (
    RECOMMENDED,
    TOLERANCE,
    Adapters,
    Arm,
    arms_of,
    budget_of,
    refuse_unknown,
    size_of,
)
from layerwise.measure.leaderboard import (
    beside_random,
    improvements,
    random_draws,
    rank_arms,
    reason,
)
from layerwise.measure.record import ArmResult, Budget, Measure, RateRung
from layerwise.measure.scores import ScoreInputs
from layerwise.measure.trial import Bench, Quality, Trial, bench, train_rivals
from layerwise.measure.trial_log import TrialLog
from layerwise.models.load import LoadedModel
from layerwise.objectives import Objective
from layerwise.objectives.length import fitted
from layerwise.options.commands import DRAWS, LADDER
from layerwise.placement.compare import refuse_another_model
from layerwise.placement.record import Placement
from layerwise.progress import Progress, silent
from layerwise.provenance import collect
from layerwise.seeds import draw
from layerwise.tuning.material import gather, held_out
from layerwise.tuning.record import TuneSettings

_LOG = logging.getLogger(__name__)

#: Batches that a score may look at (as many as its source takes).
_SCORED = 5
#: A card that nobody brought: examples, those in memory at a time, and adapter rank (ours).
_CARD_EXAMPLES, _CARD_BATCH, _CARD_RANK = 64, 8, 8


First = dict[Adapters, tuple[str, Placement]]
"""The first arm with these adapters, by name: what it does, all that have them do."""


@dataclass(frozen=True)
class Protocol:
    """Arms, and how often they are compared: the options of `MeasureOptions` of these names."""

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

    A part of `data` scores, another chooses learning rates, the rest trains. Policies choose by
    `card`, made on some of what trains where None. Improvement is in `quality`, the loss where
    None. Each trial goes into the file `kept` as it ends; those that it holds are not made again.

    Raises:
        SchemaError: The card is of another model, or `kept` holds something else.
        OutputError: `kept` cannot be written.
        PlacementError: The card recommends nothing that meets the budget.
        DataError: Too few examples.
        NonFiniteError: The recommended arm diverged at every rate.
        VerificationError: Arms were not given the same budget.
    """
    refuse_unknown(protocol.arms or ())
    blocks = sum(len(stack.blocks) for stack in loaded.stacks)
    if protocol.layers is not None and not 1 <= protocol.layers <= blocks:
        what, expected = "number of layers", f"1 to {blocks}, the model's blocks"
        raise PlacementError(what, value=protocol.layers, expected=expected, hint="-k N")
    if card is not None:
        refuse_another_model(card.model, model_info(loaded))
    log = TrialLog(kept)
    length, data = fitted(loaded, data, objective, settings.max_length)
    settings = replace(settings, max_length=length)
    seen = frozenset() if card is None else _seen(card, data)
    train, choosing, scoring = _parts(data, protocol, seen)
    card = card or _card(loaded, train, objective, settings, protocol)
    size = size_of(
        card, layers=protocol.layers, rank=protocol.rank, draws=protocol.draws, seed=protocol.seed
    )
    batches = gather(loaded, train, objective, settings).batches
    inputs = ScoreInputs(loaded, card, objective, batches.batches[:_SCORED], protocol.seed)
    arms = arms_of(inputs, size, protocol.arms)
    bench_of = partial(bench, loaded, train, objective=objective, settings=settings)
    scored, chosen = (bench_of(text, quality=quality) for text in (scoring, choosing))
    # The first arm of each set of adapters: what it does is what they all do.
    first: First = {}
    for arm in arms:
        if arm.placement:
            first.setdefault(arm.adapters, (arm.name, arm.placement))
    ladders, trials = _trained(chosen, scored, first, protocol, log, progress)
    results = rank_arms([_result(arm, first, ladders, trials) for arm in arms])
    _refuse_unequal(results)
    notes = [*loaded.notes, *data.notes, *batches.notes]
    if log.taken:
        notes.append(
            f"{len(log.taken)} trials were kept from a measurement that was cut short, so step "
            "times are of different hours, and compare them only roughly"
        )
    if card.data.source != data.source:
        notes.append(f"the card was made on other text ({card.data.source})")
    elif seen is None or len(data) - len(seen) <= 2 * protocol.eval_examples:
        why = "its examples are not known" if seen is None else "it was made on nearly all"
        notes.append(f"the card may have seen text that scores: {why}")
    spent = next((arm.trials for arm in results if arm.trials), ())
    return _measure(
        scored,
        results,
        protocol,
        budget=Budget(
            layers=size.layers,
            rank=size.rank,
            adapter_parameters=budget_of(card, size),
            tolerance=TOLERANCE,
            steps=settings.steps,
            tokens=tuple(found.tokens for found in spent),
        ),
        card=card.data,
        data=data_info(train, batches, objective, max_length=settings.length),
        notes=tuple(dict.fromkeys(notes)),
    )


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
        loaded, some, objective, wanted, batch_size=_CARD_BATCH, max_length=settings.length
    )


def _seen(card: LayerCard, data: TextData) -> frozenset[int] | None:
    """Return which of `data` the card was made on, by position; None where that cannot be told.

    A card draws its examples from its source by its seed, so that they are drawn again here, and
    told by their hash. Of other text it has seen none.
    """
    if card.data.source != data.source:
        return frozenset()
    count = card.data.examples + card.data.dropped
    drawn = draw(len(data), count, card.capture.seed, "examples")
    is_same = _some(data, drawn).digest() == card.data.sha256
    return frozenset(drawn) if is_same else None


def _parts(
    data: TextData, protocol: Protocol, seen: frozenset[int] | None
) -> tuple[TextData, TextData, TextData]:
    """Return what trains, what learning rates are chosen by, and what scores.

    Nothing that the card has `seen` scores or chooses, as long as enough is left.
    """
    own = [i for i in range(len(data)) if i not in (seen or ())]
    if len(own) <= 2 * protocol.eval_examples:
        return _parts_of(data, protocol)
    train, choosing, scoring = _parts_of(_some(data, own), protocol)
    known = _some(data, sorted(seen or ()))
    return replace(train, examples=(*train.examples, *known.examples)), choosing, scoring


def _some(data: TextData, places: Sequence[int]) -> TextData:
    return replace(data, examples=tuple(data.examples[i] for i in places))


def _parts_of(data: TextData, protocol: Protocol) -> tuple[TextData, TextData, TextData]:
    if 2 * protocol.eval_examples >= len(data):
        message = f"examples that score, and as many for the ladder, out of {len(data)}"
        most, more = (len(data) - 1) // 2, data.more(4 * protocol.eval_examples)
        hint = f"--eval-examples {most}, or {more}" if most else more
        raise DataError(
            message, value=protocol.eval_examples, expected=f"at most {most}", hint=hint
        )
    rest, scoring = held_out(data, examples=protocol.eval_examples, seed=protocol.seed)
    train, choosing = held_out(rest, examples=protocol.eval_examples, seed=protocol.seed)
    return train, choosing, scoring


def _trained(
    chosen: Bench,
    scored: Bench,
    first: First,
    protocol: Protocol,
    log: TrialLog,
    progress: Progress,
) -> tuple[dict[Adapters, tuple[RateRung, ...]], dict[Adapters, tuple[Trial | str, ...]]]:
    """Return how far each rate improves each arm, and its trials at the best, one a seed.

    Rates are chosen on text and a seed that score nobody.
    """

    def attempt(base: Bench, adapters: Adapters, seed: int, rate: float) -> Trial | str:
        name, placement = first[adapters]
        made = log.attempt(base, placement, seed=seed, learning_rate=rate)
        told = f"improves by {made.improvement:.4g}" if isinstance(made, Trial) else made
        _LOG.info("%s at %g, seed %d: %s", name, rate, seed, told)
        return made

    def climb(adapters: Adapters, rate: float) -> RateRung:
        made = attempt(chosen, adapters, protocol.ladder_seed, rate)
        return RateRung(rate, made.improvement if isinstance(made, Trial) else None)

    title = "choosing learning rates"
    climbed = train_rivals(first, protocol.ladder, climb, title=title, progress=progress)
    ladders = {adapters: tuple(rungs.values()) for adapters, rungs in climbed.items()}
    rates = {a: rate for a, rungs in ladders.items() if (rate := _best_rate(rungs)) is not None}

    def score(adapters: Adapters, seed: int) -> Trial | str:
        return attempt(scored, adapters, seed, rates[adapters])

    made = train_rivals(rates, protocol.seeds, score, title="trials", progress=progress)
    return ladders, {adapters: tuple(by_seed.values()) for adapters, by_seed in made.items()}


def _best_rate(ladder: Sequence[RateRung]) -> float | None:
    """Return the rate that improves most, the smaller on ties; None where all diverged."""
    went = [(-r.improvement, r.learning_rate) for r in ladder if r.improvement is not None]
    return min(went)[1] if went else None


def _result(
    arm: Arm,
    first: First,
    ladders: Mapping[Adapters, tuple[RateRung, ...]],
    trials: Mapping[Adapters, Sequence[Trial | str]],
) -> ArmResult:
    """Return an arm with its trials, which may be those of an arm before it."""
    ladder, made = ladders.get(arm.adapters, ()), trials.get(arm.adapters, ())
    placed, rate = arm.placement, _best_rate(ladder)
    faults = [found for found in made if isinstance(found, str)]
    if placed is not None and rate is None:
        faults = ["it diverged at every learning rate"]
    trained, *_ = first.get(arm.adapters, (arm.name,))
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
        same_as=None if trained == arm.name else trained,
        failed=arm.failed or (faults[0] if faults else None),
    )


def _refuse_unequal(arms: Sequence[ArmResult]) -> None:
    """Raise unless every arm saw as many steps and tokens, and trained what its placement says.

    A head that is trained beside the adapters is the same for every arm.
    """

    def spent(arm: ArmResult) -> list[tuple[int, ...]]:
        """Return what an arm was given for each seed, and what it trained beside its adapters."""
        size = arm.adapter_parameters
        return [(t.seed, t.steps, t.tokens, t.trainable_parameters - size) for t in arm.trials]

    ran = [arm for arm in arms if arm.trials]
    for arm in ran:
        if spent(arm) != spent(ran[0]):
            message = "arms of unequal budget"
            value = f"{arm.name} and {ran[0].name}"
            raise VerificationError(message, value=value, expected="the same steps and tokens")


def _measure(
    base: Bench,
    arms: Sequence[ArmResult],
    protocol: Protocol,
    *,
    budget: Budget,
    data: DataInfo,
    card: DataInfo,
    notes: tuple[str, ...],
) -> Measure:
    by_name = {arm.name: arm for arm in arms}
    recommended = by_name[RECOMMENDED]
    if not recommended.trials:
        message = f"recommended placement that could not be measured ({recommended.failed})"
        raise NonFiniteError(
            message, expected="a loss that stays finite", hint="--ladder 1e-5,1e-4"
        )
    against = beside_random(improvements(recommended.trials), random_draws(by_name))
    is_loss = base.quality is None or base.quality_before is None
    return Measure(
        model=model_info(base.loaded),
        data=data,
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
        provenance=collect(device=str(base.loaded.device)),
        against_random=against,
        notes=notes,
    )
