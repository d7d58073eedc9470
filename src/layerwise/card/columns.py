"""The columns of a Layer Card, as a reader sees them."""

from layerwise.columns import Column

__all__ = ["COLUMNS"]

COLUMNS = (
    Column(
        "residual_norm",
        "Residual norm",
        short="resid.",
        meaning="Expected norm of the adapter gradient over the root of the activation energy, "
        "with its 95 % bootstrap interval: how much correctable signal reaches the block.",
        reads="High: an adapter here has much to correct.",
        caution="Where intervals overlap, blocks are not told apart.",
        low="residual_norm_low",
        high="residual_norm_high",
        band="95 % bootstrap interval",
        importance=100,
    ),
    Column(
        "coherence",
        "Gradient coherence",
        short="coher.",
        meaning="Norm of the mean adapter gradient over the mean norm, from 0 (examples pull in "
        "different directions) to 1 (all agree).",
        reads="High: the examples agree on the correction.",
        caution="With few examples it is large by chance alone: about one over their root.",
        importance=40,
    ),
    Column(
        "activation_energy",
        "Activation energy",
        short="energy",
        meaning="Mean squared entry of the inputs of the adapted modules.",
        reads="High: the same adapter weights move the output further.",
        caution="Its scale is the model's own: compare blocks of one model, not models.",
        importance=90,
    ),
    Column(
        "effective_rank",
        "Effective rank",
        short="eff. rank",
        meaning="Exponential of the entropy of the normalised eigenvalues of the input covariance: "
        "in how many directions the inputs spread.",
        reads="High: well conditioned; low: a few directions dominate.",
        caution="It cannot exceed the number of tokens, and grows with them while they are few.",
        importance=80,
    ),
    Column(
        "attention_entropy",
        "Attention entropy",
        short="entropy",
        unit="nats",
        meaning="Mean entropy of the attention rows; where query rows were sampled, with its 99 % "
        "interval.",
        reads="Low: attention is saturated on few tokens.",
        caution="It grows with the length of the text: compare cards of one length.",
        low="attention_entropy_low",
        high="attention_entropy_high",
        band="99 % interval of the sampled rows",
        importance=75,
    ),
    Column(
        "activation_gradient",
        "Activation gradient",
        short="act. grad",
        meaning="Mean per-example norm of the gradient of the loss at the block's output.",
        reads="Low: little of the loss reaches back to this depth.",
        importance=70,
    ),
    Column(
        "gain",
        "Coupled gain",
        short="gain",
        meaning="Predicted fall of the loss from adapting this block alone, with the damped "
        "empirical Fisher as curvature.",
        reads="High: this block alone promises more.",
        caution="Gains of several blocks do not add up.",
        importance=45,
    ),
    Column(
        "forward_seconds",
        "Forward time",
        short="fwd",
        unit="ms",
        factor=1e3,
        meaning="Time a batch spends in the block's forward pass.",
        caution="Other work on the machine makes it longer.",
        importance=20,
    ),
    Column(
        "backward_seconds",
        "Backward time",
        short="bwd",
        unit="ms",
        factor=1e3,
        meaning="Time a batch spends in the block's backward pass, its weights frozen.",
        caution="Other work on the machine makes it longer.",
        importance=60,
    ),
    Column(
        "adapter_seconds",
        "Adapter time",
        short="adapt.",
        unit="ms",
        factor=1e3,
        meaning="Time a batch spends in adapters on all targets of the block, forward and "
        "backward.",
        importance=15,
    ),
    Column(
        "activation_bytes",
        "Saved activations",
        short="saved",
        unit="MB",
        factor=1e-6,
        meaning="Memory a batch keeps for the block's backward pass.",
        importance=30,
    ),
    Column(
        "adapter_parameters",
        "Adapter parameters",
        short="params",
        form="count",
        meaning="Trainable parameters of adapters on all targets of the block.",
        importance=10,
    ),
)
"""One a signal or cost, in the order in which a wide table has them."""
