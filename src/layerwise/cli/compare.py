"""`layerwise compare CARD CARD...`: may one card stand for another?"""

from pathlib import Path

import click

from layerwise.cli.interrupt import importing
from layerwise.cli.options import form as form_option
from layerwise.cli.output import Format, say, talk

__all__ = ["compare"]

EXAMPLES = """\b
Examples:
  layerwise compare small-card full-card
  layerwise compare cards/*/card.json --format json
"""


@click.command("compare", short_help="Rank agreement between cards.", epilog=EXAMPLES)
@click.argument("cards", nargs=-1, required=True, type=click.Path(path_type=Path))
@form_option
@click.option(
    "--threshold",
    type=click.FloatRange(-1.0, 1.0),
    default=0.9,
    show_default=True,
    help="The agreement from which on one card may stand for the other.",
)
def compare(cards: tuple[Path, ...], *, form: Format, threshold: float) -> None:
    """Say how well each pair of CARDs of one model agrees on the ranking of blocks.

    The agreement is the Spearman correlation of their residual norms. Where it reaches the
    threshold, one card may stand for the other: a small text for a large one, a rank for another.
    """
    with importing():
        from layerwise import api, report
        from layerwise.card.record import LayerCard
        from layerwise.files import canonical_json
        from layerwise.records import to_plain
    with talk(form):
        found = api.compare(*(LayerCard.load(path) for path in cards), threshold=threshold)
        plain = {"schema": "layerwise/comparison/1", **to_plain(found)}
        say(form, human=[report.terminal(found)], json=canonical_json(plain))
