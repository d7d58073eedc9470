"""A line a step: loss, learning rate, gradient norms and each layer group's relative step."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from layerwise import distributed

__all__ = ["Entry", "StepLog", "read_log"]

Entry = dict[str, Any]


def read_log(file: Path, *, until: int | None = None) -> list[Entry]:
    """The lines of a ``log.jsonl``, up to and including step `until`; none where it is absent."""
    if not file.exists():
        return []
    entries = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [e for e in entries if until is None or e["step"] <= until]


class StepLog(TrainerCallback):  # type: ignore[misc]  # transformers carries no types
    """Writes down what Trainer logs, with the steps of the layer groups beside it.

    Args:
        norms: Gives each group's gradient norm before the last step.
        file: Where lines go as they come; None keeps them in memory alone.
        entries: Lines of the run so far, when it goes on from a checkpoint.
        on_step: Called with each line.
        every: Steps between lines.
    """

    def __init__(
        self,
        *,
        norms: Callable[[], Mapping[str, float]],
        file: Path | None,
        entries: list[Entry],
        on_step: Callable[[Entry], None],
        every: int,
    ) -> None:
        self.entries = entries
        self._norms, self._file, self._on_step, self._every = norms, file, on_step, every
        self._began = time.perf_counter() - (entries[-1].get("seconds", 0.0) if entries else 0.0)
        self._rate = 0.0
        self._steps: Mapping[str, Any] = {}
        if file is not None and distributed.rank() == 0:
            file.write_text("".join(f"{json.dumps(e)}\n" for e in entries), encoding="utf-8")

    def on_pre_optimizer_step(
        self, _args: Any, state: Any, _control: Any, optimizer: Any = None, **_: Any
    ) -> None:
        """Have the steps measured that will be written down."""
        inner = getattr(optimizer, "optimizer", optimizer)
        self._rate = max(group["lr"] for group in inner.param_groups)
        inner.measuring = (state.global_step + 1) % self._every == 0 or state.global_step == 0

    def on_optimizer_step(
        self, _args: Any, _state: Any, _control: Any, optimizer: Any = None, **_: Any
    ) -> None:
        """Take what was measured."""
        self._steps = getattr(optimizer, "optimizer", optimizer).steps

    def on_log(
        self, _args: Any, state: Any, _control: Any, logs: Mapping[str, float], **_: Any
    ) -> None:
        """Write a line for a step or an evaluation."""
        if "loss" in logs:
            self._write(self._of_step(state.global_step, logs))
        elif "eval_loss" in logs:
            self._write({"step": state.global_step, "eval_loss": logs["eval_loss"]})

    def _of_step(self, step: int, logs: Mapping[str, float]) -> Entry:
        entry = {
            "step": step,
            "loss": logs["loss"],
            "learning_rate": self._rate,
            "grad_norm": logs["grad_norm"],
            "seconds": time.perf_counter() - self._began,
            "grad_norms": dict(self._norms()),
            "step_ratio": {name: s.achieved for name, s in self._steps.items()},
        }
        stored = {n: s.stored for n, s in self._steps.items() if s.stored is not None}
        return entry | ({"stored_ratio": stored} if stored else {})

    def _write(self, entry: Entry) -> None:
        self.entries.append(entry)
        if distributed.rank() != 0:
            return
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(entry) + "\n")
        self._on_step(entry)
