"""A comparison of cards of one model: may one stand for another?"""

from collections.abc import Iterator

from layerwise.columns import Column
from layerwise.placement.compare import Comparison, PairAgreement
from layerwise.report import blocks as b
from layerwise.report.documents import parts
from layerwise.report.numbers import counted, percent
from layerwise.report.words import shown

COLUMNS = (
    Column("cards", "Cards", form="text"),
    Column("spearman", "Spearman", digits=3, importance=20,
           meaning="Rank correlation of the blocks' residual norms on both cards.",
           reads="1: both rank the blocks alike.",
           caution="With few blocks it is coarse: one exchanged pair weighs much."),
    Column("detrended", "Spearman, depth held fixed", short="depth fixed", digits=3, importance=18,
           meaning="The same correlation after what the blocks' depth explains of both rankings is "
           "taken away.",
           reads="Near 0: the cards agree on nothing but that norms fall with depth.",
           caution="A blank: one card ranks its blocks by depth alone."),
    Column("advice", "Advised blocks in common", short="advice", form="text", importance=16),
    Column("cost", "Lost by the other's advice", short="lost", form="text", importance=14,
           meaning="The share of its own predicted gain that each card loses if the blocks that "
           "the other advises are adapted.",
           caution="Below 0: they are predicted to gain more, for advice is built block by block."),
    Column("usable", "One may stand for the other", short="usable", form="text", importance=10),
)  # fmt: skip


#: Measured on SmolLM2-135M: docs/methods.md, transfer.
_CAUTION = (
    "Depth alone makes almost any two texts agree so, random letters too: go by the correlation "
    "with depth held fixed, and by what following the other card's advice costs."
)


def document(comparison: Comparison) -> b.Document:
    """Return how the rankings of blocks agree between each two cards."""
    rows = [_row(pair) for pair in comparison.pairs]
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
    table = b.Table("agreement", COLUMNS, rows, usable, "one may stand for the other")
    blocks: list[b.Block] = [
        b.Verdict(texts.get(len(usable), some), [rule, _CAUTION]),
        b.Heading("The cards"),
        parts.facts((str(n), data) for n, data in enumerate(comparison.data, start=1)),
        b.Heading("Agreement"),
        table,
        *_transfers(comparison),
        *parts.glossary(table),
    ]
    return b.Document("Comparison of cards", shown(comparison.model, limit=100), cards, blocks)


_TRANSFERS = (
    Column("target", "Card", form="count"),
    Column("policy", "Policy", form="text"),
    Column("drop", "Improvement lost", form="percent"),
    Column("speedup", "Speedup", form="percent"),
    Column("picked", "The others pick it for", form="text"),
)


def _transfers(comparison: Comparison) -> Iterator[b.Block]:
    """Yield what each card's others would have advised, where placements were fine-tuned."""
    if not comparison.transfers:
        return
    rows = [{**vars(each), "target": each.target + 1} for each in comparison.transfers]
    picked = frozenset(n for n, each in enumerate(comparison.transfers) if each.picked)
    yield b.Heading("Each card by what was measured on the others")
    yield b.Text("Against all blocks, on the card's own text.", quiet=True)
    yield b.Table("transfers", _TRANSFERS, rows, picked, "what the others pick")


def _row(pair: PairAgreement) -> dict[str, object]:
    row: dict[str, object] = {"cards": f"{pair.first + 1}, {pair.second + 1}"}
    row |= {"spearman": pair.spearman, "detrended": pair.detrended}
    if pair.advised and pair.common and pair.costs:
        both = zip(pair.common, pair.advised, strict=True)
        row["advice"] = " and ".join(dict.fromkeys(f"{n} of {size}" for n, size in both))
        row["cost"] = " and ".join(percent(cost) for cost in pair.costs)
    return row | {"usable": "yes" if pair.usable else "no"}
