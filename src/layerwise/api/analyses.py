"""What many runs have in common, from what a user names."""

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from layerwise.errors import BadInputError
from layerwise.options.commands import AnalyseOptions
from layerwise.options.signature import takes_options

if TYPE_CHECKING:
    from layerwise.analysis.record import Analysis
    from layerwise.analysis.run_tables import RunTables

__all__ = ["analyse"]


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
    from layerwise.provenance import collect

    return analyse_runs(_runs(source), provenance=collect(device="cpu"), **options)


def _runs(source: "str | Path | RunTables") -> "RunTables":
    """Return the runs that `source` names; or itself."""
    from layerwise.analysis.atlas import ATLAS, atlas
    from layerwise.analysis.run_tables import check_runs

    if source == ATLAS:
        return atlas()
    if not isinstance(source, str | Path):
        return source
    folder = Path(source)
    if not folder.is_dir():
        msg = "no such ledger"
        expected = "the folder of a study's runs, or atlas"
        raise BadInputError(msg, value=str(source), expected=expected)
    from layerwise.study.table import frames

    return check_runs(*frames(folder), source=str(source))
