"""`layerwise compare CARD CARD...`: may one card stand for another?"""

from pathlib import Path
from typing import Any

import layerwise as lw
from layerwise.cli.derive import command
from layerwise.cli.output import say, talk
from layerwise.cli.produce import OutputFormat, Page, import_for, put_page
from layerwise.files import canonical_json
from layerwise.options.commands import CompareOptions


@command(
    *(OutputFormat, CompareOptions, Page),
    arguments={"cards": "CARDS..."},
    short_help="Rank agreement between cards.",
    examples=(
        "layerwise compare small-card full-card",
        "layerwise compare cards/*/card.json --format json",
    ),
)
def compare(cards: tuple[str, ...], **options: Any) -> None:
    """Say how well each pair of CARDs of one model agrees on the ranking of blocks.

    The agreement is the Spearman correlation of their residual norms. Where it reaches the
    threshold, one card may stand for the other: a small text for a large one, a rank for another.
    """
    form, file, opened = (options.pop(name) for name in ("format", "html", "open"))
    import_for()
    from layerwise import report
    from layerwise.card.record import LayerCard
    from layerwise.records import to_plain

    with talk(form):
        read = [LayerCard.load(Path(path)) for path in cards]
        import_for(lw.compare)
        found = lw.compare(*read, **options)
        plain = {"schema": "layerwise/comparison/1", **to_plain(found)}
        say(form, human=[report.terminal(found)], json=canonical_json(plain))
        put_page(found, file=file, wanted=opened)
