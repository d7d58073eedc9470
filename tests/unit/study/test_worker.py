"""How a run ends: with a result, with a failure by its kind, or with neither."""

import json
import os
import re
import signal
from dataclasses import replace

import pytest
import torch

from layerwise.errors import LayerwiseError, OutputError
from layerwise.objectives import OBJECTIVES
from layerwise.study.worker import execute

pytestmark = pytest.mark.slow  # Short runs, many of them.

CAUSAL = OBJECTIVES["causal-lm"]


@pytest.fixture
def executed(opened):
    """The ledger of a study of one run that was executed, and the run."""

    def make(**keys):
        ledger, (cell,) = opened(**keys)
        execute(ledger.root, cell.id)
        return ledger, cell

    return make


@pytest.fixture
def objective():
    """Registers, for a test, causal LM with something done before each forward's losses."""
    added = []

    def add(before, **changes):
        def losses(model, batch):
            before(batch)
            return CAUSAL.losses(model, batch)

        name = f"causal-lm-{len(added)}"
        added.append(name)
        OBJECTIVES.add(replace(CAUSAL, name=name, losses=losses, **changes))
        return name

    yield add
    for name in added:
        OBJECTIVES.remove(name)


def raising(error):
    def before(_batch):
        raise error

    return before


def no_room(texts):
    """Memory for batches of so many texts, and no more; what torch itself raises on a CPU."""

    def before(batch):
        if len(batch) > texts:
            torch.empty(2**55)

    return before


def no_room_on_the_device(texts):
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
    return lambda batch: raising(error)(batch) if len(batch) > texts else None


def stopping(steps):
    """Counts batches in `steps`, and lets the process be stopped in the third."""

    def before(_batch):
        steps.append(1)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    return before


def test_a_run_ends_once_with_its_numbers_and_the_hashes_of_its_files(executed):
    ledger, cell = executed()
    record = ledger.result(cell.id)
    assert set(record["files"]) == {"spec.json", "tune.json", "profile.json", "log.jsonl"}
    assert record["result"]["training"]["steps"] == 3
    assert record["seconds"] > 0
    assert ledger.state(cell.id) == "done"
    before = (ledger.folder(cell.id) / "result.json").stat()
    execute(ledger.root, cell.id)
    assert (ledger.folder(cell.id) / "result.json").stat() == before


def test_a_run_that_another_holds_is_left_alone(opened):
    ledger, (cell,) = opened()
    with ledger.begin(cell.id).kept():
        execute(ledger.root, cell.id)
        assert ledger.state(cell.id) == "running"
    assert not (ledger.folder(cell.id) / "result.json").exists()


