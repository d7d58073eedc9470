"""The mean hidden state of each text at each depth, in the one readout that is looked at."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from layerwise.card.record import ModelInfo
from layerwise.errors import NonFiniteError
from layerwise.models.load import LoadedModel
from layerwise.probing.record import TextInfo
from layerwise.profile.record import Readout
from layerwise.profile.states import make_probe_set, observe
from layerwise.progress import Progress, silent

__all__ = ["MeanStates", "ReadoutSettings", "mean_states"]


@dataclass(frozen=True)
class ReadoutSettings:
    """How texts are shown to the model.

    Attributes:
        readout: Which tensor stands for a depth.
        stack: The stack to follow; the last that reads text where None.
        batch_size: Texts in a forward; changes time and memory, not what is measured.
        max_length: Tokens that a text is cut at.
    """

    readout: Readout = "hf"
    stack: str | None = None
    batch_size: int = 32
    max_length: int = 128


@dataclass(frozen=True)
class MeanStates:
    """What one model made of some texts.

    Attributes:
        model: The model.
        stack: The stack that was followed.
        depths: For each block, the mean over each text's tokens, (n, p) float32.
        texts: What was shown.
        token_ids: The tokens of each text, as the model read them.
        device: Where the model ran.
        notes: What was assumed on the way.
    """

    model: ModelInfo
    stack: str
    depths: tuple[np.ndarray, ...]
    texts: TextInfo
    token_ids: tuple[tuple[int, ...], ...]
    device: str
    notes: tuple[str, ...] = field(default=())

    def each(self) -> Iterator[tuple[int, float, np.ndarray]]:
        """Yield each block's index, relative depth and states.

        Raises:
            NonFiniteError: A state is NaN or infinite; names the block.
        """
        for index, states in enumerate(self.depths):
            if not bool(np.isfinite(states).all()):
                msg = "hidden state that is not finite"
                value = f"block {index} of {self.stack}"
                raise NonFiniteError(
                    msg, value=value, expected="finite numbers", hint="--dtype float32"
                )
            yield index, (index + 1) / len(self.depths), states


def mean_states(
    loaded: LoadedModel,
    texts: Sequence[str],
    *,
    source: str,
    sha256: str,
    columns: Mapping[str, str],
    readout: ReadoutSettings,
    progress: Progress = silent,
) -> MeanStates:
    """Return the mean state of each of `texts` at every block of `loaded`, which is left as it was.

    Args:
        loaded: The model.
        texts: The texts.
        source: What the user named.
        sha256: Of the texts' content.
        columns: Where the texts and their labels stood.
        readout: How they are shown.
        progress: Hears how far the forward is.

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
        progress=progress,
    )
    tokens = sum(map(len, states.token_ids))
    return MeanStates(
        model=states.model,
        stack=states.stack,
        depths=tuple(states.at(key).astype(np.float32) for key in states.keys(readout.readout)),
        texts=TextInfo(source, sha256, len(texts), tokens, readout.max_length, columns),
        token_ids=states.token_ids,
        device=str(next(loaded.model.parameters()).device),
        notes=states.notes,
    )
