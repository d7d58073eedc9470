"""`layerwise analyse LEDGER|atlas`: what many runs have in common."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerwise import api
from layerwise.cli.derive import command
from layerwise.cli.output import short
from layerwise.cli.produce import Charts, Results, produce
from layerwise.options.commands import AnalyseOptions

if TYPE_CHECKING:
    from layerwise.analysis.record import Analysis

__all__ = ["analyse"]

RESULT = "analysis.json"

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
    out = options["out"] or Path(f"{short(source)}-analysis")

    def make(*, device: str, progress: object, **chosen: Any) -> Any:
        del device, progress  # It is over at once, and on the CPU.
        return api.analyse(source, **chosen)

    needs = ("layerwise.analysis.analyse",)
    produce(make, options, record=RESULT, out=out, needs=needs, several=False, files=_files)


def _files(made: "Analysis") -> dict[str, bytes]:
    """Return the record, and each of its tables as CSV and as LaTeX."""
    from layerwise.report.documents.analysis_files import analysis_files

    return {RESULT: made.to_json(), **analysis_files(made)}
