"""A line a step, in the file and in memory, that a killed run can go on from."""

import json
from types import SimpleNamespace

import pytest
import torch

from layerwise.tuning.equal_step import EqualStep, StepRatio
from layerwise.tuning.steplog import StepLog, read_log


class Meter:
    """Gives planted steps where they are wanted."""

    def __init__(self):
        self.wanted = []

    def before(self, _optimizer, *, wanted):
        self.wanted.append(wanted)

    def after(self, _optimizer):
        steps = {"a": StepRatio(1e-3, achieved=2e-3, stored=1e-3), "b": StepRatio(None)}
        return steps if self.wanted[-1] else {}


def steplog(file=None, *, entries=(), every=1, heard=None):
    return StepLog(
        norms=lambda: {"a": 1.5},
        meter=Meter(),
        file=file,
        entries=list(entries),
        on_step=(heard if heard is not None else []).append,
        every=every,
    )


def optimizer():
    weight = torch.nn.Parameter(torch.ones(2))
    groups = [{"params": [weight], "lr": 0.25}]
    return EqualStep(torch.optim.AdamW(groups, lr=0.1), {"a": [weight]}, None)


def step(log, number, **logs):
    state = SimpleNamespace(global_step=number - 1)
    log.on_pre_optimizer_step(None, state, None, optimizer=optimizer())
    log.on_optimizer_step(None, state, None, optimizer=optimizer())
    state.global_step = number
    log.on_log(None, state, None, {"loss": 2.0, "grad_norm": 0.5, "learning_rate": 9.0, **logs})


def test_the_keys_of_a_line(tmp_path):
    heard = []
    log = steplog(tmp_path / "log.jsonl", heard=heard)
    step(log, 1)
    (entry,) = log.entries
    assert heard == [entry]
    seconds = entry.pop("seconds")
    assert seconds >= 0
    assert entry == {
        "step": 1,
        "loss": 2.0,
        "learning_rate": 0.25,
        "grad_norm": 0.5,
        "grad_norms": {"a": 1.5},
        "step_ratio": {"a": 2e-3},
        "stored_ratio": {"a": 1e-3},
    }
    assert read_log(tmp_path / "log.jsonl") == [entry | {"seconds": seconds}]


def test_an_evaluation_is_a_line_of_its_own(tmp_path):
    log = steplog(tmp_path / "log.jsonl")
    state = SimpleNamespace(global_step=5)
    log.on_log(None, state, None, {"eval_loss": 1.25, "eval_accuracy": 0.5, "epoch": 0.5})
    log.on_log(None, state, None, {"train_loss": 3.0})
    assert read_log(tmp_path / "log.jsonl") == [
        {"step": 5, "eval_loss": 1.25, "eval_accuracy": 0.5}
    ]


def test_steps_are_measured_where_a_line_is_written():
    log = steplog(every=3)
    for number in range(1, 8):
        step(log, number)
    assert log._meter.wanted == [True, False, True, False, False, True, False]


def test_a_resumed_log_goes_on_where_it_was(tmp_path):
    file = tmp_path / "log.jsonl"
    first = steplog(file)
    for number in (1, 2, 3):
        step(first, number)
        assert len(read_log(file)) == number  # Lines come as steps go.
    kept = read_log(file, until=2)
    kept[-1]["seconds"] = 100.0
    second = steplog(file, entries=kept)
    assert second.seconds_before == 100.0
    step(second, 3)
    entries = read_log(file)
    assert [e["step"] for e in entries] == [1, 2, 3]
    assert entries[-1]["seconds"] >= 100.0


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    file = tmp_path / "log.jsonl"
    file.write_text(json.dumps({"step": 1}) + "\n" + '{"step": 2, "lo')
    assert read_log(file) == [{"step": 1}]
    assert read_log(tmp_path / "absent") == []
    file.write_text("")
    assert read_log(file) == []


def test_a_number_that_json_has_not_is_never_written(tmp_path):
    log = steplog(tmp_path / "log.jsonl")
    with pytest.raises(ValueError, match="Out of range float values"):
        step(log, 1, loss=float("nan"))
    assert read_log(tmp_path / "log.jsonl") == []
