"""`layerwise analyse LEDGER|atlas`: what many runs have in common."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerwise import api
from layerwise.cli.derive import command
from layerwise.cli.output import short
from layerwise.cli.produce import Charts, Results, produce
from layerwise.options.commands import AnalyseOptions

if TYPE_CHECKING:
    from rich.console import RenderableType

    from layerwise.analysis.record import Analysis

__all__ = ["analyse"]

EXAMPLES = """\b
Examples:
  layerwise analyse atlas
  layerwise analyse pocket-ledger --out pocket-analysis
  layerwise analyse ledger --placement low --threshold 2 --charts
"""


@command(
    *(Results, AnalyseOptions, Charts),
    arguments={"source": "LEDGER|atlas"},
    short_help="What the runs of a study have in common.",
    epilog=EXAMPLES,
)
def analyse(source: str, **options: Any) -> None:
    """Compare the finished runs of a study: slopes, equal steps, widths, objective distances.

    LEDGER is the folder of a study's runs. atlas stands for the published runs of "Decomposing the
    Depth Profile of Fine-Tuning" (arXiv 2604.17177), which ship with the package.

    Writes analysis.json, report.html, and each table as CSV and as LaTeX.
    """
    out = Path(f"{short(source)}-analysis")

    def make(*, device: str, progress: object, **chosen: Any) -> "Analysis":
        del device, progress  # It is over at once, and on the CPU.
        return api.analyse(source, **chosen)

    produce(
        make,
        _drawn,
        options,
        record="analysis.json",
        out=out,
        needs=("layerwise.analysis.analyse",),
        several=False,
    )


def _drawn(made: "Analysis", *, charts: bool) -> tuple[dict[str, bytes], "RenderableType"]:
    """Return what is written, and shown, of the result."""
    from layerwise import report

    files = {"analysis.json": made.to_json(), "report.html": report.old.analysis_html(made)}
    files |= report.old.analysis_tables(made)
    return files | (
        report.old.export_analysis_charts(made) if charts else {}
    ), report.old.analysis_table(made)
