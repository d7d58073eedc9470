"""Studies, from what a user names."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerwise.errors import BadInputError, UnknownNameError
from layerwise.study.expand import study_from
from layerwise.study.ledger import Ledger, create, is_ledger, open_ledger, root_of
from layerwise.study.record import Cell, Study
from layerwise.study.status import Status, status_of, survey, unheard

if TYPE_CHECKING:
    import pandas as pd

    from layerwise.study.engines import Engine

__all__ = ["ENGINES", "study", "study_status", "study_tables"]

study_status = status_of

#: The engines, each with the options that it takes.
ENGINES: Mapping[str, frozenset[str]] = {
    "local": frozenset(),
    "ray": frozenset({"address", "cpus", "gpus"}),
    "slurm": frozenset({"cpus", "gpus", "partition", "minutes", "memory_gb"}),
}


def study(
    source: Path | str | Mapping[str, Any],
    *,
    out: Path | str | None = None,
    engine: str = "local",
    workers: int | None = None,
    retry_failed: bool = False,
    trust_remote_code: bool = False,
    on_change: Callable[[Status], None] = unheard,
    **options: Any,
) -> Status:
    """How far a study is once every run of its matrix that can run has run.

    Runs that have a result in the ledger are left alone, so that a study that was stopped goes on
    where it was. Before anything runs, all that cannot work is refused together.

    Args:
        source: The study: a YAML file, or a mapping with its keys.
        out: The folder of its ledger; ``NAME-study`` where None.
        engine: Where runs happen: ``local``, ``ray`` or ``slurm``.
        workers: How many runs at once. None is one; with ``ray``, as many as the cluster has room
            for.
        retry_failed: Whether runs that failed before are run again.
        trust_remote_code: Whether code that a model's repository brings may run. It is said here
            alone: a study that says it is refused, and no run's id depends on it.
        on_change: Hears how far the study is whenever that changes.
        options: What each run asks of a cluster: ``cpus`` and ``gpus``; with ``slurm`` also
            ``partition``, ``minutes`` and ``memory_gb``; with ``ray`` the cluster's ``address``.

    Raises:
        BadInputError: Something in the study cannot be used, or runs of it cannot work.
        SchemaError: The study or the ledger is of another schema.
        OutputError: The ledger cannot be written.
    """
    from layerwise.study.check import refuse_faults
    from layerwise.study.runner import run
    from layerwise.study.worker import execute, execute_trusting

    given = _given(engine, options)
    found = study_from(source)
    folder = root_of(found, out)
    left = _left(found, folder)
    if left:
        refuse_faults(found, left, trust_remote_code=trust_remote_code)
    ledger = create(folder, found)
    if not left:
        return survey(found, ledger).status()
    work = execute_trusting if trust_remote_code else execute
    made = _engine(engine, ledger, workers, work, given)
    return run(found, ledger, made, retry_failed=retry_failed, on_change=on_change)


def study_tables(ledger: Path | str) -> "dict[str, pd.DataFrame]":
    """The results of a study as tables: ``runs``, ``summary`` and, where it has any, ``distances``.

    ``summary`` has the mean and standard deviation over seeds of what ``runs`` has for each.

    Args:
        ledger: The folder of its ledger.

    Raises:
        SchemaError: It is no ledger, or a result in it is not what was written.
    """
    from layerwise.study.table import tables

    return tables(Path(ledger))


def _left(study: Study, folder: Path) -> list[Cell]:
    """The cells that have no result yet."""
    if not is_ledger(folder):
        return list(study.cells)
    states = survey(study, open_ledger(folder)).states
    return [cell for cell in study.cells if states[cell.id] != "done"]


def _given(engine: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `engine` that have a value.

    Raises:
        UnknownNameError: There is no such engine or option.
        BadInputError: An option is another engine's.
    """
    if engine not in ENGINES:
        what = "engine"
        raise UnknownNameError(what, value=engine, known=ENGINES)
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        takers = [each for each in ENGINES if name in ENGINES[each]]
        if not takers:
            what = "option of a study"
            raise UnknownNameError(what, value=name, known=sorted(set().union(*ENGINES.values())))
        if engine not in takers:
            message = f"{name} has no meaning for the engine {engine}"
            raise BadInputError(message, value=value, hint=f"--engine {takers[0]}")
    return given


def _engine(
    name: str,
    ledger: Ledger,
    workers: int | None,
    execute: Callable[[Path, str], None],
    given: Mapping[str, Any],
) -> "Engine":
    """The engine called `name`.

    Raises:
        BadInputError: What it needs is not there.
    """
    if name == "ray":
        from layerwise.study.engines.ray import RayEngine

        return RayEngine(ledger.root, workers=workers, execute=execute, **given)
    if name == "slurm":
        from layerwise.study.engines.slurm import SlurmEngine, SlurmJob

        job = SlurmJob(**given)
        return SlurmEngine(ledger.root, workers=workers or 1, execute=execute, job=job)
    from layerwise.study.engines.local import LocalEngine

    return LocalEngine(ledger.root, workers=1 if workers is None else workers, execute=execute)
