"""A model and labelled text in; what linear and MLP probes read at each depth out."""

import logging
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from layerwise.data.text import Example, TextData
from layerwise.errors import BadInputError, DataError
from layerwise.models.load import LoadedModel
from layerwise.objectives.classification import label_names
from layerwise.probing.classifiers import KINDS, Sides, accuracy_of, best_depth
from layerwise.probing.mean_states import ReadoutSettings, each_depth, mean_states
from layerwise.probing.record import ClassCount, ProbedDepth, ProbeSettings, Probing
from layerwise.progress import Progress, silent
from layerwise.provenance import collect
from layerwise.seeds import numpy_generator

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

    Raises:
        BadInputError: There are fewer than two classes.
        DataError: A class has a single example, or there are too few texts.
        NonFiniteError: A hidden state is NaN or infinite; names the block.
    """
    settings, readout = settings or ProbeSettings(), readout or ReadoutSettings()
    if data.has_scores:
        msg = "labels that are scores, or hold together: a probe tells classes apart"
        raise BadInputError(msg, value=data.columns.get("label"), expected="one class of each text")
    shown_labels = {example.label for example in data.examples}
    names = tuple(name for name in label_names(data) if name in shown_labels)
    examples = tuple(dict.fromkeys(data.examples))  # A copy across the split would be known.
    copies = len(data.examples) - len(examples)
    notes = [f"{copies} copies of other examples were left out"] if copies else []
    classes, train, test = _split(examples, names, settings, more=data.more(2 * len(data)))
    states, shown = mean_states(
        loaded,
        [example.text for example in examples],
        source=data.source,
        sha256=data.sha256,
        columns=data.columns,
        readout=readout,
        progress=progress,
    )
    depths, right = list[ProbedDepth](), list[list[np.ndarray]]()
    each = each_depth(states, readout.readout)
    for index, relative, values in progress(each, "training probes", states.blocks):
        features = torch.from_numpy(values).to(loaded.device)
        numbers = torch.from_numpy(classes).to(loaded.device)
        halves = [(features[side], numbers[side]) for side in (train, test)]
        sides = Sides(*halves[0], *halves[1]).standardised()
        read = {k: accuracy_of(k, sides, classes=len(names), settings=settings) for k in KINDS}
        depths.append(ProbedDepth(relative, index, **{k: found[0] for k, found in read.items()}))
        right.append([found[1] for found in read.values()])
    for note in notes:
        log.warning("%s: %s", data.source, note)
    by_kind = zip(KINDS, np.array(right).swapaxes(0, 1), strict=True)
    counts = [np.bincount(classes[side], minlength=len(names)) for side in (train, test)]
    return Probing(
        model=states.model,
        data=shown,
        stack=states.stack,
        readout=readout.readout,
        pooling=None if readout.pooling == "mean" else readout.pooling,
        settings=settings,
        classes=tuple(
            ClassCount(n, int(a), int(b)) for n, a, b in zip(names, *counts, strict=True)
        ),
        majority=float((classes[test] == counts[0].argmax()).mean()),
        depths=tuple(depths),
        best={k: best_depth(rows, seed=settings.seed) for k, rows in by_kind},
        provenance=collect(device=str(loaded.device)),
        notes=tuple(dict.fromkeys((*data.notes, *notes, *states.notes))),
    )


def _split(
    examples: Sequence[Example], names: Sequence[str], settings: ProbeSettings, *, more: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each example's class by number, then which examples train and which judge.

    Held out is a share of each class, at least one example and never all.
    """
    counted = Counter(example.label for example in examples)
    lone = [name for name in names if counted[name] < 2]
    if lone:
        msg = f"classes with a single example, {len(lone)} of {len(names)}"
        hint = f"{more}, or rows chosen by --where"
        raise DataError(msg, value=lone[0], expected="two examples of each or more", hint=hint)
    numbers = np.array([names.index(str(example.label)) for example in examples])
    train, test = list[int](), list[int]()
    for number in range(len(names)):
        generator = numpy_generator(settings.seed, "probe split", number)
        rows = generator.permutation(np.flatnonzero(numbers == number)).tolist()
        held_out = min(max(1, round(settings.test_share * len(rows))), len(rows) - 1)
        train += rows[held_out:]
        test += rows[:held_out]
    return numbers, np.array(sorted(train)), np.array(sorted(test))
