"""What cannot work, found before anything runs: for all runs at once, and without weights."""

import json
import logging
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from layerwise.errors import BadInputError, LayerwiseError
from layerwise.options.commands import ProfileSettings
from layerwise.options.groups import CALL_ONLY
from layerwise.study.checker import Checker, refuse_settings, refuse_unknown
from layerwise.study.record import DIMENSIONS, Cell, Study
from layerwise.study.stages import STAGES

log = logging.getLogger(__name__)

_SHOWN = 3
#: An option of a command in the hint of an error, and its value.
_OPTION = re.compile(r"(?:layerwise \w+ )?--([a-z][a-z-]*)(?: (?!with)(\w[\w.,-]*\w))?")


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


def refuse_faults(study: Study, cells: Iterable[Cell], *, trusts: bool = False) -> None:
    """Raise unless every one of `cells` can work, as far as that shows without weights.

    Raises:
        UnknownNameError: A setting does not exist.
        BadInputError: Some cannot; the first reasons are in it, the others are logged before.
    """
    cells = list(cells)
    for stage, names in dict.fromkeys((cell.stage, tuple(cell.settings)) for cell in cells):
        refuse_unknown(stage, STAGES[stage].settings, names)
    for names in dict.fromkeys(tuple(cell.settings.get("profile", ())) for cell in cells):
        refuse_unknown("profile", ProfileSettings, names)
    faults = check(study, cells, trusts=trusts)
    if not faults:
        return
    for fault in faults[_SHOWN:]:
        log.error("cannot work: %s", fault)
    wrong = sum(fault.runs for fault in faults)
    told = " | ".join(map(str, faults[:_SHOWN]))
    told += f" | {len(faults) - _SHOWN} more above" if len(faults) > _SHOWN else ""
    message = f"runs of the study that cannot work, {wrong} of {len(study.cells)}: {told}"
    raise BadInputError(message, hint="exclude them, or correct the study")


def check(study: Study, cells: Iterable[Cell], *, trusts: bool = False) -> tuple[Fault, ...]:
    """Return the reasons why some of `cells` cannot work; empty where all can.

    Looked at are settings (names, types, ranges), models and data (that they are there, and what
    the models' configurations say), objectives, conditions and placements. Only where it `trusts`,
    code that a model's repository brings runs.
    """
    alike: dict[str, list[Cell]] = {}
    for cell in cells:  # A seed decides nothing, nor does which run of a stage made the model.
        settings = {key: value for key, value in cell.settings.items() if key != "pretrained"}
        same = cell.spec() | {"seed": 0, "after": (), "settings": settings}
        alike.setdefault(json.dumps(same, sort_keys=True), []).append(cell)
    found: dict[tuple[str, str], list[Cell]] = {}
    with tempfile.TemporaryDirectory() as folder, _quiet():
        checker = Checker(_configurations(study, Path(folder)), trusts)
        for first, *others in alike.values():
            stage = STAGES[first.stage]
            try:
                refuse_settings(stage.name, stage.settings, first.settings)
                stage.check(checker, first)
            except LayerwiseError as error:
                message = _OPTION.sub(_as_setting, error.message)
                found.setdefault((first.model, message), []).extend((first, *others))
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


def _as_setting(option: re.Match[str]) -> str:
    """Return what a study has in place of an option of the command line."""
    name, value = option[1].replace("-", "_"), option[2]
    if name == CALL_ONLY:  # Which no file can say.
        return option[0]
    if name in DIMENSIONS:
        return f"{name}s: [{value}]" if value else f"{name}s"
    return f"{name}: {value}" if value else name


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
