"""A tiny model with its card, and arms made by hand."""

from types import SimpleNamespace

import pytest

from layerwise.capture import plan
from layerwise.card.make import make_card
from layerwise.measure.record import ArmResult
from layerwise.measure.scores import ScoreInputs
from layerwise.measure.trial import Trial
from layerwise.objectives import resolve
from layerwise.placement.record import PlacedBlock
from layerwise.progress import silent


@pytest.fixture(scope="session")
def seen(tuning):
    """Makes what a score may look at, of a tiny model whose card is made once."""
    cards, data = {}, tuning.data(16)

    def made(name="llama", objective="auto"):
        loaded = tuning.loaded(name)
        loss = resolve(objective, loaded=loaded, data=data)
        if (name, objective) not in cards:
            cards[name, objective] = make_card(
                loaded, data, loss, plan(None, rank=4), batch_size=4, max_length=16
            )
        batches = loss.batches_for(loaded, data, batch_size=4, max_length=16, seed=0).batches
        return ScoreInputs(loaded, cards[name, objective], loss, batches[:2])

    return made


@pytest.fixture(scope="session")
def measuring(tuning, seen):
    """Runs a small measurement of a tiny model, with its card unless told otherwise."""
    from layerwise.measure.run import Protocol, run_measure

    def run(
        name="llama",
        *,
        card="own",
        quality=None,
        texts=40,
        objective="auto",
        kept=None,
        change=None,
        progress=silent,
        **options,
    ):
        subject = seen(name, objective)
        if change is not None:
            change(subject.loaded.model)
        steps = options.pop("steps", 2)
        protocol = {"layers": 1, "draws": 1, "seeds": (0, 1), "ladder": (1e-2,)}
        made = run_measure(
            subject.loaded,
            tuning.data(texts),
            subject.objective,
            tuning.settings(steps=steps),
            Protocol(**(protocol | {"eval_examples": 6} | options)),
            card=subject.card if isinstance(card, str) else card,
            quality=quality,
            kept=kept,
            progress=progress,
        )
        return SimpleNamespace(measure=made, subject=subject)

    return run


@pytest.fixture(scope="session")
def one_arm():
    """Makes an arm whose trials improve by the given numbers."""

    def made(name, improvements, *, kind="policy", equal=True, seconds=1.0, **more):
        trials = tuple(
            Trial(seed, 1e-3, 2.0, 2.0 - gain, seconds, 10**9, 100, 5, 50)
            for seed, gain in enumerate(improvements)
        )
        blocks = (PlacedBlock("model.layers", 1),)
        return ArmResult(name, kind, blocks, 8, 100, equal, (), trials, **more)

    return made
