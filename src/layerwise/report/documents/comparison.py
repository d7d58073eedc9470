"""A comparison of cards of one model: may one stand for another?"""

from layerwise.columns import Column
from layerwise.placement.compare import Comparison
from layerwise.report import blocks as b
from layerwise.report.documents import parts
from layerwise.report.numbers import counted
from layerwise.report.words import shown

COLUMNS = (
    Column("cards", "Cards", form="text"),
    Column("spearman", "Spearman", digits=3, importance=20,
           meaning="Rank correlation of the blocks' residual norms on both cards.",
           reads="1: both rank the blocks alike.",
           caution="With few blocks it is coarse: one exchanged pair weighs much."),
    Column("usable", "One may stand for the other", short="usable", form="text", importance=10),
)  # fmt: skip


def document(comparison: Comparison) -> b.Document:
    """Return how the rankings of blocks agree between each two cards."""
    rows = [
        {"cards": f"{pair.first + 1}, {pair.second + 1}", "spearman": pair.spearman}
        | {"usable": "yes" if pair.usable else "no"}
        for pair in comparison.pairs
    ]
    usable = frozenset(n for n, pair in enumerate(comparison.pairs) if pair.usable)
    pairs, cards = len(rows), counted(len(comparison.data), "card")
    some = f"In {len(usable)} of {counted(pairs, 'pair')} one card may stand for the other."
    rule = (
        "One card may stand for another where the rankings of blocks by residual norm agree at "
        f"{comparison.threshold:g} or more."
    )
    texts = {
        0: "No card may stand for another.",
        pairs: "Any of these cards may stand for another.",
    }
    blocks: list[b.Block] = [
        b.Verdict(texts.get(len(usable), some), [rule]),
        b.Heading("The cards"),
        parts.facts((str(n), data) for n, data in enumerate(comparison.data, start=1)),
        b.Heading("Agreement"),
        table := b.Table("agreement", COLUMNS, rows, usable, "one may stand for the other"),
        *parts.glossary(table),
    ]
    return b.Document("Comparison of cards", shown(comparison.model, limit=100), cards, blocks)
