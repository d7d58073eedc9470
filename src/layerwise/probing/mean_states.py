"""The pooled hidden state of each text at each depth, in the one readout that is looked at."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from layerwise.errors import NonFiniteError
from layerwise.models.load import LoadedModel
from layerwise.options.groups import Pooling, Readout
from layerwise.probing.record import TextInfo
from layerwise.profile.states import States, make_probe_set, observe
from layerwise.progress import Progress, silent


@dataclass(frozen=True)
class ReadoutSettings:
    """The way in which texts are shown to the model: the options of these names."""

    readout: Readout = "hf"
    stack: str | None = None
    batch_size: int = 32
    max_length: int = 128
    pooling: Pooling = "mean"


def mean_states(
    loaded: LoadedModel,
    texts: Sequence[str],
    *,
    source: str,
    sha256: str,
    columns: Mapping[str, str],
    readout: ReadoutSettings,
    progress: Progress = silent,
) -> tuple[States, TextInfo]:
    """Return what `loaded`, which is left as it was, makes of `texts`, and what it was shown.

    Raises:
        DataError: There are too few texts, or one has no tokens.
        UnknownNameError: There is no such stack.
        BadInputError: A text is longer than the model's positions reach.
        LayerwiseError: The device ran out of memory.
    """
    states = observe(
        loaded,
        make_probe_set(texts, source=source),
        stack=readout.stack,
        batch_size=readout.batch_size,
        max_length=readout.max_length,
        title="reading the texts",
        pooling=readout.pooling,
        progress=progress,
    )
    tokens = sum(map(len, states.token_ids))
    return states, TextInfo(source, sha256, len(texts), tokens, readout.max_length, columns)


def each_depth(states: States, readout: Readout) -> Iterator[tuple[int, float, np.ndarray]]:
    """Yield each block's index, relative depth and states, (n, p) float32.

    Raises:
        NonFiniteError: A state is NaN or infinite; names the block.
    """
    for index, key in enumerate(states.keys(readout)):
        values = states.at(key).astype(np.float32)
        if not bool(np.isfinite(values).all()):
            msg, value = "hidden state that is not finite", f"block {index} of {states.stack}"
            hint = "--dtype float32"
            raise NonFiniteError(msg, value=value, expected="finite numbers", hint=hint)
        yield index, (index + 1) / states.blocks, values
