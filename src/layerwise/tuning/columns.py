"""The columns of a fine-tuning run, as a reader sees them."""

from layerwise.columns import Column

GROUPS = (
    Column("name", "Group", form="text"),
    Column("parameters", "Parameters", form="count", importance=20),
    Column("trained", "Trained", form="count", importance=40,
           meaning="How many of them were trained; under LoRA, the adapters'. 0: frozen."),
    Column("learning_rate", "Learning rate", short="rate", importance=30),
    Column("step_ratio", "Relative step", short="step size", low="step_ratio_low",
           high="step_ratio_high", band="5th to 95th percentile of the steps", importance=50,
           meaning="||dW|| / ||W|| of a step, the median over those measured."),
)  # fmt: skip
"""A line a layer group."""
