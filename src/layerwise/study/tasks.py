"""What a training or distance run of a study does: from settings to the numbers of a row.

What a stage gives is free of times and paths: the same cell gives the same numbers, byte by byte,
also where it was killed and taken up again. The records beside it (``tune.json``, ``profile.json``,
``distance.json``) say the rest.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from layerwise.card.record import ModelInfo
from layerwise.data.text import TextData, read
from layerwise.distance.choose import choose
from layerwise.distance.make import make_distance
from layerwise.distance.record import Distance
from layerwise.files import canonical_json, remove, write_atomic
from layerwise.models.family import family_of
from layerwise.models.load import LoadedModel, from_config, load
from layerwise.objectives import labels_for, resolve
from layerwise.options.groups import CALL_ONLY
from layerwise.placement.record import Placement
from layerwise.profile.compare_states import read_pair
from layerwise.profile.probe_reading import make_reading
from layerwise.profile.record import Profile, ReadoutProfile
from layerwise.records import to_plain
from layerwise.study.ledger import Ledger
from layerwise.study.placing import placed
from layerwise.study.record import Cell
from layerwise.study.shrink import halved
from layerwise.tuning.record import TuneRecord, TuneSettings
from layerwise.tuning.results import RECORD, save
from layerwise.tuning.run import CHECKPOINTS, Persistence, Tuned, fine_tune

__all__ = ["MODEL", "Task", "facts", "measure_distance", "pretrain", "tune", "tune_source"]

log = logging.getLogger(__name__)

MODEL = "model"
"""The folder, in a run's, of the weights that it ended with."""

#: Settings of a run that say what is read, and where the model is worked on.
_READING = ("text_column", "prompt_column", "label_column", "where", "examples")
_LOADING = ("device", "dtype")
#: Those that are read otherwise.
_BESIDE = ("source", "pretrained", "data", "placement", "profile", "config", "tokenizer")

#: Stages whose weights stay, as other runs start from them.
_MAKES = ("pretrain", "source")

#: A run is taken up from its last checkpoint, if it is long enough to have one (ours).
_SAVE_EVERY = 100
#: Examples that distances are taken from where no number is given (ours).
_DISTANCE_EXAMPLES = 1000
#: The rate that random weights are trained at where none is given (ours).
_PRETRAIN_RATE = 1e-3

_CHANGES = ("procrustes", "cka", "rsa", "shared_pca_cka")
_SUMMARY = (
    "slope",
    "slope_low",
    "slope_high",
    "cka_slope",
    "rsa_slope",
    "width",
    "noise_floor",
)


def _unheard(part: str) -> None:
    del part


@dataclass(frozen=True)
class Task:
    """A run, as its stage gets it.

    Attributes:
        cell: What is to be done.
        ledger: Where it belongs.
        halvings: How often the micro-batch is to be halved, as memory ran out before.
        trusts: Whether code that a model's repository brings may run.
        begins: Called with the name of each part of the work as it begins, and at each step that is
            logged; raises where the run is no longer this process's.
    """

    cell: Cell
    ledger: Ledger
    halvings: int = 0
    trusts: bool = False
    begins: Callable[[str], None] = _unheard

    @property
    def folder(self) -> Path:
        """Return the folder that its files go into."""
        return self.ledger.folder(self.cell.id)

    def chosen(self, *names: str) -> dict[str, Any]:
        """Return the settings among `names` that the cell gives a value to."""
        return {n: self.cell.settings[n] for n in names if n in self.cell.settings}

    def text(self, **unsaid: Any) -> TextData:
        """Return the text that the cell names, read by `unsaid` where its settings do not say."""
        chosen = unsaid | self.chosen(*_READING)
        return read(self.cell.settings["data"], seed=self.cell.seed, **chosen)

    def model(self, labels: tuple[str, ...] | None = None) -> LoadedModel:
        """Return the cell's model, with a head for the classes `labels`.

        Raises:
            SchemaError: The run that makes it has no result, or its files are not what it wrote.
        """
        made = self.cell.settings.get("pretrained")
        if made is None:
            source = str(self.cell.settings["source"])
        else:
            self.ledger.result(made)
            source = str(self.ledger.folder(made) / MODEL)
        how = self.chosen(*_LOADING) | {"seed": self.cell.seed, CALL_ONLY: self.trusts}
        return load(source, labels=labels, **how)

    def labels(self, text: TextData) -> tuple[str, ...] | None:
        """Return the classes that the model is loaded for."""
        return labels_for(str(self.cell.objective), text)


