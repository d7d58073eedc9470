"""One number a block: what it is called, what it needs of a pass, and the formula.

A signal is a function of `LayerStats` in a module of its own and a row in `SIGNALS` below; capture,
card, terminal, report, tables and `--signals` follow from the row. What adapting a block costs is
in `COSTS`, which no choice of signals leaves out. No formula is imported before it is computed.
"""

from collections.abc import Sequence

from layerwise.columns import Column
from layerwise.errors import BadInputError
from layerwise.registry import Registry, later
from layerwise.signals.record import Signal

__all__ = ["COSTS", "SIGNALS", "Signal", "select"]

#: What `--signals` chooses from.
SIGNALS = Registry[Signal]("signal")

#: What a batch takes in each block: what a placement costs comes from these.
COSTS = Registry[Signal]("cost")


def select(names: Sequence[str] | None = None) -> tuple[Signal, ...]:
    """Return the signals called `names`, each once; all where None.

    Raises:
        UnknownNameError: There is no such signal.
        BadInputError: `names` is empty.
    """
    if names is not None and not names:
        msg = "signals"
        raise BadInputError(msg, value="", expected="at least one", hint="leave --signals out")
    return tuple(SIGNALS[name] for name in dict.fromkeys(SIGNALS if names is None else names))


_SIGNALS = (
    (("gradients",), later("layerwise.signals.residual", "residual_norm_interval"),
     Column("residual_norm", "Residual norm", short="resid.", importance=100,
            meaning="Expected norm of the adapter gradient over the root of the activation energy, "
            "with its 95 % interval over examples and draws of A: how much correctable signal "
            "reaches the block.",
            reads="High: an adapter here has much to correct.",
            caution="Where intervals overlap, blocks are not told apart.",
            low="residual_norm_low", high="residual_norm_high",
            band="95 % interval over examples and draws of A")),
    (("gradients",), later("layerwise.signals.projected", "projected_residual"),
     Column("projected_residual", "Projected residual", short="h S⁻¹ h", importance=12,
            meaning="h' Sigma^-1 h of the adapter's features, what the residual norm stands for: "
            "the covariance of the features in place of their mean energy.",
            reads="High: an adapter here has much to correct.",
            caution="Of one draw of A.")),
    (("gradients",), later("layerwise.signals.projected", "noise_amplification"),
     Column("noise_amplification", "Noise amplification", short="noise", importance=8,
            meaning="Excess risk that white noise in the gradient brings, sigma / 2 tr Sigma^-1.",
            reads="Half the rank: all directions of the features are alike; more: some are weak.",
            caution="Of one draw of A.")),
    (("gradients",), later("layerwise.signals.projected", "norm_budget"),
     Column("norm_budget", "Norm budget", short="budget", importance=7,
            meaning="Norm of B below which the least risk cannot be reached.",
            reads="High: the adapter must grow large.",
            caution="Of one draw of A.")),
    (("gradients",), later("layerwise.signals.residual", "gradient_norm"),
     Column("gradient_norm", "Weight gradient", short="weight grad", importance=15,
            meaning="Expected norm of the gradient of the adapted weights themselves, estimated "
            "from the adapters'.",
            reads="High: the loss pulls at these weights.",
            caution="It has the scale of the block's inputs in it: the residual norm has not.")),
    (("gradients",), later("layerwise.signals.residual", "coherence"),
     Column("coherence", "Gradient coherence", short="coher.", importance=40,
            meaning="Norm of the mean adapter gradient over the mean norm, from 0 (examples pull "
            "in different directions) to 1 (all agree).",
            reads="High: the examples agree on the correction.",
            caution="With few examples it is large by chance: compare its floor.")),
    (("gradients",), later("layerwise.signals.residual", "coherence_floor"),
     Column("coherence_floor", "Coherence by chance", short="by chance", importance=38,
            meaning="The coherence that gradients of these sizes have that share nothing.",
            reads="Coherence near it: the examples agree on nothing.")),
    (("inputs",), later("layerwise.signals.inputs", "activation_energy"),
     Column("activation_energy", "Activation energy", short="energy", importance=90,
            meaning="Mean squared entry of the inputs of the adapted modules.",
            reads="High: the same adapter weights move the output further.",
            caution="Its scale is the model's own: compare blocks of one model, not models.")),
    (("covariance",), later("layerwise.signals.inputs", "effective_rank"),
     Column("effective_rank", "Effective rank", short="eff. rank", importance=80,
            meaning="Exponential of the entropy of the normalised eigenvalues of the centred input "
            "covariance: in how many directions the inputs spread.",
            reads="High: well conditioned; low: a few directions dominate.",
            caution="It cannot exceed the number of tokens, and grows with them at first.")),
    (("covariance",), later("layerwise.signals.inputs", "effective_rank_uncentred"),
     Column("effective_rank_uncentred", "Effective rank, uncentred", short="uncentred",
            importance=9,
            meaning="The same of the inputs' second moment, their mean left in, as in the paper.",
            reads="Far below the centred one: the mean of the inputs dominates them.",
            caution="It cannot exceed the number of tokens either.")),
    (("entropy",), later("layerwise.signals.saturation", "attention_entropy"),
     Column("attention_entropy", "Attention entropy", short="entropy", unit="nats", importance=75,
            meaning="Mean entropy of the attention rows; where query rows were sampled, with its "
            "99 % interval.",
            reads="Low: attention is saturated on few tokens.",
            caution="It grows with the length of the text: compare cards of one length.",
            error="attention_entropy_error", band="99 % interval of the sampled rows")),
    (("outputs",), later("layerwise.signals.saturation", "activation_gradient"),
     Column("activation_gradient", "Activation gradient", short="act. grad", importance=70,
            meaning="Mean per-example norm of the gradient of the loss at the block's output.",
            reads="Low: little of the loss reaches back to this depth.",
            caution="Under the readout hf the last block is on the scale of the final norm.")),
    (("entropy", "outputs"), later("layerwise.signals.saturation", "ski"),
     Column("ski", "Saturation knee index", short="SKI", importance=10,
            meaning="Half the share that the entropy lacks of the largest of all blocks, and half "
            "that of the activation gradient: the score that policy ski goes by.",
            reads="High: attention is saturated and the gradient has faded.",
            caution="It compares the blocks of one card alone.")),
    (("gram",), later("layerwise.signals.gain", "gain"),
     Column("gain", "Coupled gain", short="gain", importance=45,
            meaning="What a damped step on this block alone would gain in the quadratic model with "
            "the empirical Fisher as curvature: dimensionless, below one half.",
            reads="High: this block alone promises more.",
            caution="No fall of the loss is read off it. Gains of several blocks do not add "
            "up.")),
    (("gram",), later("layerwise.signals.gain", "gain_by_chance"),
     Column("gain_by_chance", "Gain by chance", short="by chance", importance=42,
            meaning="The largest gain where the signs of the examples' gradients are flipped at "
            "random, of 19 draws.",
            reads="Gain below it: the examples agree on nothing here.")),
    (("gram",), later("layerwise.signals.gain", "adam_gain"),
     Column("adam_gain", "First-order gain of Adam", short="adam gain", importance=11,
            meaning="The first-order gain of a step of Adam on this block, each example judged by "
            "the others: the score that policy gain goes by.",
            reads="High: the policy places near this block.",
            caution="It has the scale of the loss and of the block's gradients in it.")),
)  # fmt: skip
for _needs, _compute, _column in _SIGNALS:
    SIGNALS.add(Signal(_column.key, _needs, _compute, _column))

_COSTS = (
    Column("forward_seconds", "Forward time", short="fwd", unit="ms", factor=1e3, importance=20,
           meaning="Time a batch spends in the block's forward pass.",
           caution="Other work on the machine makes it longer."),
    Column("backward_seconds", "Backward time", short="bwd", unit="ms", factor=1e3, importance=60,
           meaning="Time a batch spends in the block's backward pass, its weights frozen.",
           caution="Other work on the machine makes it longer."),
    Column("adapter_seconds", "Adapter time", short="adapt.", unit="ms", factor=1e3, importance=15,
           meaning="Time a batch spends in adapters on all targets of the block, forward and "
           "backward."),
    Column("activation_bytes", "Saved activations", short="saved", unit="MB", factor=1e-6,
           importance=30, meaning="Memory a batch keeps for the block's backward pass."),
)  # fmt: skip
for _column in _COSTS:
    COSTS.add(Signal(_column.key, (), later("layerwise.signals.cost", _column.key), _column))
