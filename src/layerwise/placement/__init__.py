"""Which blocks to adapt, what that costs, and the placement as files for other tools.

The rows below say what there is to choose from, and import nothing heavy before it is used. What
needs PEFT, injecting a placement and checking it, is in `layerwise.placement.verify` alone: a
placement is chosen and written without it.
"""

from layerwise.placement.exports.record import Trainer
from layerwise.placement.policy import Policy
from layerwise.registry import Registry, later

__all__ = [
    "ADVISED", "DEFAULT_GOAL", "GOALS", "POLICIES", "TRAINERS", "WITHOUT_GAINS", "Policy",
    "Trainer",
]  # fmt: skip

#: What chooses blocks; the formulas are in `layerwise.placement.policies`.
POLICIES = Registry[Policy]("policy")

for _name, _meaning, *_sizes in (
    ("top", "the largest residual norms"),
    ("mid", "the residual norms in the middle of the ranking"),
    ("bottom", "the smallest residual norms"),
    ("uniform", "evenly spread over depth, both ends included"),
    ("midpoints", "the middles of equal parts of depth"),
    ("random", "any, by the seed"),
    ("first", "the lowest: the costliest backward"),
    ("last", "the highest: the cheapest backward"),
    ("ski", "where attention is saturated and the gradient suppressed, and their neighbours",
     later("layerwise.placement.policies", "ski_size")),
    ("ski-greedy", "the most saturated and the first suppressed block, and their neighbours",
     later("layerwise.placement.policies", "ski_greedy_size")),
    ("gain", "those that are predicted to gain the most together"),
    ("gain-per-cost", "those that are predicted to gain the most for each second of a step"),
):  # fmt: skip
    _choose = later("layerwise.placement.policies", _name.replace("-", "_"))
    POLICIES.add(Policy(_name, _meaning, _choose, *_sizes))
# Of all blocks, those evenly spread are all; of fewer, they are what `all` can mean.
_choose = later("layerwise.placement.policies", "uniform")
POLICIES.add(Policy("all", "every block", _choose, size=lambda _card, rows: len(rows)))

#: The largest step time that each goal allows, relative to adapters on all blocks (ours).
GOALS = Registry[float]("goal")
for _name, _ratio in (("quality", 1.0), ("balanced", 0.75), ("cost", 0.5)):
    GOALS.add(_ratio, name=_name)

#: The policy with the best evidence, until measured evidence says otherwise, and what it comes to
#: where every block would gain alike: the advice from a card without gains.
ADVISED, WITHOUT_GAINS = "gain", "midpoints"
#: What the advised policy is bound by: a backward that ends higher up was worse than a random
#: placement where that was measured (docs/evidence.md), so that has to be asked for.
DEFAULT_GOAL = "quality"

#: Whose configuration a placement can be written in: a function each in `placement.exports`.
TRAINERS = Registry[Trainer]("trainer")

for _name, _meaning in (
    ("peft", "PEFT itself, and whatever takes its LoraConfig"),
    ("trl", "TRL: its command line, and its trainers in Python"),
    ("axolotl", "Axolotl"),
    ("llamafactory", "LLaMA-Factory"),
    ("ms-swift", "ms-swift"),
    ("unsloth", "Unsloth"),
):
    _export = later("layerwise.placement.exports.adapters", _name.replace("-", "_"))
    TRAINERS.add(Trainer(_name, _meaning, _export))
_export = later("layerwise.placement.exports.freeze", "export")
TRAINERS.add(Trainer("freeze", "lists of weights, for training blocks whole", _export, whole=True))
