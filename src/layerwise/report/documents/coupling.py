"""What a card says of the coupling of its blocks."""

from collections.abc import Iterator

from layerwise.card.record import Coupling, LayerCard
from layerwise.columns import Column
from layerwise.report import blocks as b
from layerwise.report.documents import parts

_SETS = (
    Column("name", "Set", form="text"),
    Column("damping", "Damping", importance=50,
           meaning="What is added to the curvature, relative to a block's mean squared gradient."),
    Column("rho", "Coupling rho", short="rho", digits=2, importance=90,
           meaning="Norm of the curvature-normalised coupling within the set.",
           reads="0: gains add up; high: the blocks of the set do each other's work.",
           caution="Only what is above the null is coupling of the blocks."),
    Column("rho_by_chance", "Highest by chance", short="by chance", digits=2, importance=80,
           meaning="The largest rho where the examples' signs are flipped in each block alone."),
    Column("gain", "Gain of the set", short="gain", importance=70,
           meaning="Coupled gain where the set adapts together."),
    Column("bound", "Its bound", short="bound", importance=30,
           meaning="The sum of the blocks' own gains over 1 + rho, which the gain is never below."),
    Column("additive", "Sum of own gains", short="sum", importance=40),
    Column("blocks", "Blocks", short="blocks", form="text", importance=20),
)  # fmt: skip
_BLOCKS = (
    Column("index", "Block", short="block", form="count"),
    Column("kappa", "kappa", digits=2, importance=90,
           meaning="Squared norm of the block's normalised coupling with all others, from 0 to 1.",
           reads="Near 1: the others can do some of its work whole."),
    Column("kappa_by_chance", "kappa by chance", short="by chance", digits=2, importance=80,
           meaning="The largest where the examples' signs are flipped in each block alone."),
    Column("freezing", "Cost of freezing", short="freezing", importance=70, low="low", high="high",
           meaning="The gain that is lost if this block is frozen and all others adapt, with the "
           "bounds of proposition 5.1.", band="bounds"),
    Column("u", "u", importance=60, meaning="Norm of the block's own normalised gradient."),
    Column("compensation", "C", importance=50, meaning="The most of u that the others can give."),
    Column("s", "s", importance=40, meaning="What is left of u for certain: u - C, or 0."),
)  # fmt: skip

_ABOUT = (
    "Blocks that are coupled do each other's work: their gains do not add up, and one is little "
    "missed when it is frozen. Figures that chance gives as well tell nothing."
)


def coupling(card: LayerCard, found: Coupling) -> Iterator[b.Block]:
    """Yield what is told of `found`, the coupling of the blocks of `card`."""
    labels = parts.stack_labels(card.model)
    yield b.Heading("Coupling of blocks", detail=True)
    yield b.Text(_ABOUT, quiet=True)
    sets = [
        {
            **vars(each),
            "blocks": parts.block_names([card.layers[row] for row in each.layers], labels),
        }
        for each in found.sets
    ]
    told = b.Table("coupled-sets", _SETS, sets) if sets else None
    yield from [told] if told else []
    own = next((x for x in found.blocks if x.damping == card.capture.damping), found.blocks[0])
    keys = [c.key for c in _BLOCKS[1:]] + ["low", "high"]
    rows = [
        {"index": layer.index, **{key: getattr(own, key)[n] for key in keys}}
        for n, layer in enumerate(card.layers)
    ]
    starts = [n for n, layer in enumerate(card.layers) if layer.index == 0]
    groups = {n: labels[card.layers[n].stack] for n in starts} if len(labels) > 1 else {}
    table = b.Table("coupled-blocks", _BLOCKS, rows, groups=groups,
                    caption=f"At damping {own.damping:g}; card.json has the others.")  # fmt: skip
    yield table
    yield from parts.glossary(*([told] if told else []), table)