def _trained(task: Task, loaded: LoadedModel, text: TextData, **defaults: Any) -> Tuned:
    """Return `loaded` after the cell's training, taken up from a checkpoint where there is one."""
    cell = task.cell
    objective = resolve(str(cell.objective), loaded=loaded, data=text)
    beside = {*_READING, *_LOADING, *_BESIDE}
    given = defaults | {k: v for k, v in cell.settings.items() if k not in beside}
    chosen = asdict(TuneSettings(**{"save_every": _SAVE_EVERY, **given, "seed": cell.seed}))
    fitted = halved(chosen, task.halvings, compares=objective.name if objective.coupled else None)
    if task.halvings:
        loaded = replace(loaded, notes=(*loaded.notes, _halving(chosen, fitted)))
    settings = TuneSettings(**fitted)
    described = cell.settings.get("placement")
    if described:
        task.begins("placement")
    placement = placed(
        described,
        loaded,
        text,
        objective,
        settings=settings,
        folder=task.folder,
    )
    task.begins("training")
    tuned = fine_tune(
        loaded,
        text,
        objective,
        condition=str(cell.condition),
        settings=settings,
        placement=placement,
        keep=Persistence(task.folder, resume=True, on_step=lambda _: task.begins("training")),
    )
    return _kept(task, tuned)


