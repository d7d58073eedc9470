"""How far each depth moved between two states, how surely, and how much of it is the probes'."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch

from layerwise.depths import RELATIVE_DEPTHS, block_at, slope
from layerwise.errors import BadInputError, NonFiniteError
from layerwise.profile.record import DepthChange, Readout, ReadoutProfile
from layerwise.profile.states import States
from layerwise.seeds import numpy_generator
from layerwise.signals.similarity import align, cka_of, represent, rsa_of, shared_pca_of

__all__ = [
    "READOUTS",
    "Change",
    "Resampling",
    "measure_change",
    "measure_changes",
    "readout_profile",
]

READOUTS: tuple[Readout, ...] = ("hf", "residual", "normed")

#: Random splits of the probes into halves that the noise is the median over (ours).
SPLITS = 32
#: Ends of the interval over bootstrap replicates, in percent.
INTERVAL = (2.5, 97.5)

T = TypeVar("T")
Key = tuple[str, int]


@dataclass(frozen=True)
class Resampling:
    """How often each probe counts, in every replicate and in every half.

    Attributes:
        replicates: Draws with replacement, (b, n); the same at every depth, so that a slope can be
            taken within a replicate.
        halves: 1 for the probes of one half, else 0, (s, n); the other half is the rest.
    """

    replicates: np.ndarray
    halves: np.ndarray

    @classmethod
    def draw(cls, probes: int, *, bootstrap: int, seed: int) -> "Resampling":
        """The draws that `seed` fixes, for `probes` inputs."""
        counts = numpy_generator(seed, "profile", "bootstrap").multinomial(
            probes, np.full(probes, 1.0 / probes), size=bootstrap
        )
        order = numpy_generator(seed, "profile", "halves").random((SPLITS, probes)).argsort(1)
        return cls(counts.astype(np.float64), (order < probes // 2).astype(np.float64))


@dataclass(frozen=True)
class Change:
    """What moved at one depth.

    Attributes:
        procrustes: Procrustes distance.
        cka: 1 - linear CKA.
        rsa: 1 - Spearman correlation of the dissimilarity matrices.
        shared_pca_cka: 1 - linear CKA after one PCA of both.
        noise: Median over splits of |distance on one half - distance on the other|.
        replicates: The distance in each bootstrap replicate, (b,); empty where not wanted.
    """

    procrustes: float
    cka: float
    rsa: float
    shared_pca_cka: float
    noise: float
    replicates: np.ndarray


def measure_change(
    before: np.ndarray,
    after: np.ndarray,
    resampling: Resampling,
    *,
    components: int,
    replicate: bool = True,
) -> Change:
    """The change from `before` to `after`, (n, p) each; exactly 0 where they are equal.

    Halves and replicates keep the rotation of all probes (ours): refitting it on fewer distinct
    rows would overfit them, and so be biased towards less change.

    Raises:
        NonFiniteError: An entry is NaN or infinite.
        BadInputError: A state has no variance over the probes.
    """
    draws = resampling.replicates if replicate else resampling.replicates[:0]
    x = represent(before)
    if np.array_equal(before, after):
        return Change(0.0, 0.0, 0.0, 0.0, 0.0, np.zeros(len(draws)))
    y = represent(after)
    aligned = align(x, y)
    first, second = (aligned.weighted(h) for h in (resampling.halves, 1.0 - resampling.halves))
    return Change(
        procrustes=aligned.distance,
        cka=cka_of(x, y),
        rsa=rsa_of(x, y),
        shared_pca_cka=shared_pca_of(x, y, components=components),
        noise=float(np.median(np.abs(first - second))),
        replicates=aligned.weighted(draws),
    )


def measure_changes(
    before: States, after: States, resampling: Resampling, *, components: int
) -> dict[Key, Change]:
    """The change under every key of every readout, each computed once."""
    blocks = before.blocks
    keys = list(dict.fromkeys(key for readout in READOUTS for key in before.keys(readout)))
    ends = {block_at(depth, blocks) for depth in RELATIVE_DEPTHS}
    sampled = {before.keys(readout)[block] for readout in READOUTS for block in ends}

    def one(key: Key) -> Change:
        with _named(key, before.stack):
            return measure_change(
                before.at(key),
                after.at(key),
                resampling,
                components=components,
                replicate=key in sampled,
            )

    return dict(zip(keys, _spread(one, keys), strict=True))


@contextmanager
def _named(key: Key, stack: str) -> Iterator[None]:
    """Errors of one depth, with the depth in their message."""
    try:
        yield
    except (BadInputError, NonFiniteError) as error:
        msg = f"{error.what} at block {key[1]} of {stack} ({key[0]} readout)"
        kind = NonFiniteError if isinstance(error, NonFiniteError) else BadInputError
        raise kind(msg, value=error.value, expected=error.expected, hint=error.hint) from error


def _spread(work: Callable[[Key], T], items: Iterable[Key]) -> list[T]:
    """What `work` gives for each item, on as many threads as torch may use, one core each.

    The matrices are small: one decomposition on two cores takes about as long as on one, two
    decompositions side by side do not.
    """
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads, initializer=partial(torch.set_num_threads, 1)) as pool:
        try:
            return list(pool.map(work, items))
        finally:
            torch.set_num_threads(threads)


def readout_profile(readout: Readout, states: States, found: dict[Key, Change]) -> ReadoutProfile:
    """The profile under one readout, from the change under each key."""
    blocks, keys = states.blocks, states.keys(readout)
    at = [block_at(depth, blocks) for depth in RELATIVE_DEPTHS]
    depths = tuple(
        _depth(depth, block, found[keys[block]])
        for depth, block in zip(RELATIVE_DEPTHS, at, strict=True)
    )
    replicates = np.stack([found[keys[block]].replicates for block in at], axis=1)
    low, high = (float(end) for end in np.nanpercentile(slope(replicates), INTERVAL))
    return ReadoutProfile(
        depths=depths,
        blocks=tuple(
            _depth((block + 1) / blocks, block, found[key]) for block, key in enumerate(keys)
        ),
        slope=_slope([d.procrustes for d in depths]),
        slope_low=low,
        slope_high=high,
        cka_slope=_slope([d.cka for d in depths]),
        rsa_slope=_slope([d.rsa for d in depths]),
        width=_width([d.cka for d in depths]),
        noise_floor=float(np.median([found[keys[block]].noise for block in at])),
    )


def _slope(values: Sequence[float]) -> float:
    return float(slope(np.array(values)))


def _width(cka: Sequence[float]) -> tuple[float, ...]:
    """The profile divided by its sum; empty where nothing moved."""
    total = sum(cka)
    return tuple(value / total for value in cka) if total > 0.0 else ()


def _depth(relative: float, block: int, change: Change) -> DepthChange:
    return DepthChange(
        relative=relative,
        index=block,
        procrustes=change.procrustes,
        cka=change.cka,
        rsa=change.rsa,
        shared_pca_cka=change.shared_pca_cka,
        noise=change.noise,
    )
