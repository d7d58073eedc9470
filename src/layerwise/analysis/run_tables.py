"""The finished runs of a study, or those published, as three tables, checked once."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files

import numpy as np
import pandas as pd

from layerwise.analysis.names import ALL, DEPTHS, DISTANCES, KEYS, METRICS, UNKNOWN
from layerwise.errors import BadInputError, SchemaError, UnknownNameError

ATLAS = "atlas"
"""The name of the published runs where a ledger could be named."""

#: A change this little below 0 is rounding, and taken for 0.
_ROUNDING = 1e-6

#: No change and no distance of those known here is larger.
_MOST = 2.0


@dataclass(frozen=True, eq=False)
class RunTables:
    """The three tables that an analysis is made from, as `check_runs` returns them.

    Attributes:
        profiles: A row a run and metric: model, objective, condition, placement, seed, metric, and
            the change at the seven relative depths, d0.10 to d1.00.
        distances: A row a model and objective: cosine and procrustes, NaN where not measured; the
            reference objective has 0.
        models: A row a model: family, block (``sequential``, ``parallel``, ``none`` or
            ``unknown``) and layers, NA where unknown.
        source: Where the runs are from.
        notes: What was assumed where the tables say less than they could.
    """

    profiles: pd.DataFrame
    distances: pd.DataFrame
    models: pd.DataFrame
    source: str
    notes: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Return the hash of all three tables, as 64 hex digits."""
        tables = (self.profiles, self.distances, self.models)
        content = "\n".join(table.to_csv(index=False, lineterminator="\n") for table in tables)
        return sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def check_runs(
    profiles: pd.DataFrame,
    distances: pd.DataFrame | None = None,
    models: pd.DataFrame | None = None,
    *,
    source: str,
) -> RunTables:
    """Return the tables with one name an objective, and nothing in them that is not a number.

    Args:
        profiles: As in `RunTables`; ``placement`` and ``seed`` may be absent (``all`` and 0).
        distances: As in `RunTables`; with a ``seed`` column, the mean over seeds is taken.
        models: As in `RunTables`; models that it lacks are of an ``unknown`` kind.
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
    return RunTables(ordered.reset_index(drop=True), _distances(distances), kinds, source, notes)


def _profiles(given: pd.DataFrame) -> pd.DataFrame:
    table = given.reset_index(drop=True)
    for column, default in (("placement", ALL), ("seed", 0)):
        if column not in table:
            table[column] = default
    _require_columns(table, (*KEYS, "metric", *DEPTHS), "profiles")
    if table.empty:
        msg = "no finished run to analyse"
        raise BadInputError(msg, expected="a profile of at least one run")
    table = table[[*KEYS, "metric", *DEPTHS]].copy()
    _clean_names(table, ("model", "objective", "condition", "placement", "metric"), "profiles")
    for metric in table["metric"].unique():
        if metric not in METRICS:
            kind = "metric of a profile"
            raise UnknownNameError(kind, value=metric, known=METRICS)
    table["seed"] = _whole_numbers(table, "seed", optional=False)
    _clean_numbers(table, DEPTHS, "profiles", optional=False)
    _refuse_duplicates(table, [*KEYS, "metric"], "profiles")
    return table


def _distances(given: pd.DataFrame | None) -> pd.DataFrame:
    by = ["model", "objective"]
    if given is None or given.empty:
        types = dict.fromkeys(by, "object") | dict.fromkeys(DISTANCES, "float64")
        return pd.DataFrame(columns=[*by, *DISTANCES]).astype(types)
    table = given.reset_index(drop=True)
    _require_columns(table, by, "distances")
    for column in DISTANCES:
        if column not in table:
            table[column] = np.nan
    _clean_names(table, by, "distances")
    _clean_numbers(table, DISTANCES, "distances", optional=True)
    _refuse_duplicates(table, [*by, "seed"] if "seed" in table else by, "distances")
    return table.groupby(by, sort=False)[list(DISTANCES)].mean().reset_index()


def _models(
    given: pd.DataFrame | None, used: Sequence[str]
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return a row for each model that has runs, in the order of the table, and notes."""
    table = pd.DataFrame(columns=["model"]) if given is None else given.reset_index(drop=True)
    _require_columns(table, ("model",), "models")
    _clean_names(table, ("model",), "models")
    _refuse_duplicates(table, ["model"], "models")
    known = [name for name in table["model"] if name in used]
    order = [*known, *(name for name in used if name not in known)]
    kinds = table.set_index("model").reindex(order).reindex(columns=["family", "block", "layers"])
    for column in ("family", "block"):
        values = kinds[column].astype("object")
        kinds[column] = values.where(values.notna(), UNKNOWN).map(str)
    kinds["layers"] = _whole_numbers(kinds, "layers", optional=True)
    unknown = [str(name) for name in kinds.index[kinds["block"] == UNKNOWN]]
    note = f"the kind of block is not told of: {', '.join(unknown)}"
    return kinds.rename_axis("model").reset_index(), (note,) if unknown else ()


