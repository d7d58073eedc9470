"""Stages that look at a model by depth: probes, erasure, the ladder of blocks, interventions."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from layerwise.capture.restore import weights_kept
from layerwise.card.record import ModelInfo
from layerwise.data.text import TextData
from layerwise.files import write_atomic
from layerwise.measure.interventions import adapter_placement
from layerwise.measure.trial import bench
from layerwise.models.load import LoadedModel
from layerwise.objectives import resolve
from layerwise.probing.erase import make_erasure
from layerwise.probing.ladder import adaptation_depth
from layerwise.probing.mean_states import ReadoutSettings
from layerwise.probing.pairs import read_pairs
from layerwise.probing.probe import make_probing
from layerwise.probing.record import ErasureSettings, ProbeSettings
from layerwise.profile.probe_reading import ProbeReading, as_readout, make_reading
from layerwise.profile.record import Profile
from layerwise.provenance import collect
from layerwise.records import to_plain
from layerwise.study.shrink import halved
from layerwise.tuning.order import held_out
from layerwise.tuning.record import TuneSettings
from layerwise.tuning.run import fine_tune

__all__ = ["LABELLED", "DepthInput", "DepthResult", "climb", "erase", "intervene", "probe"]

#: Held-out examples of a training where no number is given (ours).
_HELD_OUT = 64

#: What is read where a stage's settings do not say it.
LABELLED: Mapping[str, Mapping[str, Any]] = {"probe": {"label_column": "label", "examples": 1000}}


@dataclass(frozen=True)
class DepthInput:
    """What a stage works on.

    Attributes:
        loaded: The model.
        settings: The cell's.
        seed: The cell's.
        folder: Where its records go.
        halvings: How often the micro-batch is to be halved, as memory ran out before.
    """

    loaded: LoadedModel
    settings: Mapping[str, Any]
    seed: int
    folder: Path
    halvings: int = 0

    def chosen(self, *names: str) -> dict[str, Any]:
        """The settings among `names` that the cell gives a value to."""
        return {name: self.settings[name] for name in names if name in self.settings}

    def readout(self, *, max_length: int) -> ReadoutSettings:
        """Return how texts are shown to the model."""
        size = max(1, self.settings.get("batch_size", 32) >> self.halvings)
        return ReadoutSettings(
            as_readout(self.settings.get("readout", "hf")),
            self.settings.get("stack"),
            size,
            self.settings.get("max_length", max_length),
        )

    def training(self, *, compares: str | None) -> TuneSettings:
        """Return how each training of the stage is optimised.

        Raises:
            TooLargeError: The batch cannot be halved so often.
        """
        known = {
            name: self.settings[name] for name in asdict(TuneSettings()) if name in self.settings
        }
        given = {"eval_examples": _HELD_OUT, **known, "save_every": 0, "seed": self.seed}
        return TuneSettings(
            **halved(asdict(TuneSettings(**given)), self.halvings, compares=compares)
        )


@dataclass(frozen=True)
class DepthResult:
    """What a stage gives: the model and stack that it is about, and the numbers of its rows."""

    model: ModelInfo
    stack: str | None
    numbers: Mapping[str, Any]


def probe(subject: DepthInput, text: TextData) -> DepthResult:
    """Measure what probes read of the labels of `text` at each depth."""
    made = make_probing(
        subject.loaded,
        text,
        settings=ProbeSettings(**subject.chosen("epochs", "test_share"), seed=subject.seed),
        readout=subject.readout(max_length=128),
    )
    write_atomic(subject.folder / "probe.json", made.to_json())
    rows = [
        {"index": d.index, "relative": d.relative, "linear": d.linear.accuracy,
         "linear_low": d.linear.low, "linear_high": d.linear.high, "mlp": d.mlp.accuracy,
         "mlp_low": d.mlp.low, "mlp_high": d.mlp.high}
        for d in made.depths
    ]  # fmt: skip
    common = {"readout": made.readout, "majority": made.majority, "data_sha256": made.data.sha256}
    return DepthResult(made.model, made.stack, {**common, "rows": rows})


def erase(subject: DepthInput) -> DepthResult:
    """Measure what erasing the concept of the cell's pairs does at each depth."""
    settings = ErasureSettings(
        **subject.chosen("folds", "draws"),
        standardised=subject.settings.get("standardise", False),
        seed=subject.seed,
    )
    made = make_erasure(
        subject.loaded,
        read_pairs(subject.settings["pairs"], seed=subject.seed, **subject.chosen("examples")),
        settings=settings,
        readout=subject.readout(max_length=64),
    )
    write_atomic(subject.folder / "erase.json", made.to_json())
    common = {"readout": made.readout, "pairs": made.pairs, "data_sha256": made.data.sha256}
    return DepthResult(made.model, made.stack, {**common, "rows": to_plain(made.depths)})


