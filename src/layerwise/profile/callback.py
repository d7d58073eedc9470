"""The depth profile along training, for transformers' Trainer and what is built on it."""

import inspect
import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from transformers import TrainerCallback
from transformers.trainer_callback import CallbackHandler

from layerwise import distributed
from layerwise.data.text import TextData
from layerwise.errors import BadInputError, LayerwiseError, ModelError
from layerwise.files import write_atomic
from layerwise.models.head_kind import model_kind
from layerwise.models.load import LoadedModel
from layerwise.models.parts import is_compiled, refuse_sharded, unwrapped
from layerwise.models.quantisation import keep_arranged
from layerwise.models.stack import find_stacks
from layerwise.options.commands import BOOTSTRAP
from layerwise.profile.probe_reading import ProbeReading, make_reading
from layerwise.profile.record import Profile
from layerwise.profile.states import MAX_LENGTH, States
from layerwise.profile.step_signals import SignalSums, StepListener, StepSignals, sum_over_processes
from layerwise.provenance import Provenance, collect
from layerwise.records import to_plain
from layerwise.tuning.steplog import read_log

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepProfile:
    """The profile after `step` optimizer steps, against the model as training began.

    Attributes:
        step: The optimizer steps.
        profile: The change at each depth.
        signals: Of the steps since the record before; None where they were not asked for.
    """

    step: int
    profile: Profile
    signals: StepSignals | None = None


