"""The stages that train, and that compare objectives: from settings to the numbers of a row.

What a stage gives is free of times and paths: the same cell gives the same numbers, byte by byte,
also where it was killed and taken up again. The records beside it (``tune.json``, ``profile.json``,
``distance.json``) say the rest. A check looks at a cell without weights.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from layerwise.card.record import ModelInfo
from layerwise.data.text import TextData, read
from layerwise.distance.choose import choose
from layerwise.distance.make import make_distance
from layerwise.errors import BadInputError
from layerwise.files import canonical_json, remove, write_atomic
from layerwise.models.blank import tokenizer_source
from layerwise.models.head_kind import family_of
from layerwise.models.load import LoadedModel, from_config, load
from layerwise.models.roles import roles
from layerwise.objectives import OBJECTIVES, Objective, labels_for, resolve
from layerwise.objectives.length import fitted
from layerwise.options.commands import ProfileSettings
from layerwise.options.declaration import pick
from layerwise.options.groups import CALL_ONLY, Device, TextOptions
from layerwise.options.stages import PlacementSettings
from layerwise.placement.record import Placement
from layerwise.profile.compare_states import read_pair
from layerwise.profile.probe_reading import make_reading
from layerwise.profile.record import ReadoutProfile
from layerwise.records import to_plain
from layerwise.study.checker import Checker, refuse_settings
from layerwise.study.ledger import Ledger
from layerwise.study.placing import check_placement, placed
from layerwise.study.record import Cell
from layerwise.study.shrink import halved
from layerwise.tuning.conditions import CONDITIONS, places
from layerwise.tuning.record import TuneRecord, TuneSettings
from layerwise.tuning.results import RECORD, save
from layerwise.tuning.run import Tuned, fine_tune
from layerwise.tuning.steps import CHECKPOINTS, Persistence

MODEL = "model"
"""The folder, in a run's, of the weights that it ended with."""

#: A run is taken up from its last checkpoint, if it is long enough to have one (ours).
_SAVE_EVERY = 100
#: Examples that distances are taken from where no number is given (ours).
_DISTANCE_EXAMPLES = 1000
#: The rate that random weights are trained at where none is given (ours).
_PRETRAIN_RATE = 1e-3

_CHANGES = ("procrustes", "cka", "rsa", "shared_pca_cka")


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
    begins: Callable[[str], None] = lambda _part: None

    @property
    def folder(self) -> Path:
        """Return the folder that its files go into."""
        return self.ledger.folder(self.cell.id)

    def chosen(self, *names: str) -> dict[str, Any]:
        """Return the settings among `names` that the cell gives a value to."""
        return {n: self.cell.settings[n] for n in names if n in self.cell.settings}

    def text(self, **unsaid: Any) -> TextData:
        """Return the text that the cell names, read by `unsaid` where its settings do not say."""
        chosen = unsaid | pick(TextOptions, self.cell.settings)
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
        how = pick(Device, self.cell.settings) | {"seed": self.cell.seed, CALL_ONLY: self.trusts}
        return load(source, labels=labels, **how)

    def training(self, objective: Objective, **unsaid: Any) -> TuneSettings:
        """Return how a training is optimised, its micro-batch halved as memory needs.

        Raises:
            TooLargeError: It cannot be halved so often.
        """
        given = pick(TuneSettings, self.cell.settings) | {"seed": self.cell.seed}
        whole = TuneSettings(**(unsaid | given))
        size = halved(whole.batch_size, self.halvings, objective)
        return replace(whole, batch_size=size, accumulation=whole.accumulation << self.halvings)


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


# --- Training ---------------------------------------------------------------------------------


def run_pretrain(task: Task) -> dict[str, Any]:
    """Train a model from random weights, drawn by the cell's seed; it stays for other runs."""
    task.begins("reading")
    cell, text, file = task.cell, task.text(), task.folder / "config.json"
    write_atomic(file, canonical_json(cell.settings["config"]))
    loaded = from_config(
        file,
        tokenizer=cell.settings["tokenizer"],
        seed=cell.seed,
        labels=labels_for(str(cell.objective), text),
        **pick(Device, cell.settings),
    )
    return _made(task, loaded, text, learning_rate=_PRETRAIN_RATE)


def run_source(task: Task) -> dict[str, Any]:
    """Fine-tune a model on other text; it stays for other runs, which start from it."""
    task.begins("reading")
    text = task.text()
    return _made(task, task.model(labels_for(str(task.cell.objective), text)), text)


def _made(task: Task, loaded: LoadedModel, text: TextData, **unsaid: Any) -> dict[str, Any]:
    """Train `loaded` for other runs to start from; return what a table says of it."""
    tuned = _trained(task, loaded, text, is_kept=True, **unsaid)
    remove(task.folder / CHECKPOINTS, inside=task.folder)
    return _row(task, tuned.record, loaded)


def run_tune(task: Task) -> dict[str, Any]:
    """Measure what fine-tuning moves at which depth; weights stay only where asked for."""
    task.begins("reading")
    text = task.text()
    loaded = task.model(labels_for(str(task.cell.objective), text))
    options = dict(task.cell.settings.get("profile") or {})
    options["batch_size"] = max(1, options.get("batch_size", 32) >> task.halvings)
    reading = make_reading(**options)
    task.begins("profile before")
    before = reading.states(loaded)
    tuned = _trained(task, loaded, text, is_kept=task.ledger.keep_weights)
    task.begins("profile after")
    pair = read_pair(before, tuned, reading=reading, load=load)
    profile = pair.profile(reading)
    write_atomic(task.folder / "profile.json", profile.to_json())
    remove(task.folder / CHECKPOINTS, inside=task.folder)
    return _row(task, tuned.record, loaded, stack=profile.stack) | {
        "readout": profile.readout,
        "probes": profile.probes.shown,
        "profile": {name: _readout(found) for name, found in profile.readouts.items()},
        "untrained_modules": len(profile.untrained_modules),
    }


