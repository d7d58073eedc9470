"""The columns of probes and of erasure, as a reader sees them."""

from functools import partial

from layerwise.columns import Column

_share = partial(Column, form="percent", digits=1)
_BLOCK = Column("index", "Block", short="block", form="count")
_DEPTH = Column("relative", "Relative depth", short="depth", form="percent")
_WILSON = "95 % Wilson interval over held-out examples"
_PAIRS = "95 % interval over pairs"

PROBED = (
    _BLOCK,
    _DEPTH,
    Column("linear", "Linear probe", short="linear", digits=3, low="linear_low",
           high="linear_high", band=_WILSON, importance=50,
           meaning="Share of held-out examples whose class one linear layer gives.",
           reads="High: the classes lie apart in the representation of this depth.",
           caution="What can be read need not be used by the model."),
    Column("mlp", "MLP", digits=3, low="mlp_low", high="mlp_high", band=_WILSON, importance=40,
           meaning="The same for two layers with a nonlinearity between.",
           caution="Where it is far better than the linear probe, the probe itself does the work."),
    Column("linear_train", "Linear, trained on", digits=3, importance=10,
           meaning="Share of the examples that the linear probe was trained on which it gives "
           "right."),
    Column("mlp_train", "MLP, trained on", digits=3, importance=5),
)  # fmt: skip
"""What two probes read at a depth."""

ERASED = (
    _BLOCK,
    _DEPTH,
    _share("effect", "Effect", low="effect_low", high="effect_high", band=_PAIRS, importance=90,
           meaning="By which share of their distance erasing the concept moves the members of a "
           "pair together.",
           reads="High: the concept is most of what tells them apart; below 0: they are driven "
           "apart."),
    _share("control", "Control", low="control_low", high="control_high",
           band="95 % of the random directions", importance=80,
           meaning="The same for erasing a random direction of the same energy, mean over draws."),
    _share("margin", "Margin", low="margin_low", high="margin_high", band=_PAIRS, importance=70,
           meaning="Effect less control.",
           caution="Where its interval reaches 0, the concept is not told from a random "
           "direction."),
    _share("effect_median", "Median effect", short="median", importance=30,
           meaning="The median over pairs of each pair's own share."),
    _share("ordered", "Told apart", importance=25,
           meaning="Share of pairs whose members the erased direction tells apart: 50 % is "
           "chance."),
    _share("energy", "Energy", importance=20,
           meaning="Mean squared change of an input by the erasure, as a share of the total "
           "variance."),
    _share("control_energy", "Control's energy", importance=8),
    Column("overlap", "Overlap", digits=3, importance=7,
           meaning="Mean |cosine| of the random directions with that along which an input is "
           "moved.",
           caution="Near 1, the control is no other direction."),
    _share("effect_in_sample", "Effect in sample", importance=6,
           meaning="The effect on the pairs of the fit.",
           caution="It flatters; for comparison alone."),
    _share("top_variance", "Variance along one direction", short="top var.", importance=5,
           meaning="Share of the total variance that lies along one direction.",
           caution="Near 100 %, distances are about that direction: often a few units of one "
           "token."),
    Column("distance", "Distance", importance=4,
           meaning="Mean Euclidean distance between the members of a pair, before."),
)  # fmt: skip
"""What erasing a concept does at a depth."""
