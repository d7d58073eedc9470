"""A model and labelled text in; what linear and MLP probes read at each depth out."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from layerwise.data.text import Example, TextData
from layerwise.errors import BadInputError, DataError
from layerwise.models.load import LoadedModel
from layerwise.objectives.classification import label_names
from layerwise.probing.classifiers import KINDS, Sides, accuracy_of
from layerwise.probing.mean_states import ReadoutSettings, mean_states
from layerwise.probing.record import ClassCount, ProbedDepth, ProbeSettings, Probing
from layerwise.progress import Progress, silent
from layerwise.provenance import collect
from layerwise.seeds import numpy_generator

__all__ = ["make_probing"]

log = logging.getLogger(__name__)


def make_probing(
    loaded: LoadedModel,
    data: TextData,
    *,
    settings: ProbeSettings | None = None,
    readout: ReadoutSettings | None = None,
    progress: Progress = silent,
) -> Probing:
    """Return how well the labels of `data` are read from each depth of `loaded`; no weight moves.

    Args:
        loaded: The model.
        data: Texts with labels.
        settings: How the probes are trained.
        readout: How the texts are shown to the model.
        progress: Hears how far the forward, then the probes, are.

    Raises:
        BadInputError: There are fewer than two classes, or a setting cannot be used.
        DataError: A class has a single example, or there are too few texts.
        NonFiniteError: A hidden state is NaN or infinite; names the block.
    """
    settings, readout = settings or ProbeSettings(), readout or ReadoutSettings()
    _refuse_settings(settings)
    names = label_names(data)
    data, notes = _without_copies(data)
    split = _split(data.examples, names, settings)
    found = mean_states(
        loaded,
        [example.text for example in data.examples],
        source=data.source,
        sha256=data.sha256,
        columns=data.columns,
        readout=readout,
        progress=progress,
    )
    depths = []
    for index, relative, states in progress(found.each(), "training probes", len(found.depths)):
        sides = split.of(torch.from_numpy(states).to(found.device)).standardised()
        read = {k: accuracy_of(k, sides, classes=len(names), settings=settings) for k in KINDS}
        depths.append(ProbedDepth(relative, index, **read))
    for note in notes:
        log.warning("%s: %s", data.source, note)
    return Probing(
        model=found.model,
        data=found.texts,
        stack=found.stack,
        readout=readout.readout,
        settings=settings,
        classes=split.counts(names),
        majority=split.majority(),
        depths=tuple(depths),
        provenance=collect(device=found.device),
        notes=tuple(dict.fromkeys((*data.notes, *notes, *found.notes))),
    )


def _refuse_settings(settings: ProbeSettings) -> None:
    """Raise where a probe cannot be trained so.

    Raises:
        BadInputError: A setting is out of range.
    """
    if not 0.0 < settings.test_share < 1.0:
        msg = "share of examples that are held out"
        raise BadInputError(msg, value=settings.test_share, expected="between 0 and 1")
    for name in ("epochs", "batch_size", "hidden"):
        if getattr(settings, name) < 1:
            msg = f"{name.replace('_', ' ')} of the probes"
            raise BadInputError(msg, value=getattr(settings, name), expected="at least 1")


def _without_copies(data: TextData) -> tuple[TextData, list[str]]:
    """Return `data` with each labelled text once: a copy across the split would be known."""
    kept = tuple(dict.fromkeys(data.examples))
    left_out = len(data.examples) - len(kept)
    notes = [f"{left_out} copies of other examples were left out"] if left_out else []
    return replace(data, examples=kept), notes


@dataclass(frozen=True)
class _Split:
    """Which examples train the probes and which judge them; both sides have every class."""

    classes: np.ndarray
    train: np.ndarray
    test: np.ndarray

    def of(self, states: torch.Tensor) -> Sides:
        """Return both sides of one depth's states, not yet standardised."""
        numbers = torch.from_numpy(self.classes).to(states.device)
        rows = (torch.from_numpy(side).to(states.device) for side in (self.train, self.test))
        train, test = rows
        return Sides(states[train], numbers[train], states[test], numbers[test])

    def counts(self, names: Sequence[str]) -> tuple[ClassCount, ...]:
        """Return how many examples each class has on each side."""
        sides = [
            np.bincount(self.classes[s], minlength=len(names)) for s in (self.train, self.test)
        ]
        return tuple(ClassCount(n, int(a), int(b)) for n, a, b in zip(names, *sides, strict=True))

    def majority(self) -> float:
        """Return how often the commonest class of the training side is right on the other."""
        common = np.bincount(self.classes[self.train]).argmax()
        return float((self.classes[self.test] == common).mean())


def _split(examples: Sequence[Example], names: Sequence[str], settings: ProbeSettings) -> _Split:
    """Return a share of each class held out, at least one example and never all.

    Raises:
        DataError: A class has a single example.
    """
    counted = Counter(example.label for example in examples)
    lone = [name for name in names if counted[name] < 2]
    if lone:
        msg = f"classes with a single example, {len(lone)} of {len(names)}"
        hint = "more --examples, or rows chosen by --where"
        raise DataError(msg, value=lone[0], expected="two examples of each or more", hint=hint)
    numbers = np.array([names.index(str(example.label)) for example in examples])
    sides: tuple[list[int], list[int]] = ([], [])
    for number in range(len(names)):
        generator = numpy_generator(settings.seed, "probe split", number)
        rows = generator.permutation(np.flatnonzero(numbers == number)).tolist()
        held_out = min(max(1, round(settings.test_share * len(rows))), len(rows) - 1)
        sides[0].extend(rows[held_out:])
        sides[1].extend(rows[:held_out])
    train, test = (np.array(sorted(side)) for side in sides)
    return _Split(numbers, train, test)
