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
from layerwise.options.declaration import declared, pick
from layerwise.options.groups import CALL_ONLY, TextOptions
from layerwise.options.stages import STAGES
from layerwise.probing.ladder import rungs_of
from layerwise.probing.pairs import read_pairs
from layerwise.profile.probe_reading import as_readout, make_reading
from layerwise.study.depthwise import LABELLED
from layerwise.study.placing import check_placement
from layerwise.study.record import Cell, Study
from layerwise.tuning.conditions import CONDITIONS, Condition, places
from layerwise.tuning.record import TuneSettings

__all__ = ["Fault", "check", "refuse_faults"]

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
        """The fault in one line."""
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
        _refuse_unknown(stage, names)
    for names in dict.fromkeys(tuple(cell.settings.get("profile", ())) for cell in cells):
        _refuse_unknown("profile", names)
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
        checker = _Checker(_configurations(study, Path(folder)), trusts)
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


def _refuse_unknown(stage: str, names: Iterable[str]) -> None:
    """Settings of these names are known to the stage.

    Raises:
        UnknownNameError: One is not.
    """
    options = declared(STAGES[stage])
    for name in names:
        known(name, options, what=f"setting of {stage}")


def _refuse_settings(stage: str, settings: Mapping[str, Any]) -> None:
    """Settings are known to the stage, of their type, and in range.

    Raises:
        UnknownNameError: One is not known.
        BadInputError: A value cannot be used.
    """
    options = declared(STAGES[stage])
    for name, value in settings.items():
        option = known(name, options, what=f"setting of {stage}")
        value_of(option, value, label=name, texts=False)


# --- Models, data, objectives -----------------------------------------------------------------


@dataclass
class _Checker:
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
        looks = {
            "pretrain": self._pretrain,
            "source": self._training,
            "tune": self._tune,
            "distance": self._distance,
            "probe": self._probe,
            "erase": self._erase,
            "ladder": self._ladder,
            "interventions": self._interventions,
        }
        try:
            _refuse_settings(cell.stage, cell.settings)
            looks[cell.stage](cell)
        except LayerwiseError as error:
            return error.message
        return None

    def _pretrain(self, cell: Cell) -> None:
        words = cell.settings["tokenizer"]
        self._once(("tokenizer", words), lambda: tokenizer_source(words, folder=Path()))
        self._training(cell)

    def _tune(self, cell: Cell) -> None:
        OBJECTIVES[str(cell.objective)]  # `auto` would hide in tables what was trained.
        _refuse_settings("profile", cell.settings["profile"])
        self._reading(cell.settings["profile"])
        self._training(cell)

    def _reading(self, options: Mapping[str, Any]) -> None:
        as_readout(str(options.get("readout", "hf")))
        if options.get("probes") is not None:
            self._once(("probes", _key(options)), lambda: make_reading(**options))

    def _training(self, cell: Cell) -> None:
        condition, text = CONDITIONS[str(cell.condition)], self._text(cell)
        settings = _refuse_unread(condition, cell.settings)
        labels = labels_for(str(cell.objective), text)
        loaded = self._skeleton(cell, labels)
        resolve(str(cell.objective), loaded=loaded, data=text)
        if condition.adapters:
            described = cell.settings.get("placement")
            if isinstance(described, Mapping):
                _refuse_settings("placement", described)
            check_placement(described, loaded)
        else:
            condition.trained(places(roles(loaded.model, loaded.stacks), loaded.stacks), settings)

    def _distance(self, cell: Cell) -> None:
        text, asked = self._text(cell), cell.settings
        loaded = self._skeleton(cell, labels_for("auto", text))
        choose(loaded, text, objectives=asked.get("objectives"), reference=asked.get("reference"))

    def _probe(self, cell: Cell) -> None:
        as_readout(str(cell.settings.get("readout", "hf")))
        label_names(self._text(cell))
        self._skeleton(cell, None)

    def _erase(self, cell: Cell) -> None:
        as_readout(str(cell.settings.get("readout", "hf")))
        source = cell.settings["pairs"]
        self._once(("pairs", source), lambda: read_pairs(source))
        self._skeleton(cell, None)

    def _ladder(self, cell: Cell) -> None:
        text, loss = self._text(cell), str(cell.settings.get("objective", ""))
        loaded = self._skeleton(cell, labels_for(loss, text))
        resolve(loss, loaded=loaded, data=text)
        rungs_of(cell.settings.get("tops"), loaded)

    def _interventions(self, cell: Cell) -> None:
        text, loss = self._text(cell), str(cell.settings.get("objective", ""))
        loaded = self._skeleton(cell, labels_for(loss, text))
        resolve(loss, loaded=loaded, data=text)
        self._reading(cell.settings.get("profile", {}))
        most, blocks = (
            max(len(stack.blocks) for stack in loaded.stacks),
            cell.settings.get("blocks"),
        )
        if blocks is None or blocks > most:
            message = "number of blocks of the interventions"
            raise BadInputError(message, value=blocks, expected=f"1 to {most}", hint="blocks: K")

    def _text(self, cell: Cell) -> TextData:
        options = pick(TextOptions, cell.settings)
        options = {**LABELLED.get(cell.stage, {}), **options}
        source = cell.settings["data"]
        found: TextData = self._once(
            ("text", source, _key(options)), lambda: read(source, **options)
        )
        return found

    def _skeleton(self, cell: Cell, labels: tuple[str, ...] | None) -> LoadedModel:
        """The cell's model without its weights, with a head for `labels`."""
        source = cell.settings.get("source", self.made.get(cell.model))
        found: LoadedModel = self._once(
            ("model", source, labels),
            lambda: load_skeleton(source, labels=labels, **{CALL_ONLY: self.trusts}),
        )
        return found

    def _once(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
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


def _key(options: Mapping[str, Any]) -> str:
    return json.dumps(options, sort_keys=True)


def _refuse_unread(condition: Condition, given: Mapping[str, Any]) -> TuneSettings:
    """The settings of training; none is there that another condition alone reads.

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
