"""The finished runs of a study as three tables, checked once."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import pandas as pd

from layerwise.analysis.names import (
    ALL,
    DEPTHS,
    DISTANCES,
    KEYS,
    METRICS,
    UNKNOWN,
    objective_name,
)
from layerwise.errors import BadInputError, SchemaError, UnknownNameError

__all__ = ["Runs", "checked"]

#: A change this little below 0 is rounding, and taken for 0.
_ROUNDING = 1e-6

#: No change and no distance of those known here is larger.
_MOST = 2.0


@dataclass(frozen=True, eq=False)
class Runs:
    """What an analysis is made from; made by `checked`.

    Attributes:
        profiles: A row a run and metric: model, objective, condition, placement, seed, metric, and
            the change at the seven relative depths, d0.10 to d1.00.
        distances: A row a model and objective: cosine and procrustes, NaN where not measured; the
            reference objective has 0.
        models: A row a model: family, block (``sequential``, ``parallel``, ``none`` or
            ``unknown``) and layers, NA where not told.
        source: Where the runs are from.
        notes: What was made of tables that say less than they could.
    """

    profiles: pd.DataFrame
    distances: pd.DataFrame
    models: pd.DataFrame
    source: str
    notes: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Hash of all three tables, as 64 hex digits."""
        tables = (self.profiles, self.distances, self.models)
        content = "\n".join(table.to_csv(index=False, lineterminator="\n") for table in tables)
        return sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def checked(
    profiles: pd.DataFrame,
    distances: pd.DataFrame | None = None,
    models: pd.DataFrame | None = None,
    *,
    source: str,
) -> Runs:
    """The tables as `Runs`, with one name an objective and nothing in them that is not a number.

    Args:
        profiles: As in `Runs`; ``placement`` and ``seed`` may be absent (``all`` and 0).
        distances: As in `Runs`; with a ``seed`` column, the mean over seeds is taken.
        models: As in `Runs`; models that it lacks are of an ``unknown`` kind.
        source: Where they are from, for people.

    Raises:
        SchemaError: A column is missing, a number is not from 0 to 2, or a row stands twice.
        UnknownNameError: A metric is neither ``procrustes`` nor ``cka``.
        BadInputError: There is no run.
    """
    runs = _profiles(profiles)
    kinds, notes = _models(models, list(dict.fromkeys(runs["model"])))
    place = {name: number for number, name in enumerate(kinds["model"])}
    ordered = runs.sort_values("model", key=lambda names: names.map(place), kind="stable")
    return Runs(ordered.reset_index(drop=True), _distances(distances), kinds, source, notes)


def _profiles(given: pd.DataFrame) -> pd.DataFrame:
    table = given.reset_index(drop=True)
    for column, default in (("placement", ALL), ("seed", 0)):
        if column not in table:
            table[column] = default
    _need(table, (*KEYS, "metric", *DEPTHS), "profiles")
    if table.empty:
        msg = "no finished run to analyse"
        raise BadInputError(msg, expected="a profile of at least one run")
    table = table[[*KEYS, "metric", *DEPTHS]].copy()
    _name(table, ("model", "objective", "condition", "placement", "metric"), "profiles")
    for metric in table["metric"].unique():
        if metric not in METRICS:
            kind = "metric of a profile"
            raise UnknownNameError(kind, value=metric, known=METRICS)
    table["seed"] = _whole(table, "seed", may_lack=False)
    _measure(table, DEPTHS, "profiles", may_lack=False)
    _once(table, [*KEYS, "metric"], "profiles")
    return table


def _distances(given: pd.DataFrame | None) -> pd.DataFrame:
    columns = ["model", "objective", *DISTANCES]
    if given is None or given.empty:
        return pd.DataFrame({name: pd.Series(dtype=_kind(name)) for name in columns})
    table = given.reset_index(drop=True)
    _need(table, ("model", "objective"), "distances")
    for column in DISTANCES:
        if column not in table:
            table[column] = np.nan
    _name(table, ("model", "objective"), "distances")
    _measure(table, DISTANCES, "distances", may_lack=True)
    by = ["model", "objective"]
    _once(table, [*by, "seed"] if "seed" in table else by, "distances")
    return table.groupby(by, sort=False)[list(DISTANCES)].mean().reset_index()[columns]


