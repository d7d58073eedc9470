"""The names that runs are told apart by: metrics, conditions, and families of objectives."""

from layerwise.depths import RELATIVE_DEPTHS

METRICS = ("procrustes", "cka")
"""The measures of a change."""

DISTANCES = ("procrustes", "cosine")
"""The measures of the distance between objectives."""

DEPTHS = tuple(f"d{relative:.2f}" for relative in RELATIVE_DEPTHS)
"""The columns of a profile, one a relative depth."""

KEYS = ("model", "objective", "condition", "placement", "seed")
"""The columns that tell runs apart."""

ALL = "all"
"""The placement of a run that adapts all blocks."""

UNKNOWN = "unknown"
"""The family or kind of block of a model where it is not told."""

FIVE = ("standard", "uniform", "lora", "frozen-norm", "frozen-lower")
"""The five standard conditions of arXiv 2604.17177, over which slopes and widths are averaged."""

EQUAL_STEP = "equal-step"

FAMILIES = {
    "masked-lm": "token-prediction",
    "span-denoise": "token-prediction",
    "causal-lm": "token-prediction",
    "causal-span": "token-prediction",
    "sft": "token-prediction",
    "simcse": "contrastive",
    "barlow-twins": "contrastive",
    "nsp": "sequence-classification",
    "classification": "sequence-classification",
}
"""Which objectives are alike (ours). The paper parts those that predict tokens from those that draw
whole sequences together; one that judges a whole sequence is neither."""
