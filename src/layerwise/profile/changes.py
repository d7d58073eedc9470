"""The change of each depth between two states, its interval, and the noise of the probes."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import get_args

import numpy as np
import torch

from layerwise.depths import RELATIVE_DEPTHS, block_at, slope
from layerwise.errors import BadInputError, NonFiniteError
from layerwise.intervals import resampled_interval
from layerwise.options.groups import Readout
from layerwise.profile.record import DepthChange, ReadoutProfile
from layerwise.profile.states import States
from layerwise.seeds import numpy_generator
from layerwise.signals import similarity

READOUTS: tuple[Readout, ...] = get_args(Readout)

MEASURES = ("procrustes", "cka", "rsa", "shared_pca_cka", "noise", "held_out", "unrotated")
#: Random splits of the probes into halves that the noise is the median over (ours).
SPLITS = 32

Key = tuple[str, int]


@dataclass(frozen=True)
class Resampling:
    """The weight of each probe in every replicate and in every half.

    Attributes:
        replicates: Draws with replacement, (b, n); the same at every depth, so that a slope can be
            taken within a replicate.
        halves: 1 for the probes of one half, else 0, (s, n); the other half is the rest.
    """

    replicates: np.ndarray
    halves: np.ndarray

    @classmethod
    def draw(cls, probes: int, *, bootstrap: int, seed: int) -> "Resampling":
        """Return the draws that `seed` fixes, for `probes` inputs."""
        counts = numpy_generator(seed, "profile", "bootstrap").multinomial(
            probes, np.full(probes, 1.0 / probes), size=bootstrap
        )
        order = numpy_generator(seed, "profile", "halves").random((SPLITS, probes)).argsort(1)
        return cls(counts.astype(np.float64), (order < probes // 2).astype(np.float64))


@dataclass(frozen=True)
class Change:
    """The change at one depth.

    Attributes:
        values: By the names of `MEASURES`, which are fields of `DepthChange`.
        replicates: The distance in each bootstrap replicate, (b,); empty where not wanted.
    """

    values: dict[str, float]
    replicates: np.ndarray


def measure_change(
    before: np.ndarray,
    after: np.ndarray,
    resampling: Resampling,
    *,
    components: int,
    replicate: bool = True,
) -> Change:
    """Return the change from `before` to `after`, (n, p) each; exactly 0 where they are equal.

    Halves and replicates keep the rotation of all probes (ours): refitting it on fewer distinct
    rows would overfit them, and so be biased towards less change.

    Raises:
        NonFiniteError: An entry is NaN or infinite.
        BadInputError: A state has no variance over the probes.
    """
    draws = resampling.replicates if replicate else resampling.replicates[:0]
    x = similarity.represent(before)
    if np.array_equal(before, after):
        return Change(dict.fromkeys(MEASURES, 0.0), np.zeros(len(draws)))
    y = similarity.represent(after)
    aligned = similarity.align(x, y)
    first, second = (aligned.weighted(h) for h in (resampling.halves, 1.0 - resampling.halves))
    values = {
        "procrustes": aligned.distance,
        "cka": similarity.cka_of(x, y),
        "rsa": similarity.rsa_of(x, y),
        "shared_pca_cka": similarity.shared_pca_of(x, y, components=components),
        "noise": float(np.median(np.abs(first - second))),
        "held_out": similarity.held_out(before, after, resampling.halves[0] > 0.0),
        "unrotated": similarity.unrotated(x, y),
    }
    return Change(values, aligned.weighted(draws))


def measure_changes(
    before: States, after: States, resampling: Resampling, *, components: int
) -> dict[Key, Change]:
    """Return the change under every key of every readout, each computed once, on threads.

    As many as torch may use, one core each. The matrices are small: one decomposition on two cores
    takes about as long as on one, two decompositions side by side do not.
    """
    keys = list(dict.fromkeys(key for readout in READOUTS for key in before.keys(readout)))
    depths = {block_at(depth, before.blocks) for depth in RELATIVE_DEPTHS}
    sampled = {before.keys(readout)[block] for readout in READOUTS for block in depths}

    def measure(key: Key) -> Change:
        states, is_sampled = (before.at(key), after.at(key)), key in sampled
        try:
            return measure_change(*states, resampling, components=components, replicate=is_sampled)
        except (BadInputError, NonFiniteError) as error:
            msg = f"{error.what} at block {key[1]} of {before.stack} ({key[0]} readout)"
            why = type(error)(msg, value=error.value, expected=error.expected, hint=error.hint)
            raise why from error

    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads, initializer=partial(torch.set_num_threads, 1)) as pool:
        try:
            return dict(zip(keys, pool.map(measure, keys), strict=True))
        finally:
            torch.set_num_threads(threads)


def readout_profile(readout: Readout, states: States, changes: dict[Key, Change]) -> ReadoutProfile:
    """Return the profile under one readout, from the change under each key."""
    own = [changes[key] for key in states.keys(readout)]
    at = [block_at(depth, len(own)) for depth in RELATIVE_DEPTHS]
    places = [*zip(RELATIVE_DEPTHS, at, strict=True)]
    places += [((i + 1) / len(own), i) for i in range(len(own))]
    each = tuple(DepthChange(relative, i, **own[i].values) for relative, i in places)
    depths, blocks = each[: len(at)], each[len(at) :]
    replicates = np.stack([own[block].replicates for block in at], axis=1)
    slopes = {n: float(slope(np.array([getattr(d, n) for d in depths]))) for n in MEASURES}
    rise, total, probes = slopes["procrustes"], sum(d.cka for d in depths), len(states.token_ids)
    low, high = resampled_interval(rise, slope(replicates), units=probes)
    return ReadoutProfile(
        depths=depths,
        blocks=blocks,
        slope=rise,
        slope_low=low,
        slope_high=high,
        cka_slope=slopes["cka"],
        rsa_slope=slopes["rsa"],
        width=tuple(depth.cka / total for depth in depths) if total > 0.0 else (),
        noise_floor=float(np.median([depth.noise for depth in depths])),
        held_out_slope=slopes["held_out"],
        unrotated_slope=slopes["unrotated"],
    )
