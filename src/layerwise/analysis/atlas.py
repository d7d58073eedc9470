"""The published runs of arXiv 2604.17177, which ship with the package."""

from importlib.resources import files

import pandas as pd

from layerwise.analysis.run_tables import RunTables, check_runs

__all__ = ["ATLAS", "atlas"]

ATLAS = "atlas"
"""The name of the published runs where a ledger could be named."""


def atlas() -> RunTables:
    """Return the 210 published runs of "Decomposing the Depth Profile of Fine-Tuning".

    Their tables lie in ``atlas/`` beside this module, with their source.
    """
    tables = (_read(name) for name in ("profiles", "distances", "models"))
    return check_runs(*tables, source=f"{ATLAS} (arXiv 2604.17177)")


def _read(name: str) -> pd.DataFrame:
    """Read one of the tables; a kind of block called ``none`` is a word, not a gap."""
    with files("layerwise.analysis").joinpath(ATLAS, f"{name}.csv").open("rb") as stream:
        return pd.read_csv(stream, keep_default_na=False)
