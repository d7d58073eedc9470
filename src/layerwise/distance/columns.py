"""The columns of objective distances, as a reader sees them."""

from functools import partial

from layerwise.columns import Column

_exact = partial(Column, digits=4)
_FEW = "Distances of objectives that both halves of the examples rank differently are not apart."

DISTANCES = (
    Column("name", "Objective", form="text"),
    _exact("procrustes", "Procrustes", importance=60,
           meaning="Procrustes distance of the gradients of all examples, from 0 to √2.",
           reads="0: the same gradients but for a rotation; high: the objective asks for other "
           "ones.",
           caution=_FEW),
    _exact("cosine", "Cosine", importance=50,
           meaning="1 - cosine of the two mean gradients, from 0 to 2.",
           reads="0: both pull one way; 1: at right angles; 2: against each other.", caution=_FEW),
    _exact("cosine_128", "Cosine at 128", short="at 128", importance=40,
           meaning="The same after a random projection to 128 coordinates."),
    _exact("cosine_32", "Cosine at 32", short="at 32", importance=30,
           meaning="The same after a random projection to 32 coordinates."),
    _exact("pearson", "Pearson", importance=20,
           meaning="1 - Pearson correlation of the two mean gradients, from 0 to 2."),
    _exact("fisher", "Fisher", importance=10,
           meaning="1 - cosine of the element-wise mean squares, from 0 to 1.",
           reads="High: the objectives weigh other coordinates."),
)  # fmt: skip
"""How far an objective's gradients lie from the reference's."""

GRADIENTS = (
    DISTANCES[0],
    Column("mean_norm", "Mean norm", importance=30, meaning="Mean norm of an example's gradient."),
    Column("coherence", "Coherence", importance=20,
           meaning="Mean over coordinates of |mean| / standard deviation over the examples.",
           reads="High: the examples agree."),
    Column("nonzero", "Nonzero", form="percent", digits=1, importance=10,
           meaning="Share of the entries of all gradients, averaged over tokens, that are not 0."),
    Column("nonzero_tokens", "Nonzero by token", short="by token", form="percent", digits=1,
           importance=5, meaning="The same token by token, before they are averaged."),
    Column("rows", "Examples", form="count", meaning="Examples that were compared."),
)  # fmt: skip
"""What the gradients themselves are like."""
