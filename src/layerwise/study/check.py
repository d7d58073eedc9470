"""What cannot work, found before anything runs: for all runs at once, and without weights."""

import json
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layerwise.data.text import TextData, read
from layerwise.errors import BadInputError, LayerwiseError
from layerwise.models.load import LoadedModel, load_skeleton
from layerwise.objectives import labels_for, resolve
from layerwise.options.check import known, value_of
from layerwise.options.commands import ProfileSettings
from layerwise.options.declaration import declared, pick
from layerwise.options.groups import CALL_ONLY, TextOptions
from layerwise.profile.probe_reading import as_readout, make_reading
from layerwise.study.record import Cell, Study
from layerwise.study.stages import STAGES

__all__ = ["Checker", "Fault", "check", "refuse_faults", "refuse_settings", "refuse_unknown"]

log = logging.getLogger(__name__)

_SHOWN = 3


@dataclass(frozen=True)
class Fault:
    """Why some runs cannot work.

    Attributes:
        model: Their model.
        objective: Their objective; None where the fault is of several.
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

    def reading(self, options: Mapping[str, Any]) -> None:
        """Read the probes of a profile once.

        Raises:
            LayerwiseError: They cannot be read, or there is no such readout.
        """
        as_readout(str(options.get("readout", "hf")))
        if options.get("probes") is not None:
            self.once(("probes", _key(options)), lambda: make_reading(**options))

    def text(self, cell: Cell, **unsaid: Any) -> TextData:
        """Return the text that the cell names, read once; `unsaid` where its settings do not."""
        options = unsaid | pick(TextOptions, cell.settings)
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

    def trainable(self, cell: Cell, objective: str, text: TextData) -> LoadedModel:
        """Return the cell's model without its weights, which a loss can train on `text`."""
        loaded = self.skeleton(cell, labels_for(objective, text))
        resolve(objective, loaded=loaded, data=text)
        return loaded

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


def _key(plain: Mapping[str, Any]) -> str:
    return json.dumps(plain, sort_keys=True)


def refuse_faults(study: Study, cells: Iterable[Cell], *, trusts: bool = False) -> None:
    """Every one of `cells`, runs of `study`, can work, as far as that shows without weights.

    Raises:
        UnknownNameError: A setting does not exist.
        BadInputError: Some cannot; every reason is logged before.
    """
    cells = list(cells)
    for stage, names in dict.fromkeys((cell.stage, tuple(cell.settings)) for cell in cells):
        refuse_unknown(stage, STAGES[stage].settings, names)
    for names in dict.fromkeys(tuple(cell.settings.get("profile", ())) for cell in cells):
        refuse_unknown("profile", ProfileSettings, names)
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
    alike: dict[str, list[Cell]] = {}
    for cell in cells:  # A seed decides nothing, nor does which run of a stage made the model.
        settings = {key: value for key, value in cell.settings.items() if key != "pretrained"}
        same = cell.spec() | {"seed": 0, "after": (), "settings": settings}
        alike.setdefault(_key(same), []).append(cell)
    found: dict[tuple[str, str], list[Cell]] = {}
    with tempfile.TemporaryDirectory() as folder, _quiet():
        checker = Checker(_configurations(study, Path(folder)), trusts)
        for first, *others in alike.values():
            stage = STAGES[first.stage]
            try:
                refuse_settings(stage.name, stage.settings, first.settings)
                stage.check(checker, first)
            except LayerwiseError as error:
                found.setdefault((first.model, error.message), []).extend((first, *others))
    return tuple(
        Fault(
            model,
            _common(cell.objective for cell in wrong),
            _common(cell.condition for cell in wrong),
            len(wrong),
            message,
        )
        for (model, message), wrong in found.items()
    )


def _common(names: Iterable[str | None]) -> str | None:
    """Return the one name that all of `names` are; None where they are several."""
    every = set(names)
    return every.pop() if len(every) == 1 else None


def _configurations(study: Study, folder: Path) -> dict[str, str]:
    """Return what the study's own models are made of: sources, or files in `folder`."""
    files: dict[str, str] = {}
    for cell in study.cells:
        if not STAGES[cell.stage].makes or cell.model in files:
            continue
        if "config" in cell.settings:
            file = folder / f"{cell.model}.json"
            file.write_text(json.dumps(cell.settings["config"]), encoding="utf-8")
            files[cell.model] = str(file)
        elif "source" in cell.settings:
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


def refuse_unknown(what: str, group: type, names: Iterable[str]) -> None:
    """Refuse names that the options of `group` have not.

    Raises:
        UnknownNameError: There is one.
    """
    for name in names:
        known(name, declared(group), what=f"setting of {what}")


def refuse_settings(what: str, group: type, settings: Mapping[str, Any]) -> None:
    """Refuse settings that `group` has not, of another type, or out of range.

    Raises:
        UnknownNameError: One is not known.
        BadInputError: A value cannot be used.
    """
    options = declared(group)
    for name, value in settings.items():
        option = known(name, options, what=f"setting of {what}")
        value_of(option, value, label=name, texts=False)
