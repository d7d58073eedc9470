"""Everything a pass adds up: the product of its accumulators."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from layerwise.capture.accumulators import FeatureMoments, GramRows, KeyedTable, Sum, merge_named
from layerwise.capture.clock import Clock
from layerwise.capture.hooks import WHOLE, BatchRecord, Listener, Site
from layerwise.compat.torch import widened
from layerwise.shapes import Tensor


@dataclass
class PassSums:
    """The accumulators of one pass; a monoid, as each of its parts is.

    Attributes:
        examples: One row an example.
        batches: One row a batch.
        gradients: Sum over examples of each adapted module's B gradient, of every draw of A.
        features: Sum over counted tokens of the outer product of its first A's output.
        kept: The gradients of the examples kept for the Gram matrices.
        inputs: The moments of each distinct input, by the first module that reads it.
        leaders: The first module that reads the same input, for each module that ran.
        weighed: Entropies of a second forward, one row an example, where the first had none.
        unread: Modules that ran on other rows than the batch's tokens.
        runs: The most often that a block ran in a forward.
    """

    examples: KeyedTable = field(default_factory=KeyedTable.zero)
    batches: KeyedTable = field(default_factory=KeyedTable.zero)
    gradients: dict[str, Sum] = field(default_factory=dict)
    features: dict[str, Sum] = field(default_factory=dict)
    kept: dict[str, GramRows] = field(default_factory=dict)
    inputs: dict[str, FeatureMoments] = field(default_factory=dict)
    leaders: dict[str, str] = field(default_factory=dict)
    weighed: KeyedTable = field(default_factory=KeyedTable.zero)
    unread: frozenset[str] = frozenset()
    runs: dict[int, int] = field(default_factory=dict)

    def merge(self, other: "PassSums") -> "PassSums":
        """Return both passes as one."""
        return type(self)(
            examples=self.examples.merge(other.examples),
            batches=self.batches.merge(other.batches),
            gradients=merge_named(self.gradients, other.gradients),
            features=merge_named(self.features, other.features),
            kept=merge_named(self.kept, other.kept),
            inputs=merge_named(self.inputs, other.inputs),
            leaders={**other.leaders, **self.leaders},
            weighed=self.weighed.merge(other.weighed),
            unread=self.unread | other.unread,
            runs={r: max(self.runs.get(r, 0), n) for r, n in (self.runs | other.runs).items()},
        )

    def add_examples(
        self,
        heard: BatchRecord,
        losses: Tensor,
        keys: np.ndarray,
        *,
        sites: Sequence[Site],
        blocks: int,
    ) -> None:
        """Add what one batch said of its examples; `keys` are their places in the data."""
        columns = _example_columns(heard, losses, sites=sites, blocks=blocks)
        self.examples.update(columns, key=keys)
        kept_keys = keys[heard.keep.cpu().numpy()]
        self.unread |= {sites[m].name for m in heard.unread}
        self.runs |= {r: max(n, self.runs.get(r, 0)) for r, n in heard.runs.items()}
        for m, gradient in heard.gradient_sum.items():
            self.gradients.setdefault(sites[m].name, Sum.zero()).update(gradient)
            self.features.setdefault(sites[m].name, Sum.zero()).update(heard.features[m])
        for m, rows in heard.kept.items():
            self.kept.setdefault(sites[m].name, GramRows.zero()).update(rows, key=kept_keys)

    def take_inputs(self, listener: Listener) -> None:
        """Take over what the listener streamed: the moments of the modules' inputs."""
        names = [site.name for site in listener.sites]
        self.inputs = {names[m]: moments for m, moments in listener.moments.items()}
        self.leaders = {names[m]: names[lead] for m, lead in listener.leaders.items()}


def _example_columns(
    heard: BatchRecord, losses: Tensor, *, sites: Sequence[Site], blocks: int
) -> dict[str, np.ndarray]:
    """Make one row an example: additive columns, NaN where a block or module was not heard."""
    # Of a batch in which no module was heard there are as many columns as of any other.
    energies = np.full(
        (heard.examples, len(sites), len(sites[0].projection) if sites else 0), np.nan
    )
    for m, energy in heard.column_energy.items():
        energies[:, m] = widened(energy).cpu().numpy()
    tokens = {row: heard.folded(mask.sum(1).float()) for row, mask in heard.masks.items()}
    return {
        "losses": heard.folded(losses.detach().float()).cpu().numpy(),
        "tokens": _columns(tokens, blocks, heard.examples),
        **entropy_columns(heard, blocks=blocks),
        "gradient_energy": _columns(heard.gradient_energy, blocks, heard.examples),
        "column_energy": energies,
        "input_energy": _columns(heard.input_energy, len(sites), heard.examples),
        "input_tokens": _columns(heard.input_tokens, len(sites), heard.examples),
    }


def entropy_columns(heard: BatchRecord, *, blocks: int) -> dict[str, np.ndarray]:
    """Make the columns of attention entropy: a block's mean over its runs."""
    entropy = {row: total / heard.runs[row] for row, (total, _) in heard.entropy.items()}
    spread = {row: each / heard.runs[row] ** 2 for row, (_, each) in heard.entropy.items()}
    return {
        "entropy": _columns(entropy, blocks, heard.examples),
        "entropy_variance": _columns(spread, blocks, heard.examples),
    }


def _columns(heard: Mapping[int, Tensor], width: int, examples: int) -> np.ndarray:
    """(examples, width) float64 with each heard column in its place and NaN elsewhere."""
    table = np.full((examples, width), np.nan)
    if heard:
        values = torch.stack([widened(v) for v in heard.values()], 1)
        table[:, list(heard)] = values.cpu().numpy()
    return table


def batch_columns(
    heard: BatchRecord, clock: Clock, *, blocks: int, tokens: int
) -> dict[str, np.ndarray]:
    """Make a row of the batch: the model's own seconds and saved bytes, in blocks and outside.

    `tokens` are the batch's, padding included.
    """
    own = np.array([0.0] + [clock.seconds(a, b) for a, b in heard.spans]).cumsum()
    forward = _seconds(heard, own, clock, "forward", blocks)
    backward = _seconds(heard, own, clock, "backward", blocks)
    outside = [each[WHOLE] - np.nansum(each[:WHOLE]) for each in (forward, backward)]
    saved = [heard.saved_bytes.get(row, np.nan) for row in range(blocks)]
    return {
        "batch_tokens": np.array([tokens]),
        "forward_seconds": forward[None, :WHOLE],
        "backward_seconds": backward[None, :WHOLE],
        "outside_seconds": np.maximum(outside, 0.0)[None],
        "activation_bytes": np.array([saved], dtype=np.float64),
    }


def _seconds(
    heard: BatchRecord, own: np.ndarray, clock: Clock, way: str, blocks: int
) -> np.ndarray:
    """Seconds of each block and of the whole, less our own work in between; NaN where unheard."""
    seconds = np.full(blocks + 1, np.nan)
    for row in (*range(blocks), WHOLE):
        starts, ends = (heard.marks.get((f"{way} {end}", row), []) for end in ("start", "end"))
        if starts and ends:  # One of each for every run.
            seconds[row] = sum(
                max(0.0, clock.seconds(from_, to) - (own[after] - own[before]))
                for (from_, before), (to, after) in zip(starts, ends, strict=False)
            )
    return seconds
