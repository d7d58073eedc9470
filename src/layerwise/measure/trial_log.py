"""Trials that are kept as they end: a measurement that was cut short goes on where it was."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from layerwise.card.describe import model_info
from layerwise.data.text import TextData
from layerwise.errors import NonFiniteError
from layerwise.files import append_line, canonical_json
from layerwise.measure.trial import Bench, Trial, trial
from layerwise.placement.record import Placement
from layerwise.records import read_lines, to_plain

SCHEMA = "layerwise/attempt/1"


@dataclass(frozen=True)
class TrialEntry:
    """A trial that was made, or came to nothing.

    Attributes:
        key: A hash of all that it was made from.
        trial: What came of it; None where it diverged.
        fault: Why it came to nothing; None where it did not.
    """

    key: str
    trial: Trial | None = None
    fault: str | None = None

    @property
    def made(self) -> Trial | str:
        """The trial, or why there is none."""
        return self.fault or "" if self.trial is None else self.trial


class TrialLog:
    """Trials by all that they are made from; those that `path` holds are not made again.

    Attributes:
        taken: Keys of the trials that were taken from the file as it was in the beginning.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Read what `path` holds; without one, nothing is kept.

        Raises:
            SchemaError: A line holds no attempt; names the line.
        """
        self._path = path
        read = read_lines(path, TrialEntry, schema=SCHEMA, what="trial") if path else ()
        self._known = {entry.key: entry for entry in read}
        self.taken = set[str]()

    def attempt(
        self, bench: Bench, placement: Placement, *, seed: int, learning_rate: float
    ) -> Trial | str:
        """Return the trial, or why it came to nothing.

        Raises:
            VerificationError: PEFT would adapt other modules than the placement's.
            OutputError: It cannot be kept.
        """
        key = _key(bench, placement, seed=seed, learning_rate=learning_rate)
        if key in self._known:
            self.taken.add(key)
            return self._known[key].made
        try:
            made = trial(bench, placement, seed=seed, learning_rate=learning_rate)
            entry = TrialEntry(key, made)
        except NonFiniteError as error:
            entry = TrialEntry(key, fault=error.message)
        if self._path is not None:
            append_line(self._path, {"schema": SCHEMA, **to_plain(entry)})
        return entry.made


def _key(bench: Bench, placement: Placement, *, seed: int, learning_rate: float) -> str:
    """Return a hash of all that a trial is made from.

    What the untouched model scores stands for the weights of a model in hand, which no file has.
    """
    made_from = {
        "model": to_plain(model_info(bench.loaded)),
        "dtype": str(bench.loaded.model.dtype),
        "texts": [_digest(bench.train), _digest(bench.validation)],
        "objective": bench.objective.name,
        "settings": to_plain(bench.settings),
        "quality": bench.quality.name if bench.quality else "loss",
        "before": [bench.loss_before, bench.quality_before],
        "adapters": {name: placement.rank_of(name) for name in placement.modules},
        "scale": placement.alpha / placement.rank,
        "seed": seed,
        "learning_rate": learning_rate,
    }
    return hashlib.sha256(canonical_json(made_from)).hexdigest()


def _digest(data: TextData) -> str:
    content = [example.content() for example in data.examples]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
