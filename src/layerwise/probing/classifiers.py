"""Small classifiers on fixed features: how well a class can be read, and how surely."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from layerwise.probing.record import Accuracy, BestDepth, ProbeSettings
from layerwise.seeds import derive, numpy_generator, rng_untouched
from layerwise.shapes import Array, Bool, Float, Int, Tensor

#: The two-sided 95 % point of the normal distribution.
_Z = 1.959963984540054


@dataclass(frozen=True)
class Sides:
    """Features of one depth and classes, split in two; features are standardised by `train`'s."""

    train: Float[Tensor, "n p"]
    train_classes: Int[Tensor, "n"]
    test: Float[Tensor, "m p"]
    test_classes: Int[Tensor, "m"]

    def standardised(self) -> "Sides":
        """Return each feature less its mean, over its deviation, both of the training side.

        A feature that does not vary there is 0 on both sides.
        """
        mean, spread = self.train.mean(0), self.train.std(0, correction=0)
        scale = torch.where(spread > 1e-6 * self.train.abs().amax(0), 1.0 / spread, 0.0)
        return Sides(
            (self.train - mean) * scale,
            self.train_classes,
            (self.test - mean) * scale,
            self.test_classes,
        )


#: What reads a class, by the field of a record's depth.
KINDS = ("linear", "mlp")


def accuracy_of(
    kind: str, sides: Sides, *, classes: int, settings: ProbeSettings
) -> tuple[Accuracy, Bool[Array, "m"]]:
    """Return how often a probe of `kind`, trained on one side, is right on each, and where it is.

    `sides` are standardised. The weights at the start and the order of the examples depend on the
    seed and the kind alone, so depths are compared under the same draws.
    """
    features = sides.train.shape[1]
    with torch.enable_grad(), rng_untouched(derive(settings.seed, "probe", kind)):
        if kind == "linear":
            probe: nn.Module = nn.Linear(features, classes)
        else:
            probe = nn.Sequential(
                nn.Linear(features, settings.hidden),
                nn.ReLU(),
                nn.Dropout(settings.dropout),
                nn.Linear(settings.hidden, classes),
            )
        probe.to(sides.train.device)
        optimizer = torch.optim.AdamW(
            probe.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        for _ in range(settings.epochs):
            order = torch.randperm(len(sides.train)).to(sides.train.device)
            for rows in order.split(settings.batch_size):
                optimizer.zero_grad(set_to_none=True)
                loss = functional.cross_entropy(probe(sides.train[rows]), sides.train_classes[rows])
                loss.backward()
                optimizer.step()
    probe.eval()
    with torch.no_grad():
        right = (probe(sides.test).argmax(1) == sides.test_classes).cpu().numpy()
        seen = int((probe(sides.train).argmax(1) == sides.train_classes).sum())
    count, total = int(right.sum()), len(right)
    return Accuracy(count / total, *wilson(count, total), seen / len(sides.train)), right


def best_depth(right: Bool[Array, "l m"], *, seed: int) -> BestDepth:
    """Return the best of l depths that are right on m examples or not, the choice counted (ours).

    The examples are split in halves by `seed`; the depth chosen on one is judged on the other.
    """
    half = numpy_generator(seed, "probe halves").permutation(right.shape[1]) < right.shape[1] // 2
    blocks = [int(right[:, side].mean(1).argmax()) for side in (half, ~half)]
    count = int(right[blocks[0], ~half].sum() + right[blocks[1], half].sum())
    ends = wilson(count, len(half))
    return BestDepth((blocks[0], blocks[1]), count / len(half), *ends)


def wilson(right: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of `right` in `total`.

    Source: Wilson, Probable inference, the law of succession, and statistical inference (1927).

    >>> tuple(round(end, 3) for end in wilson(9, 10))
    (0.596, 0.982)
    """
    share, z2 = right / total, _Z**2
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    return max(0.0, middle - half), min(1.0, middle + half)