def _kind(column: str) -> str:
    return "float64" if column in DISTANCES else "object"


def _models(
    given: pd.DataFrame | None, used: Sequence[str]
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A row for each model that has runs, in the order of the table of models."""
    table = pd.DataFrame(columns=["model"]) if given is None else given.reset_index(drop=True)
    _need(table, ("model",), "models")
    _name(table, ("model",), "models")
    _once(table, ["model"], "models")
    known = [name for name in table["model"] if name in used]
    told = table.set_index("model").reindex([*known, *(name for name in used if name not in known)])
    told = told.reindex(columns=["family", "block", "layers"])
    for column in ("family", "block"):
        told[column] = told[column].astype("object").where(told[column].notna(), UNKNOWN).map(str)
    told["layers"] = _whole(told, "layers", may_lack=True)
    unknown = [str(name) for name in told.index[told["block"] == UNKNOWN]]
    note = f"the kind of block is not told of: {', '.join(unknown)}"
    return told.rename_axis("model").reset_index(), (note,) if unknown else ()


def _need(table: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    lacking = [name for name in columns if name not in table]
    if lacking:
        msg = f"table of {what} without a column"
        raise SchemaError(msg, value=lacking[0], expected=", ".join(columns))


def _name(table: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    """Make the columns text, and objectives go by one name."""
    for column in columns:
        lacking = table[column].isna() | (table[column].map(str) == "")
        if lacking.any():
            msg = f"table of {what} with an empty {column}"
            raise SchemaError(msg, value=_row(table, lacking), expected="a name in every row")
        table[column] = table[column].map(str).astype("object")
    if "objective" in columns:
        table["objective"] = table["objective"].map(objective_name)


def _whole(table: pd.DataFrame, column: str, *, may_lack: bool) -> pd.Series:
    """The column as whole numbers."""
    numbers = pd.to_numeric(table[column], errors="coerce").astype("float64")
    lacks = table[column].isna() if may_lack else pd.Series(data=False, index=table.index)
    wrong = ~(((numbers == numbers.round()) & (numbers.abs() < np.inf)) | lacks)
    if wrong.any():
        msg = f"{column} that is no whole number"
        raise SchemaError(msg, value=table.loc[wrong, column].iloc[0], expected="0, 1, 2, ...")
    return numbers.astype("Int64" if may_lack else "int64")


def _measure(table: pd.DataFrame, columns: Sequence[str], what: str, *, may_lack: bool) -> None:
    """Make the columns numbers that a change or a distance can be."""
    for column in columns:
        numbers = pd.to_numeric(table[column], errors="coerce").astype("float64")
        lacks = table[column].isna() if may_lack else pd.Series(data=False, index=table.index)
        wrong = ~(((numbers >= -_ROUNDING) & (numbers <= _MOST)) | lacks)
        if wrong.any():
            msg = f"{column} in the table of {what} is {table.loc[wrong, column].iloc[0]}"
            expected = f"a number from 0 to {_MOST:g}"
            raise SchemaError(msg, value=_row(table, wrong), expected=expected)
        table[column] = numbers.clip(lower=0.0)


def _once(table: pd.DataFrame, columns: list[str], what: str) -> None:
    twice = table.duplicated(columns)
    if twice.any():
        msg = f"table of {what} with a row that stands twice"
        expected = f"each {', '.join(columns)} once"
        raise SchemaError(msg, value=_row(table, twice), expected=expected)


def _row(table: pd.DataFrame, where: pd.Series) -> str:
    """What names the first row of those that `where` marks."""
    first = table.loc[where].iloc[0]
    told = (first[name] for name in (*KEYS, "metric") if name in table)
    return " ".join(str(value) for value in told)
