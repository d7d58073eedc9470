"""A comparison of cards of one model: may one stand for another?"""

from layerwise.columns import Column
from layerwise.placement.compare import Comparison
from layerwise.report.blocks import Block, Document, Heading, Table, Verdict
from layerwise.report.documents.parts import facts, glossary
from layerwise.report.numbers import counted
from layerwise.report.words import shown

__all__ = ["COLUMNS", "document"]

COLUMNS = (
    Column("cards", "Cards", form="text"),
    Column(
        "spearman",
        "Spearman",
        digits=3,
        importance=20,
        meaning="Rank correlation of the blocks' residual norms on both cards.",
        reads="1: both rank the blocks alike.",
        caution="With few blocks it is coarse: one exchanged pair weighs much.",
    ),
    Column("usable", "One may stand for the other", short="usable", form="text", importance=10),
)


def document(comparison: Comparison) -> Document:
    """Return how the rankings of blocks agree between each two cards."""
    rows = [
        {
            "cards": f"{pair.first + 1}, {pair.second + 1}",
            "spearman": pair.spearman,
            "usable": "yes" if pair.usable else "no",
        }
        for pair in comparison.pairs
    ]
    numbered = ((str(n), data) for n, data in enumerate(comparison.data, start=1))
    usable = frozenset(n for n, pair in enumerate(comparison.pairs) if pair.usable)
    blocks: list[Block] = [
        _verdict(comparison),
        Heading("The cards"),
        facts(numbered),
        Heading("Agreement"),
        Table("agreement", COLUMNS, rows, marked=usable, mark="one may stand for the other"),
        *glossary(COLUMNS),
    ]
    subtitle = counted(len(comparison.data), "card")
    return Document("Comparison of cards", shown(comparison.model, limit=100), subtitle, blocks)


def _verdict(comparison: Comparison) -> Verdict:
    usable, pairs = sum(pair.usable for pair in comparison.pairs), len(comparison.pairs)
    texts = {
        0: "No card may stand for another.",
        pairs: "Any of these cards may stand for another.",
    }
    some = f"In {usable} of {counted(pairs, 'pair')} one card may stand for the other."
    rule = (
        "One card may stand for another where the rankings of blocks by residual norm agree at "
        f"{comparison.threshold:g} or more."
    )
    return Verdict(texts.get(usable, some), [rule])