@pytest.mark.parametrize("no_memory", [no_room, no_room_on_the_device])
@pytest.mark.parametrize(("fits", "halvings"), [(4, 1), (1, 3)])
def test_a_run_out_of_memory_goes_on_with_a_smaller_batch(
    executed, objective, no_memory, fits, halvings
):
    ledger, cell = executed(objectives=[objective(no_memory(fits))], defaults={"batch_size": 8})
    training = ledger.result(cell.id)["result"]["training"]
    assert training["halvings"] == halvings
    assert (training["batch_size"], training["accumulation"]) == (8 // 2**halvings, 2**halvings)
    tune, kept = (
        json.loads((ledger.folder(cell.id) / name).read_text())
        for name in ("tune.json", "halvings.json")
    )
    assert any(note.startswith("memory ran out with 1 x 8") for note in tune["notes"])
    assert kept == {"halvings": halvings}


def test_memory_that_runs_out_later_makes_the_run_begin_anew(executed, objective):
    """Checkpoints of the larger micro-batch are of another run; none is gone on from."""
    seen = []

    def before(batch):
        seen.append(len(batch))
        if len(batch) == 4 and len(seen) == 3:
            no_room_on_the_device(0)(batch)

    ledger, cell = executed(objectives=[objective(before)], defaults={"save_every": 1})
    assert seen == [4, 4, 4, 2, 2, 2, 2, 2, 2]
    assert ledger.result(cell.id)["result"]["training"]["halvings"] == 1


@pytest.mark.parametrize(
    ("fits", "size", "coupled", "said"),
    [
        (0, 16, False, "^out of memory, with the micro-batch halved 3 times too"),
        (2, 6, False, "cannot be divided: '6 by 4'"),
        (1, 4, True, "causal-lm-0 compares the texts of a batch.*gradient_checkpointing: true"),
    ],
)
def test_halving_has_an_end(executed, objective, fits, size, coupled, said):
    name = objective(no_room(fits), coupled=coupled)
    ledger, cell = executed(objectives=[name], defaults={"batch_size": size})
    failure = ledger.failure(cell.id)
    assert failure.kind == "oom"
    assert re.search(said, failure.message)
    assert not (ledger.folder(cell.id) / "halvings.json").exists()


@pytest.mark.parametrize(
    ("keys", "kind", "said", "where"),
    [
        ({"data": "missing.txt"}, "bad-input", "missing.txt", "reading"),
        ({"batchsize": 4}, "bad-input", "did you mean 'batch_size'", "reading"),
        ({"learning_rate": 1e30}, "diverged", "non-finite gradient in step 2", "training"),
        ({"top": 1}, "bad-input", "top has no meaning under condition standard", "training"),
    ],
)
def test_failures_by_kind(executed, keys, kind, said, where):
    ledger, cell = executed(defaults=keys)
    failure = ledger.failure(cell.id)
    assert (failure.kind, failure.where) == (kind, where)
    assert said in failure.message
    assert ledger.state(cell.id) == "failed"


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ZeroDivisionError("by\nzero"), "error", "ZeroDivisionError: by zero"),
        (KeyError(), "error", "KeyError"),
        (LayerwiseError("a fault"), "error", "a fault"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
        (OutputError("cannot write (No space)"), "interrupted", "cannot write (No space)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_errors_by_kind(executed, objective, error, kind, message):
    ledger, cell = executed(objectives=[objective(raising(error))])
    failure = ledger.failure(cell.id)
    assert (failure.kind, failure.message, failure.where) == (kind, message, "training")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("turned_into", [None, RuntimeError, "nothing"])
def test_a_signal_is_an_interruption_whatever_libraries_make_of_it(
    executed, objective, number, turned_into
):
    def before(_batch):
        try:
            os.kill(os.getpid(), number)
        except SystemExit:
            if turned_into == "nothing":
                return
            raise (turned_into or SystemExit) from None

    handler = signal.getsignal(number)
    ledger, cell = executed(objectives=[objective(before)])
    assert ledger.failure(cell.id).kind == "interrupted"
    assert signal.getsignal(number) == handler


@pytest.mark.parametrize("damage", [None, "log", "checkpoint"])
def test_an_interrupted_run_goes_on_where_it_was_unless_that_is_damaged(
    executed, objective, damage
):
    steps = []
    name = objective(stopping(steps))
    ledger, cell = executed(objectives=[name], defaults={"save_every": 1})
    assert ledger.failure(cell.id).kind == "interrupted"
    folder = ledger.folder(cell.id)
    if damage == "log":
        (folder / "log.jsonl").unlink()
    if damage == "checkpoint":
        next(folder.glob("checkpoints/*/model.safetensors")).write_bytes(b"damaged")
    execute(ledger.root, cell.id)
    assert len(steps) == (6 if damage else 4)
    assert ledger.state(cell.id) == "done"
    assert not (folder / "failure.json").exists()


@pytest.mark.parametrize("change", [{"seed": 1}, {"settings": {"steps": 1}}, {"model": "other"}])
def test_a_spec_that_was_changed_is_refused(opened, change):
    ledger, (cell,) = opened()
    file = ledger.folder(cell.id) / "spec.json"
    spec = json.loads(file.read_text())
    changed = {k: {**spec[k], **v} if isinstance(v, dict) else v for k, v in change.items()}
    file.write_text(json.dumps(spec | changed))
    execute(ledger.root, cell.id)
    failure = ledger.failure(cell.id)
    assert failure.kind == "bad-input"
    assert failure.message.startswith("spec that is not its run's")


def test_a_run_that_was_taken_over_writes_nothing_more(opened, objective):
    name = objective(lambda _: (folder / "lease.2.json").write_text("{}"))
    ledger, (cell,) = opened(objectives=[name])
    folder = ledger.folder(cell.id)
    execute(ledger.root, cell.id)
    left = {path.name for path in folder.iterdir()}
    assert not left & {"result.json", "failure.json", "tune.json"}
    assert ledger.state(cell.id) == "running"
