"""Studies, from what a user names."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerwise.errors import BadInputError, UnknownNameError
from layerwise.study.expand import study_from
from layerwise.study.ledger import Ledger, create, is_ledger, open_ledger, root_of
from layerwise.study.record import Cell, Study
from layerwise.study.status import Status, status_of, survey

if TYPE_CHECKING:
    import pandas as pd

    from layerwise.study.engines import Engine

__all__ = ["ENGINES", "study", "study_status", "study_tables"]

study_status = status_of

ENGINES = ("local", "ray", "slurm")


def _unheard(status: Status) -> None:
    del status


def study(
    source: Path | str | Mapping[str, Any],
    *,
    out: Path | str | None = None,
    engine: str = "local",
    workers: int = 1,
    address: str | None = None,
    retry_failed: bool = False,
    on_change: Callable[[Status], None] = _unheard,
) -> Status:
    """How far a study is once every run of its matrix that can run has run.

    Runs that have a result in the ledger are left alone, so that a study that was stopped goes on
    where it was. Before anything runs, all that cannot work is refused together.

    Args:
        source: The study: a YAML file, or a mapping with its keys.
        out: The folder of its ledger; ``NAME-study`` where None.
        engine: Where runs happen: ``local``, ``ray`` or ``slurm``.
        workers: How many runs at once.
        address: Of the Ray cluster; one of this machine's own where None.
        retry_failed: Whether runs that failed before are run again.
        on_change: Hears how far the study is whenever that changes.

    Raises:
        BadInputError: Something in the study cannot be used, or runs of it cannot work.
        SchemaError: The study or the ledger is of another schema.
        OutputError: The ledger cannot be written.
    """
    from layerwise.study.check import refuse_faults
    from layerwise.study.runner import run

    if engine not in ENGINES:
        what = "engine"
        raise UnknownNameError(what, value=engine, known=ENGINES)
    found = study_from(source)
    folder = root_of(found, out)
    left = _left(found, folder)
    if left:
        refuse_faults(found, left)
    ledger = create(folder, found)
    if not left:
        return survey(found, ledger).status()
    return run(
        found,
        ledger,
        _engine(engine, ledger, workers=workers, address=address),
        retry_failed=retry_failed,
        on_change=on_change,
    )


def study_tables(ledger: Path | str) -> "dict[str, pd.DataFrame]":
    """The results of a study as tables: ``runs``, and ``distances`` where it has any.

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


def _engine(name: str, ledger: Ledger, *, workers: int, address: str | None) -> "Engine":
    """The engine called `name`.

    Raises:
        BadInputError: An option is not for it, or what it needs is not there.
    """
    from layerwise.study.worker import execute

    if address is not None and name != "ray":
        message = f"address of a cluster for the engine {name}"
        raise BadInputError(message, value=address, hint="--engine ray")
    if name == "ray":
        from layerwise.study.engines.ray import RayEngine

        return RayEngine(ledger.root, workers=workers, execute=execute, address=address)
    if name == "slurm":
        from layerwise.study.engines.slurm import SlurmEngine

        return SlurmEngine(ledger.root, workers=workers, execute=execute)
    from layerwise.study.engines.local import LocalEngine

    return LocalEngine(ledger.root, workers=workers, execute=execute)
