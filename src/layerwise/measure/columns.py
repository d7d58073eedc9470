"""The columns of a leaderboard, as a reader sees them."""

from layerwise.columns import Column

IMPROVEMENT = Column("improvement", "Improvement", low="low", high="high",
                     band="95 % interval over paired seeds", importance=90,
                     meaning="How much better than the untouched model, mean over seeds.",
                     caution="Over seeds, not over validation examples.")  # fmt: skip

ARMS = (
    Column("name", "Arm", form="text"),
    Column("place", "Place", form="count", importance=80,
           meaning="By improvement among the arms of equal budget."),
    IMPROVEMENT,
    Column("kept", "Of all blocks' improvement", short="of all", form="percent", importance=70,
           meaning="Its improvement over that of adapters on all blocks."),
    Column("step_ratio", "Of all blocks' step", short="step", form="percent", importance=60,
           meaning="Its time of a step over that of adapters on all blocks.",
           caution="Other work on the machine makes steps longer."),
    Column(
        "learning_rate", "Rate", importance=50, meaning="Chosen on a ladder that scores nobody."
    ),
    Column("blocks", "Blocks", form="text", importance=40),
    Column("difference", "Beside the recommended", short="beside", low="difference_low",
           high="difference_high", band="95 % interval over paired seeds", importance=30,
           meaning="Improvement less the recommended arm's, seed by seed."),
    Column("verdict", "Verdict", form="text", importance=20),
    Column("kind", "What it is", form="text", importance=15),
    Column("seconds_per_step", "Step", unit="s", form="quantity", importance=10),
    Column("peak_memory_bytes", "Peak memory", unit="B", form="quantity", importance=8),
    Column("adapter_parameters", "Parameters", form="count", importance=5),
)  # fmt: skip
"""One way to place adapters, and what it did."""
