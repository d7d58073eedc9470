"""The stages of a study, a row each; reading, checks, runs, tables and the schema follow from it.

A stage is a module with the function that does its work (`layerwise.study.tasks.Task` in, a row's
numbers out) and a row in `STAGES`. No such function is imported before it is called.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from layerwise.options.groups import CALL_ONLY
from layerwise.options.stages import (
    DistanceStage,
    EraseStage,
    InterventionsStage,
    LadderStage,
    PretrainStage,
    ProbeStage,
    SourceStage,
    TuneStage,
)
from layerwise.registry import Registry, later
from layerwise.tuning.conditions import CONDITIONS
from layerwise.tuning.record import TuneSettings

__all__ = ["READING", "STAGES", "Stage", "probing"]

#: Settings of training that say what is read and where it is worked on; `distance` takes them too.
READING = ("data", "where", "text_column", "max_length", "device", "dtype", CALL_ONLY)

#: Settings that one condition alone reads.
_OF_ONE = frozenset().union(*(CONDITIONS[name].reads for name in CONDITIONS))
_TRAINING = (
    *READING,
    *("prompt_column", "label_column", "examples"),
    *(f.name for f in fields(TuneSettings) if f.name not in {"seed", "save_every", *_OF_ONE}),
)


@dataclass(frozen=True)
class Stage:
    """One kind of work.

    Attributes:
        name: As a cell says it.
        settings: The group of options that it takes (`layerwise.options`).
        run: Does it: writes its records into the run's folder, and returns the numbers of a table's
            row as JSON values: the model's under ``model``, and a list under ``rows`` where a table
            has several rows a run.
        check: Raises a `LayerwiseError` where a cell cannot work; gets a
            `layerwise.study.stage_checks.Checker`, which reads models and texts once, and the cell.
        table: The name of its table; a stage with one looks at a model by depth, and stands under
            ``probing`` in a study.
        key: The column that the rows of a run are told apart by.
        takes: Settings of the study's training that it takes over.
        needs: The setting without which it cannot run.
    """

    name: str
    settings: type
    run: Callable[..., Mapping[str, Any]]
    check: Callable[..., None]
    table: str = ""
    key: str = "index"
    takes: tuple[str, ...] = READING
    needs: str = "data"


STAGES = Registry[Stage]("stage")


def probing() -> tuple[str, ...]:
    """Return the names of the stages that look at a model by depth."""
    return tuple(stage.name for stage in STAGES.values() if stage.table)


def _check(name: str) -> Callable[..., None]:
    return later("layerwise.study.stage_checks", name)


def _work(name: str) -> Callable[..., Mapping[str, Any]]:
    return later("layerwise.study.tasks", name)


def _look(name: str) -> Callable[..., Mapping[str, Any]]:
    return later("layerwise.study.depthwise", name)


STAGES.add(Stage("pretrain", PretrainStage, _work("pretrain"), _check("check_pretrain")))
STAGES.add(Stage("source", SourceStage, _work("tune_source"), _check("check_training")))
STAGES.add(Stage("tune", TuneStage, _work("tune"), _check("check_tune")))
STAGES.add(Stage("distance", DistanceStage, _work("measure_distance"), _check("check_distance")))
STAGES.add(
    Stage(
        "probe",
        ProbeStage,
        _look("probe"),
        _check("check_probe"),
        table="probes",
        takes=(*READING, "label_column", "examples"),
    )
)
STAGES.add(
    Stage(
        "erase",
        EraseStage,
        _look("erase"),
        _check("check_erase"),
        table="erasures",
        takes=("device", "dtype", CALL_ONLY),
        needs="pairs",
    )
)
STAGES.add(
    Stage(
        "ladder",
        LadderStage,
        _look("climb"),
        _check("check_ladder"),
        table="ladders",
        key="top",
        takes=_TRAINING,
    )
)
STAGES.add(
    Stage(
        "interventions",
        InterventionsStage,
        _look("intervene"),
        _check("check_interventions"),
        table="interventions",
        key="arm",
        takes=(*_TRAINING, "profile"),
    )
)
