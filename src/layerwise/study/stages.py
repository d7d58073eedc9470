"""The stages of a study, a row each; reading, checks, runs, tables and the schema follow from it.

A stage is a module with the function that does its work (`layerwise.study.tasks.Task` in, a row's
numbers out), the one that checks it, and a row in `STAGES`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from importlib import import_module
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
from layerwise.registry import LaterFunction, Registry, later
from layerwise.tuning.conditions import CONDITIONS
from layerwise.tuning.record import TuneSettings

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
            `layerwise.study.checker.Checker`, which reads models and texts once, and the cell.
        table: The name of its table; a stage with one looks at a model by depth, and stands under
            ``probing`` in a study.
        key: The column that the rows of a run are told apart by.
        takes: Settings of the study's training that it takes over.
        needs: The settings without which it cannot run.
        makes: The key of a model under which it stands; a stage with one makes what the model's
            other runs start from, those of rows before included.
    """

    name: str
    settings: type
    run: Callable[..., Mapping[str, Any]]
    check: Callable[..., None]
    table: str = ""
    key: str = "index"
    takes: tuple[str, ...] = READING
    needs: tuple[str, ...] = ("data",)
    makes: str = ""


STAGES = Registry[Stage]("stage")


def probing() -> tuple[str, ...]:
    """Return the names of the stages that look at a model by depth."""
    return tuple(stage.name for stage in STAGES.values() if stage.table)


def makers() -> tuple[Stage, ...]:
    """Return the stages that make what others start from, in the order in which they do."""
    return tuple(stage for stage in STAGES.values() if stage.makes)


def load() -> None:
    """Import what the stages are made of, as is done where a signal is watched, or before forks."""
    for stage in STAGES.values():
        for function in (stage.run, stage.check):
            if isinstance(function, LaterFunction):
                import_module(function.module)


def _task(name: str) -> LaterFunction:
    return later("layerwise.study.tasks", name)


def _look(name: str) -> LaterFunction:
    return later("layerwise.study.depthwise", name)


def _add(
    name: str, settings: type, function: Callable[[str], LaterFunction], **columns: Any
) -> None:
    """Add the row of a stage whose functions are called after it."""
    run, check = function(f"run_{name}"), function(f"check_{name}")
    STAGES.add(Stage(name, settings, run, check, **columns))


_add("pretrain", PretrainStage, _task, makes="pretrain", needs=("config", "tokenizer", "data"))
_add("source", SourceStage, _task, makes="source_tuning")
_add("tune", TuneStage, _task)
_add("distance", DistanceStage, _task)
_labelled = (*READING, "label_column", "examples")
_add("probe", ProbeStage, _look, table="probes", takes=_labelled)
_on = ("device", "dtype", CALL_ONLY)
_add("erase", EraseStage, _look, table="erasures", takes=_on, needs=("pairs",))
_add("ladder", LadderStage, _look, table="ladders", key="top", takes=_TRAINING)
_moved = (*_TRAINING, "profile")
_add("interventions", InterventionsStage, _look, table="interventions", key="arm", takes=_moved)