def _halving(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return what was done about memory, in words."""
    asked, made = (f"{s['accumulation']} x {s['batch_size']}" for s in (before, after))
    return f"memory ran out with {asked} examples a step: it is {made} instead"


def _kept(task: Task, tuned: Tuned) -> Tuned:
    """`tuned`, with its record in the run's folder, and its weights where they are to stay."""
    if task.ledger.keep_weights or task.cell.stage in _MAKES:
        task.begins("saving")
        remove(task.folder / MODEL, inside=task.folder)  # A part of it, if anything.
        (task.folder / MODEL).mkdir()
        tuned = save(tuned, task.folder / MODEL)
    write_atomic(task.folder / RECORD, tuned.record.to_json())
    return tuned


def pretrain(task: Task) -> dict[str, Any]:
    """Train a model from random weights, drawn by the cell's seed; it stays for other runs."""
    task.begins("reading")
    settings = task.cell.settings
    text = task.text()
    file = task.folder / "config.json"
    write_atomic(file, canonical_json(settings["config"]))
    loaded = from_config(
        file,
        tokenizer=settings["tokenizer"],
        seed=task.cell.seed,
        labels=task.labels(text),
        **task.chosen("device", "dtype"),
    )
    return _made(task, loaded, text, learning_rate=_PRETRAIN_RATE)


def tune_source(task: Task) -> dict[str, Any]:
    """Fine-tune a model on other text; it stays for other runs, which start from it."""
    task.begins("reading")
    text = task.text()
    return _made(task, task.model(task.labels(text)), text)


def _made(task: Task, loaded: LoadedModel, text: TextData, **defaults: Any) -> dict[str, Any]:
    """Train `loaded` for other runs to start from; return what a table says of it."""
    tuned = _trained(task, loaded, text, **defaults)
    remove(task.folder / CHECKPOINTS, inside=task.folder)
    return _row(task, tuned.record, loaded)


def tune(task: Task) -> dict[str, Any]:
    """Measure what fine-tuning moves at which depth; weights stay only where asked for."""
    task.begins("reading")
    text = task.text()
    loaded = task.model(task.labels(text))
    options = dict(task.cell.settings.get("profile") or {})
    options["batch_size"] = max(1, options.get("batch_size", 32) >> task.halvings)
    reading = make_reading(**options)
    task.begins("profile before")
    before = reading.states(loaded)
    tuned = _trained(task, loaded, text)
    task.begins("profile after")
    pair = read_pair(before, tuned, reading=reading, load=load)
    profile = pair.profile(reading)
    write_atomic(task.folder / "profile.json", profile.to_json())
    remove(task.folder / CHECKPOINTS, inside=task.folder)
    return _row(task, tuned.record, loaded, stack=profile.stack) | _profiled(profile)


def measure_distance(task: Task) -> dict[str, Any]:
    """Measure how far gradients of objectives lie from those of a reference objective."""
    task.begins("reading")
    settings = task.cell.settings
    data = {"examples": _DISTANCE_EXAMPLES, **task.chosen("text_column", "where", "examples")}
    text = read(settings["data"], seed=task.cell.seed, **data)
    loaded = task.model()
    chosen = choose(loaded, text, **task.chosen("objectives", "reference"))
    whole = {"batch_size": settings.get("batch_size", 32), "accumulation": 1}
    compares = next((objective.name for objective in chosen if objective.coupled), None)
    fitted = halved(whole, task.halvings, compares=compares)
    task.begins("distance")
    made = make_distance(
        loaded,
        text,
        chosen,
        batch_size=fitted["batch_size"],
        seed=task.cell.seed,
        **task.chosen("max_length"),
    )
    write_atomic(task.folder / "distance.json", made.to_json())
    return {"model": facts(made.model, loaded)} | _distances(made) | _memory(task, fitted)


def _distances(made: Distance) -> dict[str, Any]:
    """Return every number of each objective; the reference's distances are 0."""
    return {
        "reference": made.reference,
        "objectives": [
            {k: v for k, v in to_plain(found).items() if k != "halves"} for found in made.objectives
        ],
        "agreement": dict(made.agreement),
        "data_sha256": made.data.sha256,
    }


def _memory(task: Task, fitted: Mapping[str, Any]) -> dict[str, Any]:
    return {"batch_size": fitted["batch_size"], "halvings": task.halvings}


def _row(
    task: Task, record: TuneRecord, loaded: LoadedModel, *, stack: str | None = None
) -> dict[str, Any]:
    """Return what a table says of model and training; `stack` is the one that was followed."""
    settings, went = record.settings, record.outcome
    training = {
        "objective": record.data.objective,
        "condition": record.condition,
        "loss": went.loss,
        "first_loss": went.first_loss,
        "eval_loss": went.eval_loss,
        "first_eval_loss": went.first_eval_loss,
        **went.quality,
        **{f"first_{name}": value for name, value in went.first_quality.items()},
        "steps": settings.steps,
        "learning_rate": settings.learning_rate,
        "batch_size": settings.batch_size,
        "accumulation": settings.accumulation,
        "halvings": task.halvings,
        "tau": record.tau,
        "trained": sum(group.trained for group in record.groups),
        "blocks": None if record.placement is None else _blocks(record.placement),
        "data_sha256": record.data.sha256,
    }
    return {"model": facts(record.model, loaded, stack), "training": to_plain(training)}


def _blocks(placement: Placement) -> str:
    """Return the blocks that have adapters, as a study names them."""
    stacks = {block.stack for block in placement.blocks}
    alone = len(stacks) == 1
    return ",".join(str(b.index) if alone else f"{b.stack}:{b.index}" for b in placement.blocks)


def facts(info: ModelInfo, loaded: LoadedModel, stack: str | None = None) -> dict[str, Any]:
    """Return what tells one model from another; blocks are those of `stack`, else the last's."""
    named = {s.name: s for s in info.stacks}
    followed = named.get(stack or "", info.stacks[-1])
    return {
        "architecture": info.architecture,
        "family": family_of(loaded.model, loaded.stacks),
        "block": followed.residual,
        "layers": followed.blocks,
        "parameters": info.parameters,
    }


def _profiled(profile: Profile) -> dict[str, Any]:
    """Return the profile under each readout, at the seven depths."""
    return {
        "readout": profile.readout,
        "profile": {name: _readout(found) for name, found in profile.readouts.items()},
        "untrained_modules": len(profile.untrained_modules),
    }


def _readout(found: ReadoutProfile) -> dict[str, Any]:
    changes = {name: [getattr(depth, name) for depth in found.depths] for name in _CHANGES}
    return changes | {name: to_plain(getattr(found, name)) for name in _SUMMARY}
