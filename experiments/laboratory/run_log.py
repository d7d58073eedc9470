"""Trained sets of blocks as lines of a file that grows: one JSON object a run, never a part of one.

A run is known by its pair of model and text, its set, its seed and its learning rate. What is in
the file is not run again, so that a study killed at any moment goes on where it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from layerwise.files import append_line
from layerwise.measure.trial import Trial
from layerwise.records import read_lines, to_plain

SCHEMA = "layerwise/set-run/1"

RunKey = tuple[str, str, tuple[int, ...], int, float]


@dataclass(frozen=True)
class SetRun:
    """Adapters on one set of blocks, trained once.

    Attributes:
        pair: The name of the model and text.
        kind: How the set was chosen: ``random``, ``single``, ``contiguous``.
        rows: The blocks, as rows of the pair's card.
        seed: Of the batches, dropout and the adapters' start; the same for the sets compared.
        rank: Of the adapters.
        batch_size: Examples a step.
        max_length: Tokens that an example was cut at.
        trial: What came of it.
        device: What it ran on.
        created: When, in UTC.
    """

    pair: str
    kind: str
    rows: tuple[int, ...]
    seed: int
    rank: int
    batch_size: int
    max_length: int
    trial: Trial
    device: str
    created: str

    @property
    def key(self) -> RunKey:
        """What tells it from other runs."""
        return self.pair, self.kind, self.rows, self.seed, self.trial.learning_rate


def append_run(path: Path, run: SetRun) -> None:
    """Add `run` to the end of `path` as one line, on disk when this returns.

    Several processes may add to one file. What a killed one left unfinished is cut off first.

    Raises:
        OutputError: The file cannot be written.
    """
    append_line(path, {"schema": SCHEMA, **to_plain(run)})


def read_runs(path: Path) -> tuple[SetRun, ...]:
    """Return the runs in `path` in the order in which they ended; none where there is no file.

    An unfinished last line, of a process that was killed, is left out.

    Raises:
        SchemaError: A line holds no run, or one of another schema; names the line.
    """
    return read_lines(path, SetRun, schema=SCHEMA, what="run")


def by_pair(runs: Sequence[SetRun]) -> dict[str, list[SetRun]]:
    """Return `runs` by the name of their pair, in the order in which pairs come up."""
    found: dict[str, list[SetRun]] = {}
    for run in runs:
        found.setdefault(run.pair, []).append(run)
    return found
