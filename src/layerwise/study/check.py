"""What cannot work, found before anything runs: for all runs at once, and without weights."""

import json
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from layerwise.data.text import TextData, read
from layerwise.distance.choose import choose
from layerwise.errors import BadInputError, LayerwiseError
from layerwise.models.blank import tokenizer_source
from layerwise.models.load import LoadedModel, load_skeleton
from layerwise.models.roles import roles
from layerwise.objectives import OBJECTIVES, labels_for, resolve
from layerwise.objectives.classification import label_names
from layerwise.options.check import known, value_of
from layerwise.options.commands import ProfileSettings
from layerwise.options.declaration import declared, pick
from layerwise.options.groups import CALL_ONLY, TextOptions
from layerwise.options.stages import PlacementSettings
from layerwise.probing.ladder import rungs_of
from layerwise.probing.pairs import read_pairs
from layerwise.profile.probe_reading import as_readout, make_reading
from layerwise.study.placing import check_placement
from layerwise.study.record import Cell, Study
from layerwise.study.stages import STAGES
from layerwise.tuning.conditions import CONDITIONS, Condition, places
from layerwise.tuning.record import TuneSettings

__all__ = ["Checker", "Fault", "check", "refuse_faults"]

log = logging.getLogger(__name__)

_SHOWN = 3


@dataclass(frozen=True)
class Fault:
    """Why some runs cannot work.

    Attributes:
        model: Their model.
        objective: Their objective; None where the fault is of all.
        condition: Their condition, likewise.
        runs: How many they are.
        message: The reason, in one line.
    """

    model: str
    objective: str | None
    condition: str | None
    runs: int
    message: str

    def __str__(self) -> str:
        """Return the fault in one line."""
        where = " ".join(part for part in (self.model, self.objective, self.condition) if part)
        return f"{where} ({self.runs} {'run' if self.runs == 1 else 'runs'}): {self.message}"


def refuse_faults(study: Study, cells: Iterable[Cell], *, trusts: bool = False) -> None:
    """Every one of `cells`, runs of `study`, can work, as far as that shows without weights.

    Raises:
        UnknownNameError: A setting does not exist.
        BadInputError: Some cannot; every reason is logged before.
    """
    cells = list(cells)
    for stage, names in dict.fromkeys((cell.stage, tuple(cell.settings)) for cell in cells):
        _refuse_unknown(stage, STAGES[stage].settings, names)
    for names in dict.fromkeys(tuple(cell.settings.get("profile", ())) for cell in cells):
        _refuse_unknown("profile", ProfileSettings, names)
    faults = check(study, cells, trusts=trusts)
    if not faults:
        return
    for fault in faults:
        log.error("cannot work: %s", fault)
    wrong = sum(fault.runs for fault in faults)
    told = " | ".join(map(str, faults[:_SHOWN])) + (" | …" if len(faults) > _SHOWN else "")
    message = f"runs of the study that cannot work, {wrong} of {len(study.cells)}"
    hint = "exclude them, or correct the study"
    raise BadInputError(message, value=told, hint=hint)


def check(study: Study, cells: Iterable[Cell], *, trusts: bool = False) -> tuple[Fault, ...]:
    """Return the reasons why some of `cells` cannot work; empty where all can.

    Looked at are settings (names, types, ranges), models and data (that they are there, and what
    the models' configurations say), objectives, conditions and placements.

    Args:
        study: The study.
        cells: Those of its runs that are looked at.
        trusts: Whether code that a model's repository brings may run.
    """
    alike: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        alike.setdefault(_likeness(cell), []).append(cell)
    found: dict[tuple[str, str | None, str | None, str], int] = {}
    with tempfile.TemporaryDirectory() as folder, _quiet():
        checker = Checker(_configurations(study, Path(folder)), trusts)
        for same in alike.values():
            first = same[0]
            message = checker.fault(first)
            if message is not None:
                key = (first.model, first.objective, first.condition, message)
                found[key] = found.get(key, 0) + len(same)
    return tuple(_gathered(found))


def _likeness(cell: Cell) -> tuple[Any, ...]:
    """Return what decides whether a cell can work: all but its seed."""
    settings = {key: value for key, value in cell.settings.items() if key != "pretrained"}
    told = json.dumps(settings, sort_keys=True)
    return cell.stage, cell.model, cell.objective, cell.condition, cell.placement, told


