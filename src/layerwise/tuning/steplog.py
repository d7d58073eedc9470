"""A line a step: loss, learning rate, gradient norms and each layer group's relative step."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from layerwise import distributed
from layerwise.errors import SchemaError
from layerwise.files import whole_lines, write_atomic
from layerwise.tuning.equal_step import EqualStep, StepRatio
from layerwise.tuning.meter import StepMeter
from layerwise.tuning.writing import writable

EVALUATED = "eval_"
"""What the names of figures of held-out examples start with."""

Entry = dict[str, Any]


def read_log(file: Path, *, until: int | None = None) -> list[Entry]:
    """Give the lines of a ``log.jsonl``, up to and including step `until`; none where it is absent.

    A last line without its end was being written when the run was killed, and is left out.

    Raises:
        SchemaError: Another line is damaged.
    """
    try:
        entries = [json.loads(line) for line in whole_lines(file)]
    except ValueError as error:
        message = "log with a damaged line"
        raise SchemaError(message, value=file, expected="JSON lines") from error
    return [e for e in entries if until is None or e["step"] <= until]


class StepLog(TrainerCallback):  # type: ignore[misc]  # transformers carries no types
    """Writes down what Trainer logs, with the steps of the layer groups beside it.

    Args:
        norms: Gives each group's gradient norm before the last step.
        meter: Takes the steps.
        file: Where lines go as they come; None keeps them in memory alone.
        entries: Lines of the run so far, when it goes on from a checkpoint.
        on_step: Called with each line.
        every: Steps between lines.
    """

    def __init__(
        self,
        *,
        norms: Callable[[], Mapping[str, float]],
        meter: StepMeter,
        file: Path | None,
        entries: list[Entry],
        on_step: Callable[[Entry], None],
        every: int,
    ) -> None:
        self.entries = entries
        self._norms, self._meter, self._every = norms, meter, every
        self._file, self._on_step = file, on_step
        self.seconds_before = max((e.get("seconds", 0.0) for e in entries), default=0.0)
        self._began = time.perf_counter() - self.seconds_before
        self._rate = 0.0
        self._steps: Mapping[str, StepRatio] = {}
        if file is not None and distributed.rank() == 0:
            write_atomic(file, "".join(_line(e) for e in entries).encode())

    def on_pre_optimizer_step(
        self, _args: Any, state: Any, _control: Any, optimizer: Any = None, **_: Any
    ) -> None:
        """Have the steps measured that will be written down."""
        inner = _unwrapped(optimizer)
        self._rate = max(group["lr"] for group in inner.param_groups)
        wanted = (state.global_step + 1) % self._every == 0 or state.global_step == 0
        self._meter.before(inner, wanted=wanted)

    def on_optimizer_step(
        self, _args: Any, _state: Any, _control: Any, optimizer: Any = None, **_: Any
    ) -> None:
        """Take what was measured."""
        self._steps = self._meter.after(_unwrapped(optimizer))

    def on_log(
        self, _args: Any, state: Any, _control: Any, logs: Mapping[str, float], **_: Any
    ) -> None:
        """Write a line for a step or an evaluation."""
        if "loss" in logs:
            self._write(self._of_step(state.global_step, logs))
        elif "eval_loss" in logs:
            found = {name: value for name, value in logs.items() if name.startswith(EVALUATED)}
            self._write({"step": state.global_step, **found})

    def _of_step(self, step: int, logs: Mapping[str, float]) -> Entry:
        entry = {
            "step": step,
            "loss": logs["loss"],
            "learning_rate": self._rate,
            "grad_norm": logs["grad_norm"],
            "seconds": time.perf_counter() - self._began,
            "grad_norms": dict(self._norms()),
            "step_ratio": _known(self._steps, "achieved"),
        }
        stored = _known(self._steps, "stored")
        return entry | ({"stored_ratio": stored} if stored else {})

    def _write(self, entry: Entry) -> None:
        self.entries.append(entry)
        if distributed.rank() != 0:
            return
        if self._file is not None:
            with writable("the log", self._file), self._file.open("a", encoding="utf-8") as stream:
                stream.write(_line(entry))
        self._on_step(entry)


def _unwrapped(optimizer: Any) -> EqualStep:
    """Return the optimizer within Accelerate's wrapper."""
    inner: EqualStep = optimizer if isinstance(optimizer, EqualStep) else optimizer.optimizer
    return inner


def _known(steps: Mapping[str, StepRatio], which: str) -> dict[str, float]:
    values = {name: getattr(step, which) for name, step in steps.items()}
    return {name: value for name, value in values.items() if value is not None}


def _line(entry: Entry) -> str:
    return json.dumps(entry, allow_nan=False) + "\n"
