"""The results of a study as tables: sorted, and free of times and paths.

Equal results give equal bytes, however often the study was stopped on its way.
"""

import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from layerwise.analysis.names import ALL, DEPTHS, METRICS
from layerwise.errors import SchemaError
from layerwise.extras import absent
from layerwise.profile.record import refuse_other_probes
from layerwise.study.expand import expand
from layerwise.study.ledger import Ledger, open_ledger
from layerwise.study.record import DIMENSIONS, Cell
from layerwise.study.stages import STAGES, probing

_LOG = logging.getLogger(__name__)

_ALIKE = DIMENSIONS[:-1]
#: What is summed up over seeds, where runs have it.
_FIGURES = (
    *("eval_loss", "accuracy", "macro_f1", "first_eval_loss", "first_accuracy", "loss", "slope"),
)
_DISTANCES = ("run", "model", "seed", "reference", "objective", "cosine", "procrustes")

Finished = tuple[Cell, Mapping[str, Any]]


def frames(ledger: Ledger | Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return the profiles, distances and models of the runs of a study that are done.

    Of the ledger's runs, those that the study has which it was last opened for; each file of theirs
    is held against its hash.

    - profiles: model, objective, condition, placement, seed, metric (``procrustes``, ``cka``) and
      the change at the seven relative depths, ``d0.10`` to ``d1.00``; a row a run and metric.
    - distances: model, objective, cosine, procrustes; the mean over the seeds of a model.
    - models: model, family, block, layers.

    Results of earlier versions do not say which probes were shown, and are taken as they are.

    Raises:
        BadInputError: Profiles are of different probe sets.
        SchemaError: It is no ledger, or a result in it is not what was written.
    """
    found = list(_finished(ledger))
    shown = (result["probes"] for _, result in found if "probes" in result)
    refuse_other_probes(shown, what="profiles of a study")
    profiles = [
        {**_named(cell), "metric": metric, **_depths(cell, _profile(cell, result)[metric])}
        for cell, result in found
        if cell.stage == "tune"
        for metric in METRICS
    ]
    apart = _distances(found)
    mean = apart.groupby(["model", "objective"], as_index=False)[["cosine", "procrustes"]].mean()
    models = {
        cell.model: {"model": cell.model, **result.get("model", {})} for cell, result in found
    }
    by = [*DIMENSIONS, "metric"]
    return (
        _sorted(pd.DataFrame(profiles, columns=[*by, *DEPTHS]), by=by),
        _sorted(mean, by=["model", "objective"]),
        _sorted(
            pd.DataFrame(list(models.values()), columns=["model", "family", "block", "layers"]),
            by=["model"],
        ),
    )


def tables(ledger: Ledger | Path) -> dict[str, pd.DataFrame]:
    """Return all numbers of the runs of a study that are done.

    ``runs`` has a row a run: what it was, its model, its training, and its profile under the
    readout that the study asked for. ``summary`` has a row for what differs in no more than the
    seed: how many seeds, and over them the mean and the standard deviation (n - 1; absent of one
    seed) of the losses, of how well classes are told, and of the slope. ``distances``, where there
    are any, has a row for each objective of each distance run; so have ``probes`` and ``erasures``
    for each depth, ``ladders`` for each rung (``top`` -1: all weights), ``interventions`` for each
    arm.

    Raises:
        SchemaError: It is no ledger, or a result in it is not what was written.
    """
    found = list(_finished(ledger))
    runs = [
        _run(cell, result)
        for cell, result in found
        if cell.stage == "tune" or STAGES[cell.stage].makes
    ]
    frame = pd.DataFrame(runs, columns=None if runs else ["run", "stage", *DIMENSIONS])
    made = {"runs": _sorted(frame, by=["stage", *DIMENSIONS, "run"])}
    made["summary"] = _summary(made["runs"])
    apart = _distances(found)
    if len(apart):
        made["distances"] = _sorted(apart, by=["model", "seed", "objective"])
    for stage in map(STAGES.__getitem__, probing()):
        rows = [
            {"run": cell.id, "model": cell.model, "seed": cell.seed}
            | {key: value for key, value in result.items() if key not in {"model", "rows"}}
            | row
            for cell, result in found
            if cell.stage == stage.name
            for row in result["rows"]
        ]
        if rows:
            made[stage.table] = _sorted(pd.DataFrame(rows), by=["model", "seed", stage.key])
    return made


def _summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Return means and standard deviations over seeds of the runs of training."""
    tuned = runs[runs["stage"] == "tune"]
    alike = tuned.groupby(list(_ALIKE), sort=True)
    columns: dict[str, Any] = {"seeds": alike["seed"].nunique()}
    for name in _FIGURES:
        if name in tuned and tuned[name].notna().any():
            columns |= {f"{name}_mean": alike[name].mean(), f"{name}_sd": alike[name].std()}
    return pd.DataFrame(columns).reset_index()


def as_files(found: Mapping[str, pd.DataFrame]) -> dict[str, bytes]:
    """Return tables as CSV, and as Parquet where that can be written, by file name."""
    files: dict[str, bytes] = {}
    lacking = absent("pyarrow")
    if lacking:
        _LOG.warning("tables are CSV alone; Parquet: pip install 'layerwise[datasets]'")
    for name, frame in found.items():
        files[f"{name}.csv"] = frame.to_csv(index=False, lineterminator="\n").encode()
        if not lacking:
            stream = io.BytesIO()
            frame.to_parquet(stream, index=False)
            files[f"{name}.parquet"] = stream.getvalue()
    return files


def _finished(ledger: Ledger | Path) -> Iterator[Finished]:
    """Yield each cell of the study that is done, with what its stage found."""
    book = ledger if isinstance(ledger, Ledger) else open_ledger(ledger)
    begun = book.begun()
    for cell in expand(book.study_plain()).cells:
        if cell.id in begun and book.state(cell.id) == "done":
            yield cell, book.result(cell.id)["result"]


def _named(cell: Cell) -> dict[str, Any]:
    """Return what tells a run from others, in a table."""
    chosen = cell.settings.get("placement") and cell.placement
    names = {axis: getattr(cell, axis) for axis in DIMENSIONS}
    return names | {"placement": str(chosen) if chosen else ALL}


def _profile(cell: Cell, result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the profile under the readout that was asked for; raise where there is none."""
    try:
        found: Mapping[str, Any] = result["profile"][result["readout"]]
    except (KeyError, TypeError):
        message = "result without a profile"
        raise SchemaError(message, value=cell.id, expected="that of a run of training") from None
    return found


def _depths(cell: Cell, values: Sequence[float], name: str = "") -> dict[str, float]:
    if len(values) != len(DEPTHS):
        message = f"profile of {len(values)} depths"
        raise SchemaError(message, value=cell.id, expected=str(len(DEPTHS)))
    return {f"{name}{depth}": value for depth, value in zip(DEPTHS, values, strict=True)}


def _run(cell: Cell, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the table of runs."""
    row = {"run": cell.id, "stage": cell.stage, **_named(cell), **result.get("model", {})}
    row |= {k: v for k, v in result.get("training", {}).items() if k not in row}
    if cell.stage == "tune":
        row |= {name: result[name] for name in ("readout", "probes") if name in result}
        for name, value in _profile(cell, result).items():
            if value != []:  # Where nothing moved, there is no width.
                is_spread = isinstance(value, list)
                row |= _depths(cell, value, f"{name}_") if is_spread else {name: value}
        row["untrained_modules"] = result.get("untrained_modules")
    return row


def _distances(found: Sequence[Finished]) -> pd.DataFrame:
    """Return a row for each objective of each distance run."""
    rows = [
        {
            "run": cell.id,
            "model": cell.model,
            "seed": cell.seed,
            "reference": result.get("reference"),
            "objective": numbers["name"],
            **{name: number for name, number in numbers.items() if name != "name"},
        }
        for cell, result in found
        if cell.stage == "distance"
        for numbers in result["objectives"]
    ]
    return pd.DataFrame(rows, columns=None if rows else [*_DISTANCES])


def _sorted(frame: pd.DataFrame, *, by: Sequence[str]) -> pd.DataFrame:
    """Return `frame` in the order of its names, numbered anew."""
    return frame.sort_values(list(by), kind="stable").reset_index(drop=True)