def _require_columns(table: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    lacking = [name for name in columns if name not in table]
    if lacking:
        msg = f"table of {what} without a column"
        raise SchemaError(msg, value=lacking[0], expected=", ".join(columns))


def _clean_names(table: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    """Make the columns text, and objectives go by one name."""
    for column in columns:
        lacking = table[column].isna() | (table[column].map(str) == "")
        if lacking.any():
            msg = f"table of {what} with an empty {column}"
            raise SchemaError(msg, value=_first_row(table, lacking), expected="a name in every row")
        table[column] = table[column].map(str).astype("object")
    if "objective" in columns:
        table["objective"] = table["objective"].replace("mlm", "masked-lm")


def _whole_numbers(table: pd.DataFrame, column: str, *, optional: bool) -> pd.Series:
    """Return the column as whole numbers."""
    numbers = pd.to_numeric(table[column], errors="coerce").astype("float64")
    wrong = ~((numbers == numbers.round()) & (numbers.abs() < np.inf))
    wrong &= ~(table[column].isna() & optional)
    if wrong.any():
        msg = f"{column} that is no whole number"
        raise SchemaError(msg, value=table.loc[wrong, column].iloc[0], expected="0, 1, 2, ...")
    return numbers.astype("Int64" if optional else "int64")


def _clean_numbers(
    table: pd.DataFrame, columns: Sequence[str], what: str, *, optional: bool
) -> None:
    """Make the columns numbers that a change or a distance can be."""
    for column in columns:
        numbers = pd.to_numeric(table[column], errors="coerce").astype("float64")
        wrong = ~((numbers >= -_ROUNDING) & (numbers <= _MOST))
        wrong &= ~(table[column].isna() & optional)
        if wrong.any():
            msg = f"{column} in the table of {what} is {table.loc[wrong, column].iloc[0]}"
            expected = f"a number from 0 to {_MOST:g}"
            raise SchemaError(msg, value=_first_row(table, wrong), expected=expected)
        table[column] = numbers.clip(lower=0.0)


def _refuse_duplicates(table: pd.DataFrame, columns: list[str], what: str) -> None:
    twice = table.duplicated(columns)
    if twice.any():
        msg = f"table of {what} with a row that stands twice"
        expected = f"each {', '.join(columns)} once"
        raise SchemaError(msg, value=_first_row(table, twice), expected=expected)


def _first_row(table: pd.DataFrame, where: pd.Series) -> str:
    """Return the names of the first row that `where` marks."""
    first = table.loc[where].iloc[0]
    return " ".join(str(first[name]) for name in (*KEYS, "metric") if name in table)


def atlas() -> RunTables:
    """Return the 210 published runs of "Decomposing the Depth Profile of Fine-Tuning".

    Their tables lie in ``atlas/`` beside this module, with their source (arXiv 2604.17177).
    """
    tables = []
    for name in ("profiles", "distances", "models"):
        with files("layerwise.analysis").joinpath(ATLAS, f"{name}.csv").open("rb") as stream:
            # A kind of block called ``none`` is a word, not a gap.
            tables.append(pd.read_csv(stream, keep_default_na=False))
    return check_runs(*tables, source=f"{ATLAS} (arXiv 2604.17177)")