def climb(subject: DepthInput, text: TextData) -> DepthResult:
    """Measure the final loss as more of the top blocks train."""
    objective = resolve(subject.settings["objective"], loaded=subject.loaded, data=text)
    made = adaptation_depth(
        subject.loaded,
        text,
        objective,
        settings=subject.training(compares=objective.name if objective.coupled else None),
        seeds=(subject.seed,),
        **subject.chosen("tops", "tolerance"),
    )
    write_atomic(subject.folder / "ladder.json", made.to_json())
    rows = [
        {"top": -1 if rung.top is None else rung.top, "loss": rung.loss, "trained": rung.trained}
        for rung in (*made.rungs, made.full)
    ]
    common = {
        "objective": objective.name,
        "measured": made.measured,
        "saturation": -1 if made.saturation is None else made.saturation,
        "data_sha256": made.data.sha256,
    }
    return DepthResult(made.model, None, {**common, "rows": rows})


def intervene(subject: DepthInput, text: TextData) -> DepthResult:
    """Measure adapters on the blocks that moved most in a fine-tuning, and elsewhere.

    The model is fine-tuned under the standard condition, for as many steps as the adapters get, to
    see what moves; then it is what it was again.
    """
    objective = resolve(subject.settings["objective"], loaded=subject.loaded, data=text)
    settings = subject.training(compares=objective.name if objective.coupled else None)
    train, validation = held_out(text, examples=settings.eval_examples, seed=subject.seed)
    budget = replace(settings, eval_examples=0)
    reading = make_reading(**dict(subject.settings.get("profile") or {}))
    profile = _moved(subject.loaded, train, objective, budget, reading)
    made = adapter_placement(
        bench(subject.loaded, train, validation, objective, budget),
        profile,
        seeds=(subject.seed,),
        learning_rate=settings.learning_rate or 2e-4,
        **subject.chosen("blocks", "rank", "draws"),
    )
    write_atomic(subject.folder / "profile.json", profile.to_json())
    write_atomic(subject.folder / "interventions.json", made.to_json())
    blocks = {arm.name: ",".join(map(str, arm.blocks)) for arm in made.arms}
    rows = [
        {**row, "blocks": blocks[row["arm"]]}
        for row in made.frame().drop(columns="seed").to_dict("records")
    ]
    common = {"objective": objective.name, "loss_before": made.loss_before}
    return DepthResult(made.model, made.stack, {**common, "data_sha256": text.sha256, "rows": rows})


def _moved(
    loaded: LoadedModel,
    train: TextData,
    objective: Any,
    budget: TuneSettings,
    reading: ProbeReading,
) -> Profile:
    """Return what a fine-tuning of all weights moves; its rate is the condition's own."""
    before = reading.states(loaded)
    with weights_kept(loaded.model):
        tuned = fine_tune(loaded, train, objective, settings=replace(budget, learning_rate=None))
        after = reading.states(tuned.loaded)
    device = str(next(loaded.model.parameters()).device)
    return reading.profile(before, after, provenance=collect(device=device))