def _gathered(
    found: Mapping[tuple[str, str | None, str | None, str], int],
) -> Iterator[Fault]:
    """A fault for each reason that a model has, with the objective and condition if it has one."""
    reasons: dict[tuple[str, str], list[tuple[str | None, str | None, int]]] = {}
    for (model, objective, condition, message), runs in found.items():
        reasons.setdefault((model, message), []).append((objective, condition, runs))
    for (model, message), cases in reasons.items():
        objectives, conditions = {case[0] for case in cases}, {case[1] for case in cases}
        yield Fault(
            model,
            objectives.pop() if len(objectives) == 1 else None,
            conditions.pop() if len(conditions) == 1 else None,
            sum(case[2] for case in cases),
            message,
        )


def _configurations(study: Study, folder: Path) -> dict[str, str]:
    """Return what the study's own models are made of: sources, or files in `folder`."""
    files = {}
    for cell in study.cells:
        if cell.stage == "pretrain" and cell.model not in files:
            file = folder / f"{cell.model}.json"
            file.write_text(json.dumps(cell.settings["config"]), encoding="utf-8")
            files[cell.model] = str(file)
        elif cell.stage == "source" and "source" in cell.settings:
            files[cell.model] = cell.settings["source"]
    return files


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, layerwise says nothing of what it reads: the runs will."""
    logger = logging.getLogger("layerwise")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


# --- Settings ---------------------------------------------------------------------------------


def _refuse_unknown(what: str, group: type, names: Iterable[str]) -> None:
    """Refuse names that the options of `group` have not.

    Raises:
        UnknownNameError: There is one.
    """
    for name in names:
        known(name, declared(group), what=f"setting of {what}")


def _refuse_settings(what: str, group: type, settings: Mapping[str, Any]) -> None:
    """Refuse settings that `group` has not, of another type, or out of range.

    Raises:
        UnknownNameError: One is not known.
        BadInputError: A value cannot be used.
    """
    options = declared(group)
    for name, value in settings.items():
        option = known(name, options, what=f"setting of {what}")
        value_of(option, value, label=name, texts=False)


# --- Models, data, objectives -----------------------------------------------------------------


@dataclass
class Checker:
    """Looks at one cell after another, at each model and each text once.

    Attributes:
        made: The configuration files of models that the study makes itself.
        trusts: Whether code that a model's repository brings may run.
        known: What was read, or why it could not be, by what was asked for.
    """

    made: Mapping[str, str]
    trusts: bool
    known: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    def fault(self, cell: Cell) -> str | None:
        """Return why `cell` cannot work; None where it can."""
        stage = STAGES[cell.stage]
        try:
            _refuse_settings(stage.name, stage.settings, cell.settings)
            stage.check(self, cell)
        except LayerwiseError as error:
            return error.message
        return None

    def reading(self, options: Mapping[str, Any]) -> None:
        """Read the probes of a profile once.

        Raises:
            LayerwiseError: They cannot be read, or there is no such readout.
        """
        as_readout(str(options.get("readout", "hf")))
        if options.get("probes") is not None:
            self.once(("probes", _key(options)), lambda: make_reading(**options))

    def text(self, cell: Cell) -> TextData:
        """Return the text that the cell names, read once."""
        options = {**STAGES[cell.stage].unsaid, **pick(TextOptions, cell.settings)}
        source = cell.settings["data"]
        key = ("text", source, _key(options))
        found: TextData = self.once(key, lambda: read(source, **options))
        return found

    def skeleton(self, cell: Cell, labels: tuple[str, ...] | None = None) -> LoadedModel:
        """Return the cell's model without its weights, with a head for `labels`."""
        source = cell.settings.get("source", self.made.get(cell.model))
        found: LoadedModel = self.once(
            ("model", source, labels),
            lambda: load_skeleton(source, labels=labels, **{CALL_ONLY: self.trusts}),
        )
        return found

    def once(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """Return what `make` gives, called when first asked for; its error is kept likewise.

        Raises:
            LayerwiseError: As `make` did.
        """
        if key not in self.known:
            try:
                self.known[key] = make()
            except LayerwiseError as error:
                self.known[key] = error
        if isinstance(self.known[key], LayerwiseError):
            raise self.known[key]
        return self.known[key]


def check_pretrain(checker: Checker, cell: Cell) -> None:
    """Raise where a model cannot be made of its configuration."""
    words = cell.settings["tokenizer"]
    checker.once(("tokenizer", words), lambda: tokenizer_source(words, folder=Path()))
    check_training(checker, cell)


def check_tune(checker: Checker, cell: Cell) -> None:
    """Raise where a run of the matrix cannot work."""
    OBJECTIVES[str(cell.objective)]  # `auto` would hide in tables what was trained.
    _refuse_settings("profile", ProfileSettings, cell.settings["profile"])
    checker.reading(cell.settings["profile"])
    check_training(checker, cell)


def check_training(checker: Checker, cell: Cell) -> None:
    """Raise where a training cannot work."""
    condition, text = CONDITIONS[str(cell.condition)], checker.text(cell)
    settings = _refuse_unread(condition, cell.settings)
    labels = labels_for(str(cell.objective), text)
    loaded = checker.skeleton(cell, labels)
    resolve(str(cell.objective), loaded=loaded, data=text)
    if condition.adapters:
        described = cell.settings.get("placement")
        if isinstance(described, Mapping):
            _refuse_settings("placement", PlacementSettings, described)
        check_placement(described, loaded)
    else:
        condition.trained(places(roles(loaded.model, loaded.stacks), loaded.stacks), settings)


def check_distance(checker: Checker, cell: Cell) -> None:
    """Raise where objectives cannot be compared."""
    text, asked = checker.text(cell), cell.settings
    loaded = checker.skeleton(cell, labels_for("auto", text))
    choose(loaded, text, objectives=asked.get("objectives"), reference=asked.get("reference"))


def check_probe(checker: Checker, cell: Cell) -> None:
    """Raise where no probe can be trained."""
    label_names(checker.text(cell))
    checker.skeleton(cell)


def check_erase(checker: Checker, cell: Cell) -> None:
    """Raise where no concept can be erased."""
    source = cell.settings["pairs"]
    checker.once(("pairs", source), lambda: read_pairs(source))
    checker.skeleton(cell)


def _trainable(checker: Checker, cell: Cell) -> LoadedModel:
    """Return the model that the loss of the cell's settings trains.

    Raises:
        LayerwiseError: It cannot train it, or there is none.
    """
    text, loss = checker.text(cell), str(cell.settings.get("objective", ""))
    loaded = checker.skeleton(cell, labels_for(loss, text))
    resolve(loss, loaded=loaded, data=text)
    return loaded


def check_ladder(checker: Checker, cell: Cell) -> None:
    """Raise where the ladder has no such rungs."""
    loaded = _trainable(checker, cell)
    rungs_of(cell.settings.get("tops"), loaded)


def check_interventions(checker: Checker, cell: Cell) -> None:
    """Raise where there are not as many blocks."""
    loaded = _trainable(checker, cell)
    checker.reading(cell.settings.get("profile", {}))
    blocks, most = cell.settings.get("blocks"), max(len(stack.blocks) for stack in loaded.stacks)
    if blocks is None or blocks > most:
        message = "number of blocks of the interventions"
        raise BadInputError(message, value=blocks, expected=f"1 to {most}", hint="blocks: K")


def _key(options: Mapping[str, Any]) -> str:
    return json.dumps(options, sort_keys=True)


def _refuse_unread(condition: Condition, given: Mapping[str, Any]) -> TuneSettings:
    """Return the settings of training; none is there that another condition alone reads.

    Raises:
        BadInputError: One is; it would have no effect.
    """
    names = {f.name for f in fields(TuneSettings)}
    settings = TuneSettings(**{k: v for k, v in given.items() if k in names})
    plain, own = asdict(settings), asdict(TuneSettings())
    unread = {name for c in CONDITIONS for name in CONDITIONS[c].reads} - condition.reads
    odd = sorted(name for name in unread if plain[name] != own[name])
    if odd:
        takers = [c for c in CONDITIONS if odd[0] in CONDITIONS[c].reads]
        message = f"{odd[0]} has no meaning under condition {condition.name}"
        hint = f"override: [{{where: {{condition: {takers[0]}}}, set: {{{odd[0]}: ...}}}}]"
        raise BadInputError(message, value=plain[odd[0]], hint=hint)
    return settings
