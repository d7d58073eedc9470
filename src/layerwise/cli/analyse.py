"""`layerwise analyse LEDGER|atlas`: what many runs have in common."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layerwise.cli.interrupt import importing
from layerwise.cli.options import charts, count, output, stacked
from layerwise.cli.output import publish, short, talk
from layerwise.files import prepare_output

if TYPE_CHECKING:
    from layerwise.analysis.record import Analysis

__all__ = ["analyse"]

EXAMPLES = """\b
Examples:
  layerwise analyse atlas
  layerwise analyse pocket-ledger --out pocket-analysis
  layerwise analyse ledger --placement low --threshold 2 --charts
"""

RESULT = "analysis.json"

_choosing = stacked(
    click.option(
        "--placement",
        metavar="NAME",
        default="all",
        show_default=True,
        help="Which runs are compared with each other; all are those on all blocks.",
    ),
    click.option(
        "--threshold",
        type=float,
        default=1.5,
        show_default=True,
        help="Residual standard deviations beyond which a slope is an anomaly.",
    ),
    count("--bootstrap", default=1000, told="Resamples of the seeds behind the intervals."),
    click.option("--seed", type=int, default=0, show_default=True, help="Of the resamples."),
)


@click.command("analyse", short_help="What the runs of a study have in common.", epilog=EXAMPLES)
@click.argument("source", metavar="LEDGER|atlas")
@output
@_choosing
@charts
def analyse(source: str, **options: Any) -> None:
    """Compare the finished runs of a study: slopes, equal steps, widths, objective distances.

    LEDGER is the folder of a study's runs. atlas stands for the published runs of "Decomposing the
    Depth Profile of Fine-Tuning" (arXiv 2604.17177), which ship with the package.

    Writes analysis.json, report.html, and each table as CSV and as LaTeX.
    """
    out = options.pop("out") or Path(f"{short(source)}-analysis")
    overwrite, form, charts = (options.pop(name) for name in ("overwrite", "form", "charts"))
    with importing():
        from layerwise import api, report
    with talk(form):
        made = api.analyse(source, **options)
        prepare_output(out, holds=RESULT, overwrite=overwrite)
        files, table = _files(made, charts=charts), report.terminal(made)
        publish(files, record=RESULT, out=out, form=form, table=table)


def _files(made: "Analysis", *, charts: bool) -> dict[str, bytes]:
    """What `layerwise analyse` writes, by name."""
    from layerwise import report

    drawn = report.files(made, charts=charts) | report.analysis_files(made)
    return {RESULT: made.to_json(), **drawn}
