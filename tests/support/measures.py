"""Measurements made by hand, for tests of what shows them."""

import numpy as np

from layerwise.card.record import DataInfo, ModelInfo, StackInfo
from layerwise.measure.leaderboard import (
    beside_random,
    improvements,
    random_draws,
    rank_arms,
    reason,
)
from layerwise.measure.record import ArmResult, Budget, Measure, RateRung
from layerwise.measure.trial import Trial
from layerwise.placement.record import PlacedBlock
from layerwise.provenance import Provenance
from layerwise.tuning.record import TuneSettings

#: Name, kind, mean improvement, seconds a step.
ARMS = (
    ("recommended", "recommended", 0.30, 0.6),
    ("top", "policy", 0.32, 0.9),
    ("eva", "incumbent", 0.22, 0.8),
    ("random-0", "random", 0.10, 0.7),
    ("random-1", "random", 0.11, 0.7),
    ("random-2", "random", 0.09, 0.7),
    ("low-rank", "everywhere", 0.28, 1.0),
    ("all", "everywhere", 0.35, 1.0),
)


def planted_arm(name, kind, mean, seconds, *, seeds):
    """An arm whose trials lie around `mean`."""
    noise = np.random.default_rng(len(name)).normal(scale=0.01, size=len(seeds))
    trials = tuple(
        Trial(s, 6e-4, 3.0, 3.0 - mean - float(n), seconds, 2**30, 1000, 40, 5000)
        for s, n in zip(seeds, noise, strict=True)
    )
    blocks = tuple(PlacedBlock("model.layers", i) for i in (3, 7, 8, 9))
    rungs = (RateRung(2e-4, 0.8 * mean), RateRung(6e-4, mean), RateRung(2e-3))
    size = 6000 if name == "all" else 1000
    return ArmResult(name, kind, blocks, 8, size, name != "all", rungs, trials, learning_rate=6e-4)


def planted_measure(*, seeds=(0, 1, 2), random=True, source="org/model", notes=(), quality="loss"):
    """A measurement of six arms, of which one failed beside them."""
    arms = [planted_arm(*a, seeds=seeds) for a in ARMS if random or a[1] != "random"]
    failed = ArmResult("ski", "policy", (), 0, 0, True, (), (), failed="no <b>attention</b>")
    results = rank_arms([*arms, failed])
    by_name = {arm.name: arm for arm in results}
    own = improvements(by_name["recommended"].trials)
    against = beside_random(own, random_draws(by_name))
    stacks = (StackInfo("model.layers", 30, "Block", "sequential"),)
    data = DataInfo("reviews.csv", "7d" * 32, 400, 9000, "causal-lm")
    return Measure(
        model=ModelInfo(source, "Model", 1000, stacks, files={"model.gguf": "5a" * 32}),
        data=data,
        card=data,
        validation=64,
        quality=quality,
        higher_is_better=quality != "loss",
        before=3.0,
        settings=TuneSettings(steps=40, batch_size=8),
        budget=Budget(4, 8, 1000, 0.05, 40, (5000,) * len(seeds)),
        seeds=tuple(seeds),
        ladder=(2e-4, 6e-4, 2e-3),
        ladder_seed=3,
        ladder_examples=64,
        arms=results,
        recommended="recommended",
        verdict="no difference" if against is None else against.verdict,
        reason=reason(by_name["recommended"], results, against),
        provenance=Provenance("0", "2", "5", "0", "3", None, "cpu", "layerwise measure", "2026"),
        against_random=against,
        notes=tuple(notes),
    )
