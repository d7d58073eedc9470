"""The names that runs are told apart by: metrics, conditions, and families of objectives."""

from layerwise.depths import RELATIVE_DEPTHS

__all__ = [
    "ALL",
    "DEPTHS",
    "DISTANCES",
    "EQUAL_STEP",
    "FIVE",
    "KEYS",
    "METRICS",
    "UNKNOWN",
    "condition_group",
    "family_of",
    "objective_name",
]

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

_ALIASES = {"mlm": "masked-lm"}

#: Which objectives are alike (ours). The paper parts those that predict tokens from those that
#: draw whole sequences together; one that judges a whole sequence is neither.
_FAMILIES = {
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


def objective_name(name: str) -> str:
    """Return the one name of an objective that has several.

    >>> objective_name("mlm"), objective_name("nsp")
    ('masked-lm', 'nsp')
    """
    return _ALIASES.get(name, name)


def family_of(objective: str) -> str:
    """Return the family of an objective, ``other`` where it is none of ours."""
    return _FAMILIES.get(objective, "other")


def condition_group(condition: str) -> str:
    """Return the group that a condition is counted in: ``five-standard``, or its own name.

    >>> [condition_group(name) for name in ("lora", "equal-step", "top-m")]
    ['five-standard', 'equal-step', 'top-m']
    """
    return "five-standard" if condition in FIVE else condition