class DepthCallback(TrainerCallback):  # type: ignore[misc]  # transformers carries no types
    """A record of how far each depth has moved since training began, every so many steps.

    The model is shown the probes when training begins, and again at each record; under LoRA it
    begins as its base. Between records nothing is done, and a record leaves nothing behind: the
    weights at the end are, bit for bit, those of training without it. Under several processes each
    computes, with the others where the weights are spread over them (FSDP2), and the first writes.

    Each record is logged as Trainer logs its own figures, so it is wherever the Trainer reports to
    (Weights & Biases, TensorBoard, MLflow, ...): ``depth_slope`` with ``depth_slope_low`` and
    ``_high``, ``depth_noise_floor``, and at each of the seven depths, by its block's number,
    ``depth_procrustes_N`` and the step signals. A trainer's own ``log`` is passed by, since many
    empty their running means in it.

    A record that fails in the middle of training (out of memory, a state that is not finite) is
    logged, noted in `notes` and left out; training goes on.

    With `signals`, the training steps themselves are listened to: each block's attention entropy
    and the norm of its output's gradient, averaged over steps. Hooks read them as they pass by, and
    are gone when training ends (where it fails, when the next one begins).

    Args:
        tokenizer: The model's tokenizer or processor; the Trainer's ``processing_class`` where
            None.
        probes: Texts that the model is shown, or where they are; the package's own where None.
        every: Optimizer steps between records. The first and the last step are always recorded.
        readout: Which tensor stands for a depth: ``hf``, ``residual`` or ``normed``.
        file: Where records go as they come, a JSON line each; memory alone where None. Where the
            training saves checkpoints, the states at its start lie beside it: one that is resumed
            then goes on counting from there.
        signals: Whether training steps are listened to.
        log: Whether records go into the Trainer's log history and to its trackers.
        stack: The stack to follow; the last that reads text where None.
        batch_size: Probes in a forward.
        max_length: Tokens of a probe that are kept.
        bootstrap: Replicates over probes behind the slope's interval.
        seed: Fixes the bootstrap.

    Raises:
        BadInputError: `every` is not positive.
        UnknownNameError: There is no such readout.
        DataError: There are too few probes.

    Attributes:
        history: The records so far.
        notes: Records that are missing, and why.
    """

    def __init__(  # noqa: PLR0913  # one keyword for each thing that a user may choose
        self,
        tokenizer: Any = None,
        *,
        probes: str | TextData | Sequence[str] | None = None,
        every: int = 50,
        readout: str = "hf",
        file: Path | str | None = None,
        signals: bool = False,
        log: bool = True,
        stack: str | None = None,
        batch_size: int = 32,
        max_length: int = MAX_LENGTH,
        bootstrap: int = BOOTSTRAP,
        seed: int = 0,
    ) -> None:
        if every < 1:
            msg = "steps between records"
            raise BadInputError(msg, value=every, expected="at least 1", hint="every=50")
        self._reading: ProbeReading = make_reading(
            probes=probes,
            readout=readout,
            stack=stack,
            batch_size=batch_size,
            max_length=max_length,
            bootstrap=bootstrap,
            seed=seed,
        )
        self._tokenizer, self._every, self._log = tokenizer, every, log
        self._file = None if file is None else Path(file)
        self._wants_signals, self._seed = signals, seed
        self._listener: StepListener | None = None
        self._signals: StepSignals | None = None
        self._blocks: tuple[str, ...] | None = None
        self._recent, self._sums = list[SignalSums](), SignalSums()
        self._before: States | None = None
        self._loaded: LoadedModel | None = None
        self._provenance: Provenance | None = None
        self._handler: CallbackHandler | None = None
        self._unlogged: dict[str, float] | None = None
        self._tried = -1
        self.history: list[StepProfile] = []
        self.notes: list[str] = []

    @property
    def profile(self) -> Profile | None:
        """Return the last record's profile; None before there is one."""
        return self.history[-1].profile if self.history else None

    @property
    def signals(self) -> StepSignals | None:
        """Return the mean signals of the steps until the last record; None if not asked for."""
        return None if self._blocks is None else self._sums.signals(self._blocks)

    def frame(self) -> pd.DataFrame:
        """Return every block of every record: step, readout, index, relative and the changes."""
        frames = [record.profile.frame().assign(step=record.step) for record in self.history]
        if not frames:
            return pd.DataFrame({"step": [], "readout": [], "index": [], "relative": []})
        whole = pd.concat(frames, ignore_index=True)
        return whole[["step", *(name for name in whole.columns if name != "step")]]

    def on_train_begin(
        self,
        args: Any,
        state: Any,
        _control: Any,
        model: Any = None,
        processing_class: Any = None,
        **_: Any,
    ) -> None:
        """Read the probes before the first step.

        Raises:
            ModelError: There is no tokenizer, or the weights are sharded over processes.
            StackError: No stack of blocks was found.
            BadInputError: The probes cannot be used with this model.
        """
        self.history, self.notes, self._signals, self._tried = [], [], None, -1
        self._handler = _calling_handler(self)
        self._loaded = _loaded(model, self._tokenizer or processing_class)
        now = self._reading.states(self._loaded)
        self._before = self._start(args, state, now)
        self._provenance = collect(device=str(args.device))
        self._append(now, state)
        compiles = getattr(args, "torch_compile", False) or is_compiled(model)
        self._listen(args, compiles=compiles)

    def _start(self, args: Any, state: Any, now: States) -> States:
        """Return the states that changes count from: of a resumed training, those that it began at.

        They lie beside the file of records, which goes on where the training does.
        """
        step, name = state.global_step, f"{self._reading.probes.sha256} {{}}".format
        kept = None if self._file is None else self._file.with_suffix(".start.safetensors")
        known, start = dict[str, np.ndarray](), now
        if step and kept is not None and kept.is_file():
            with suppress(SafetensorError):
                known = load_file(kept)
            pooled = {k: known[name(k)] for k in now.pooled if name(k) in known}
            if [x.shape for x in pooled.values()] == [x.shape for x in now.pooled.values()]:
                start = replace(now, pooled=pooled)
        if step and start is now:
            self._note(f"training was resumed: changes count from step {step}, not from 0")
        if self._file is None or kept is None or distributed.rank():
            return start
        if not step and args.save_strategy != "no":
            write_atomic(kept, save({name(key): value for key, value in now.pooled.items()}))
        # The line of this step is written once more, unless it now counts from here.
        before = read_log(self._file, until=step - (start is not now)) if step else []
        write_atomic(self._file, "".join(json.dumps(line) + "\n" for line in before).encode())
        return start

    def _listen(self, args: Any, *, compiles: bool) -> None:
        """Begin to listen to training's own forwards, unless blocks are compiled."""
        self._recent, self._sums = [], SignalSums()
        if self._listener is not None:  # Of a training that failed.
            self._listener.detach()
        if not self._wants_signals or self._loaded is None:
            return
        if compiles:
            self._note("no signals of the steps: compiled blocks do not tell what passes by")
            return
        self._listener = StepListener(self._loaded, seed=self._seed)
        self._blocks = self._listener.names
        self._listener.attach()
        if not self._listener.reads_attention:
            how = self._listener.implementation
            self._note(f"no attention entropy: attention runs in {how}; load the model in sdpa")
        if getattr(args, "fp16", False):
            self._note("gradient norms are those of the loss as float16 training scales it")

    def _sum_steps(self) -> None:
        """Sum up the steps since the last record, over all processes."""
        self._signals = None
        if self._listener is not None:
            recent = sum_over_processes(self._recent)
            self._recent, self._sums = [], self._sums.merge(recent)
            self._signals = recent.signals(self._listener.names)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Log the record of the start, now that every tracker has begun."""
        self._tell(args, state, control)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Record the last step, where training is stopped early, while trackers listen."""
        if control.should_training_stop and self._is_behind(state):
            self._record(args, state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Record, where this step's turn has come."""
        if self._listener is not None:
            self._recent.append(self._listener.take())
        if state.global_step % self._every == 0 or state.global_step >= state.max_steps:
            self._record(args, state, control)

    def on_train_end(self, args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Record the last step, where training was stopped early, and let go of the model."""
        self._handler = None  # Trackers have ended.
        if self._is_behind(state):
            if args.load_best_model_at_end:
                self._note(f"step {state.global_step} is missing: its weights were replaced")
            else:
                self._record(args, state, None)
        if self._listener is not None:
            if self._recent:
                self._sum_steps()
            self._listener.detach()
        self._loaded = self._before = self._listener = None

    def _record(self, args: Any, state: Any, control: Any) -> None:
        """Record what moved until now, where that can be had, and log it."""
        if self._loaded is None:
            return
        self._tried = state.global_step
        self._sum_steps()
        try:
            self._append(self._reading.states(self._loaded), state)
        except LayerwiseError as error:
            self._note(f"step {state.global_step} is missing: {error}")
        self._tell(args, state, control)

    def _append(self, after: States, state: Any) -> None:
        """Add what moved until now to the history, the file and the Trainer's log."""
        if self._before is None or self._provenance is None:
            return
        profile = self._reading.profile(self._before, after, provenance=self._provenance)
        self.history.append(StepProfile(state.global_step, profile, self._signals))
        self._unlogged = _figures(self.history[-1]) if self._log else None
        if self._file is not None and distributed.rank() == 0:
            with self._file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(_line(self.history[-1])) + "\n")

    def _is_behind(self, state: Any) -> bool:
        seen = {self._tried, *(record.step for record in self.history[-1:])}
        return state.global_step not in seen

    def _tell(self, args: Any, state: Any, control: Any) -> None:
        """Log the record that was not, as `Trainer.log` does."""
        entry, self._unlogged = self._unlogged, None
        if entry is None:
            return
        entry = entry if state.epoch is None else {**entry, "epoch": state.epoch}
        state.log_history.append({**entry, "step": state.global_step})
        if self._handler is not None:
            asked = control.should_log  # It is taken for the log that was asked for.
            self._handler.on_log(args, state, control, entry)
            control.should_log = asked

    def _note(self, text: str) -> None:
        log.warning("depth profile: %s", text)
        self.notes.append(text)


def _loaded(model: Any, tokenizer: Any) -> LoadedModel:
    """Return the model of a Trainer as the rest of this package knows it; nothing is copied."""
    if tokenizer is None:
        msg = "no tokenizer for the probes"
        raise ModelError(msg, expected="the model's", hint="DepthCallback(tokenizer)")
    refuse_sharded(model)
    plain: Any = unwrapped(model)
    source = getattr(getattr(plain, "config", None), "_name_or_path", "")
    return LoadedModel(
        model=plain,
        tokenizer=getattr(tokenizer, "tokenizer", tokenizer),
        source=source or type(plain).__name__,
        kind=model_kind(plain),
        stacks=find_stacks(plain),
        notes=keep_arranged(plain),
    )


def _calling_handler(callback: TrainerCallback) -> CallbackHandler | None:
    """Return the handler of callbacks that calls `callback` now; None where no Trainer does.

    A Trainer gives its callbacks no way to its log. Its handler is among those who call, however
    the callback was named to it.
    """
    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, CallbackHandler) and callback in caller.callbacks:
            return caller
        frame = frame.f_back
    return None


def _figures(record: StepProfile) -> dict[str, float]:
    """Return what is logged of a record: plain numbers, by name."""
    profile, signals = record.profile, record.signals
    names = ("slope", "slope_low", "slope_high", "noise_floor")
    found: dict[str, float] = {f"depth_{name}": getattr(profile, name) for name in names}
    for depth in profile.depths:
        found[f"depth_procrustes_{depth.index}"] = depth.procrustes
        name = f"{profile.stack}.{depth.index}"
        if signals is not None and name in signals.blocks:
            row = signals.blocks.index(name)
            for key in ("attention_entropy", "activation_gradient"):
                value = getattr(signals, key)[row]
                if value is not None:
                    found[f"depth_{key}_{depth.index}"] = value
    return found


def _line(record: StepProfile) -> dict[str, Any]:
    """Return a record as it goes to the file: the readout asked for, at the seven depths."""
    names = ("readout", "slope", "slope_low", "slope_high", "cka_slope", "rsa_slope", "noise_floor")
    line: dict[str, Any] = {"step": record.step}
    line |= {name: getattr(record.profile, name) for name in names}
    line["depths"] = to_plain(record.profile.depths)
    return line if record.signals is None else {**line, "signals": to_plain(record.signals)}
