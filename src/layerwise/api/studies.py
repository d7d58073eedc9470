"""Studies, and what their runs have in common, from what a user names."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from layerwise.errors import BadInputError
from layerwise.options.commands import AnalyseOptions, StatusOptions, StudyOptions
from layerwise.options.declaration import pick
from layerwise.options.groups import Trust
from layerwise.options.signature import takes_options
from layerwise.registry import LaterFunction, later

if TYPE_CHECKING:
    import pandas as pd

    from layerwise.analysis.record import Analysis
    from layerwise.analysis.run_tables import RunTables
    from layerwise.study.status import Status

_RAY = frozenset({"address", "cpus", "gpus"})
_SLURM = frozenset({"cpus", "gpus", "partition", "minutes", "memory_gb"})
#: The engines, each with the options that it takes.
ENGINES: Mapping[str, tuple[LaterFunction, frozenset[str]]] = {
    "local": (later("layerwise.study.engines.local", "LocalEngine"), frozenset()),
    "ray": (later("layerwise.study.engines.ray", "RayEngine"), _RAY),
    "slurm": (later("layerwise.study.engines.slurm", "SlurmEngine"), _SLURM),
}


@takes_options
def study(
    source: Path | str | Mapping[str, Any],
    *,
    on_change: "Callable[[Status], None] | None" = None,
    **options: Unpack[StudyOptions],
) -> "Status":
    """Return how far a study is once every run of its matrix that can run has run.

    Runs that have a result in the ledger are left alone, so that a study that was stopped goes on
    where it was. Before anything runs, all that cannot work is refused together.

    Args:
        source: The study: a YAML file, or a mapping with its keys.
        on_change: Hears how far the study is whenever that changes.
        options: Those of `layerwise.options.commands.StudyOptions`.

    Raises:
        BadInputError: Something in the study cannot be used, or runs of it cannot work.
        SchemaError: The study or the ledger is of another schema.
        OutputError: The ledger cannot be written.
    """
    from layerwise.study.check import refuse_faults
    from layerwise.study.expand import study_from
    from layerwise.study.ledger import create, is_ledger, open_ledger, root_of
    from layerwise.study.runner import run
    from layerwise.study.status import survey
    from layerwise.study.worker import execute, execute_trusting

    trusts = any(pick(Trust, options).values())
    given = _given(options)
    found = study_from(source)
    folder = root_of(found, options["out"])
    states = survey(found, open_ledger(folder)).states if is_ledger(folder) else {}
    left = [cell for cell in found.cells if states.get(cell.id) != "done"]
    if left:
        refuse_faults(found, left, trusts=trusts)
    ledger = create(folder, found)
    if not left:
        return survey(found, ledger).status()
    work = execute_trusting if trusts else execute
    make, _ = ENGINES[options["engine"]]
    engine = make(ledger.root, workers=options["workers"], execute=work, **given)
    retry = options["retry_failed"]
    return run(found, ledger, engine, retry_failed=retry, on_change=on_change)


@takes_options
def study_status(
    source: Path | str | Mapping[str, Any], **options: Unpack[StatusOptions]
) -> "Status":
    """Return how far a study is; nothing runs.

    Args:
        source: The folder of its ledger; or the study, a YAML file or a mapping.
        options: Those of `layerwise.options.commands.StatusOptions`.

    Raises:
        SchemaError: There is no ledger, or it is of another schema.
        BadInputError: Something in the study cannot be used.
    """
    from layerwise.study.status import status_of

    return status_of(source, out=options["out"])


def study_tables(ledger: Path | str) -> "dict[str, pd.DataFrame]":
    """Return the results of a study as tables: ``runs``, ``summary`` and others where it has any.

    ``summary`` has the mean and standard deviation over seeds of what ``runs`` has for each.

    Args:
        ledger: The folder of its ledger.

    Raises:
        SchemaError: It is no ledger, or a result in it is not what was written.
    """
    from layerwise.study.table import tables

    return tables(Path(ledger))


@takes_options
def analyse(source: "str | Path | RunTables", **options: Unpack[AnalyseOptions]) -> "Analysis":
    """Return what the runs of a study have in common: slopes, equal steps, widths, distances.

    Args:
        source: The ledger of a study; ``atlas`` for the published runs of arXiv 2604.17177, which
            ship with the package; or tables, from `layerwise.analysis.run_tables.check_runs`.
        options: Those of `layerwise.options.commands.AnalyseOptions`.

    Raises:
        BadInputError: There is no such ledger or no finished run in it, or an option is wrong.
        SchemaError: It is no ledger, or its runs do not hold what they should.
    """
    from layerwise.analysis.analyse import analyse_runs
    from layerwise.analysis.run_tables import ATLAS, atlas, check_runs
    from layerwise.provenance import collect

    if source == ATLAS:
        source = atlas()
    elif isinstance(source, str | Path):
        source = check_runs(*_frames(Path(source)), source=str(source))
    return analyse_runs(source, provenance=collect(device="cpu"), **options)


def _frames(ledger: Path) -> "tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]":
    """Return the tables of a study that an analysis is made from."""
    from layerwise.study.table import frames

    if not ledger.is_dir():
        msg = "no such ledger"
        expected = "the folder of a study's runs, or atlas"
        raise BadInputError(msg, value=str(ledger), expected=expected)
    return frames(ledger)


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the engine that have a value; refuse another engine's."""
    engine, every = options["engine"], frozenset().union(*(own for _, own in ENGINES.values()))
    given = {name: options[name] for name in options if name in every and options[name] is not None}
    for name, value in given.items():
        takers = [each for each, (_, own) in ENGINES.items() if name in own]
        if engine not in takers:
            message = f"{name} has no meaning for the engine {engine}"
            raise BadInputError(message, value=value, hint=f"--engine {takers[0]}")
    return given
