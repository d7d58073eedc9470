"""What many runs have in common, from what a user names."""

from pathlib import Path
from typing import TYPE_CHECKING

from layerwise.errors import BadInputError
from layerwise.provenance import collect

if TYPE_CHECKING:
    from layerwise.analysis.record import Analysis
    from layerwise.analysis.run_tables import RunTables

__all__ = ["analyse"]


def analyse(
    source: "str | Path | RunTables",
    *,
    placement: str = "all",
    threshold: float = 1.5,
    bootstrap: int = 1000,
    seed: int = 0,
) -> "Analysis":
    """What the runs of a study have in common: slopes, equal steps, widths, distances.

    Args:
        source: The ledger of a study; ``atlas`` for the published runs of arXiv 2604.17177, which
            ship with the package; or tables, from `layerwise.analysis.run_tables.check_runs`.
        placement: Which runs are compared with each other; ``all`` are those on all blocks.
        threshold: Residual standard deviations beyond which a slope is called an anomaly.
        bootstrap: Resamples of the seeds behind the intervals.
        seed: Of the resamples.

    Raises:
        BadInputError: There is no such ledger or no finished run in it, or an option is wrong.
        SchemaError: It is no ledger, or its runs do not hold what they should.
    """
    from layerwise.analysis.analyse import analyse_runs

    return analyse_runs(
        _runs(source),
        provenance=collect(device="cpu"),
        placement=placement,
        threshold=threshold,
        bootstrap=bootstrap,
        seed=seed,
    )


def _runs(source: "str | Path | RunTables") -> "RunTables":
    """The runs that `source` names; or itself."""
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
