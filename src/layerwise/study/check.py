"""What cannot work, found before anything runs: for all runs at once, and without weights."""

import json
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerwise.errors import BadInputError, LayerwiseError
from layerwise.options.check import known
from layerwise.options.commands import ProfileSettings
from layerwise.options.declaration import declared
from layerwise.study.record import Cell, Study
from layerwise.study.stage_checks import Checker, refuse_settings
from layerwise.study.stages import STAGES

__all__ = ["Fault", "check", "refuse_faults", "refuse_unknown"]

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
    alike: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        alike.setdefault(_likeness(cell), []).append(cell)
    found: dict[tuple[str, str | None, str | None, str], int] = {}
    with tempfile.TemporaryDirectory() as folder, _quiet():
        checker = Checker(_configurations(study, Path(folder)), trusts)
        for same in alike.values():
            first = same[0]
            message = _fault(checker, first)
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


def refuse_unknown(what: str, group: type, names: Iterable[str]) -> None:
    """Refuse names that the options of `group` have not.

    Raises:
        UnknownNameError: There is one.
    """
    for name in names:
        known(name, declared(group), what=f"setting of {what}")


def _fault(checker: Checker, cell: Cell) -> str | None:
    """Return why `cell` cannot work; None where it can."""
    stage = STAGES[cell.stage]
    try:
        refuse_settings(stage.name, stage.settings, cell.settings)
        stage.check(checker, cell)
    except LayerwiseError as error:
        return error.message
    return None