def _readout(found: ReadoutProfile) -> dict[str, Any]:
    """Return the changes at the seven depths, and what sums them up."""
    changes = {name: [getattr(depth, name) for depth in found.depths] for name in _CHANGES}
    return changes | to_plain({**vars(found), "depths": None, "blocks": None})


def _trained(
    task: Task, loaded: LoadedModel, text: TextData, *, is_kept: bool, **unsaid: Any
) -> Tuned:
    """Return `loaded` after the cell's training, taken up from a checkpoint where there is one.

    Its record is in the run's folder then, and so are its weights where they are to be kept.
    """
    cell = task.cell
    objective = resolve(str(cell.objective), loaded=loaded, data=text)
    settings = task.training(objective, save_every=_SAVE_EVERY, **unsaid)
    length, text = fitted(loaded, text, objective, settings.max_length)
    settings = replace(settings, max_length=length)
    if task.halvings:
        size, parts = settings.batch_size, settings.accumulation
        asked = f"{parts >> task.halvings} x {size << task.halvings} examples a step"
        note = f"memory ran out with {asked}: it is {parts} x {size} instead"
        loaded = replace(loaded, notes=(*loaded.notes, note))
    described = cell.settings.get("placement")
    if described:
        task.begins("placement")
    placement = placed(described, loaded, text, objective, settings=settings, folder=task.folder)
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
    if is_kept:
        task.begins("saving")
        remove(task.folder / MODEL, inside=task.folder)  # A part of it, if anything.
        (task.folder / MODEL).mkdir()
        tuned = save(tuned, task.folder / MODEL)
    write_atomic(task.folder / RECORD, tuned.record.to_json())
    return tuned


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
    is_one = len({block.stack for block in placement.blocks}) == 1
    return ",".join(str(b.index) if is_one else f"{b.stack}:{b.index}" for b in placement.blocks)


def check_pretrain(checker: Checker, cell: Cell) -> None:
    """Raise where a model cannot be made of its configuration."""
    words = cell.settings["tokenizer"]
    checker.once(("tokenizer", words), lambda: tokenizer_source(words, folder=Path()))
    check_source(checker, cell)


def check_tune(checker: Checker, cell: Cell) -> None:
    """Raise where a run of the matrix cannot work."""
    OBJECTIVES[str(cell.objective)]  # `auto` would hide in tables what was trained.
    refuse_settings("profile", ProfileSettings, cell.settings["profile"])
    checker.reading(cell.settings["profile"])
    check_source(checker, cell)


def check_source(checker: Checker, cell: Cell) -> None:
    """Raise where a training cannot work, or a setting of it would have no effect."""
    condition, text = CONDITIONS[str(cell.condition)], checker.text(cell)
    settings = TuneSettings(**pick(TuneSettings, cell.settings))
    plain, usual = asdict(settings), asdict(TuneSettings())
    for name in sorted({n for c in CONDITIONS for n in CONDITIONS[c].reads} - condition.reads):
        if plain[name] != usual[name]:
            taker = next(c for c in CONDITIONS if name in CONDITIONS[c].reads)
            message = f"{name} has no meaning under condition {condition.name}"
            hint = f"override: [{{where: {{condition: {taker}}}, set: {{{name}: ...}}}}]"
            raise BadInputError(message, value=plain[name], hint=hint)
    loaded = checker.trainable(cell, str(cell.objective), text)
    if condition.adapters:
        described = cell.settings.get("placement")
        if isinstance(described, Mapping):
            refuse_settings("placement", PlacementSettings, described)
        check_placement(described, loaded)
    else:
        condition.trained(places(roles(loaded.model, loaded.stacks), loaded.stacks), settings)


# --- Distances --------------------------------------------------------------------------------


def run_distance(task: Task) -> dict[str, Any]:
    """Measure how far gradients of objectives lie from those of a reference objective."""
    task.begins("reading")
    data = {"examples": _DISTANCE_EXAMPLES, **task.chosen("text_column", "where", "examples")}
    text = read(task.cell.settings["data"], seed=task.cell.seed, **data)
    loaded = task.model()
    chosen = choose(loaded, text, **task.chosen("objectives", "reference"))
    size = halved(task.cell.settings.get("batch_size", 32), task.halvings, *chosen)
    task.begins("distance")
    length = task.chosen("max_length")
    made = make_distance(loaded, text, chosen, batch_size=size, seed=task.cell.seed, **length)
    write_atomic(task.folder / "distance.json", made.to_json())
    return {
        "model": facts(made.model, loaded),
        "reference": made.reference,
        "objectives": [
            {k: v for k, v in to_plain(found).items() if k != "halves"} for found in made.objectives
        ],
        "agreement": dict(made.agreement),
        "data_sha256": made.data.sha256,
        "batch_size": size,
        "halvings": task.halvings,
    }


def check_distance(checker: Checker, cell: Cell) -> None:
    """Raise where objectives cannot be compared."""
    text, asked = checker.text(cell), cell.settings
    loaded = checker.skeleton(cell, labels_for("auto", text))
    choose(loaded, text, objectives=asked.get("objectives"), reference=asked.get("reference"))
