"""How a run ends: with a result, with a failure by its kind, or with neither."""

import json
import os
import signal
from dataclasses import replace

import pytest
import torch

from layerwise.errors import LayerwiseError, OutputError
from layerwise.objectives import OBJECTIVES
from layerwise.study.worker import execute

pytestmark = pytest.mark.slow  # Short runs, many of them.

CAUSAL = OBJECTIVES["causal-lm"]


@pytest.fixture(scope="module")
def files(study_kit, tmp_path_factory):
    return study_kit.files(tmp_path_factory.mktemp("files"), "llama")


@pytest.fixture
def opened(study_kit, files, tmp_path):
    def make(**keys):
        ledger, (cell,) = study_kit.opened(tmp_path / "ledger", study_kit.plain(files, **keys))
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
    def before(batch):
        if len(batch) > texts:
            message = "CUDA out of memory. Tried to allocate 20.00 MiB."
            raise torch.OutOfMemoryError(message)

    return before


def test_a_run_ends_with_its_numbers_and_the_hashes_of_its_files(opened):
    ledger, cell = opened()
    execute(ledger.root, cell.id)
    record = ledger.result(cell.id)
    assert set(record["files"]) == {"spec.json", "tune.json", "profile.json", "log.jsonl"}
    assert record["result"]["training"]["steps"] == 3
    assert record["seconds"] > 0
    assert ledger.state(cell.id) == "done"


def test_a_run_that_is_done_is_not_done_again(opened):
    ledger, cell = opened()
    execute(ledger.root, cell.id)
    file = ledger.folder(cell.id) / "result.json"
    before = file.stat()
    execute(ledger.root, cell.id)
    assert file.stat() == before


def test_a_run_that_another_holds_is_left_alone(opened):
    ledger, cell = opened()
    with ledger.begin(cell.id).kept():
        execute(ledger.root, cell.id)
        assert ledger.state(cell.id) == "running"
    assert not (ledger.folder(cell.id) / "result.json").exists()


@pytest.mark.parametrize("no_memory", [no_room, no_room_on_the_device])
@pytest.mark.parametrize(("fits", "halvings"), [(4, 1), (1, 3)])
def test_a_run_out_of_memory_goes_on_with_a_smaller_batch(
    opened, objective, no_memory, fits, halvings
):
    name = objective(no_memory(fits))
    ledger, cell = opened(objectives=[name], defaults={"batch_size": 8})
    execute(ledger.root, cell.id)
    record = ledger.result(cell.id)
    training = record["result"]["training"]
    assert training["halvings"] == halvings
    assert (training["batch_size"], training["accumulation"]) == (8 // 2**halvings, 2**halvings)
    tune = json.loads((ledger.folder(cell.id) / "tune.json").read_text())
    assert any(note.startswith("memory ran out with 1 x 8") for note in tune["notes"])
    assert json.loads((ledger.folder(cell.id) / "halvings.json").read_text()) == {
        "halvings": halvings
    }


def test_memory_that_runs_out_later_makes_the_run_begin_anew(opened, objective, study_kit):
    """Checkpoints of the larger micro-batch are of another run; none is gone on from."""
    seen = []

    def before(batch):
        seen.append(len(batch))
        if len(batch) == 4 and len(seen) == 3:
            message = "CUDA out of memory."
            raise torch.OutOfMemoryError(message)

    ledger, cell = opened(objectives=[objective(before)], defaults={"save_every": 1})
    execute(ledger.root, cell.id)
    assert seen == [4, 4, 4, 2, 2, 2, 2, 2, 2]
    assert ledger.result(cell.id)["result"]["training"]["halvings"] == 1


def test_three_halvings_are_the_most(opened, objective):
    name = objective(no_room(0))
    ledger, cell = opened(objectives=[name], defaults={"batch_size": 16})
    execute(ledger.root, cell.id)
    failure = ledger.failure(cell.id)
    assert (failure.kind, failure.where) == ("oom", "training")
    assert failure.message.startswith("out of memory, with the micro-batch halved 3 times too")
    assert not (ledger.folder(cell.id) / "halvings.json").exists()


def test_an_odd_batch_is_not_halved(opened, objective):
    ledger, cell = opened(objectives=[objective(no_room(2))], defaults={"batch_size": 6})
    execute(ledger.root, cell.id)
    failure = ledger.failure(cell.id)
    assert failure.kind == "oom"
    assert "cannot be divided: '6 by 4'" in failure.message


def test_a_loss_that_compares_texts_is_not_halved(opened, objective):
    name = objective(no_room(1), coupled=True)
    ledger, cell = opened(objectives=[name])
    execute(ledger.root, cell.id)
    failure = ledger.failure(cell.id)
    assert failure.kind == "oom"
    assert f"{name} compares the texts of a batch" in failure.message
    assert "gradient_checkpointing: true" in failure.message


@pytest.mark.parametrize(
    ("keys", "kind", "said", "where"),
    [
        ({"data": "missing.txt"}, "bad-input", "missing.txt", "reading"),
        ({"learning_rate": 1e30}, "diverged", "non-finite gradient in step 2", "training"),
        ({"top": 1}, "bad-input", "top has no meaning under condition standard", "training"),
    ],
)
def test_failures_by_kind(opened, keys, kind, said, where):
    ledger, cell = opened(defaults=keys)
    execute(ledger.root, cell.id)
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
        (
            OutputError("cannot write (No space left on device)"),
            "interrupted",
            "cannot write (No space left on device)",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_errors_by_kind(opened, objective, error, kind, message):
    ledger, cell = opened(objectives=[objective(raising(error))])
    execute(ledger.root, cell.id)
    failure = ledger.failure(cell.id)
    assert (failure.kind, failure.message, failure.where) == (kind, message, "training")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("turned_into", [None, RuntimeError, "nothing"])
def test_a_signal_is_an_interruption_whatever_libraries_make_of_it(
    opened, objective, number, turned_into
):
    def before(_batch):
        try:
            os.kill(os.getpid(), number)
        except SystemExit:
            if turned_into == "nothing":
                return
            raise (turned_into or SystemExit) from None

    handler = signal.getsignal(number)
    ledger, cell = opened(objectives=[objective(before)])
    execute(ledger.root, cell.id)
    assert ledger.failure(cell.id).kind == "interrupted"
    assert signal.getsignal(number) == handler


def test_an_interrupted_run_goes_on_where_it_was(opened, objective, study_kit):
    steps = []

    def before(_batch):
        steps.append(1)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    ledger, cell = opened(objectives=[objective(before)], defaults={"save_every": 1})
    execute(ledger.root, cell.id)
    assert ledger.failure(cell.id).kind == "interrupted"
    execute(ledger.root, cell.id)
    assert len(steps) == 4
    assert ledger.state(cell.id) == "done"
    assert not (ledger.folder(cell.id) / "failure.json").exists()


@pytest.mark.parametrize("damage", ["log", "checkpoint"])
def test_what_cannot_be_gone_on_from_is_begun_anew(opened, objective, damage):
    steps = []

    def before(_batch):
        steps.append(1)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    ledger, cell = opened(objectives=[objective(before)], defaults={"save_every": 1})
    execute(ledger.root, cell.id)
    folder = ledger.folder(cell.id)
    if damage == "log":
        (folder / "log.jsonl").unlink()
    else:
        next(folder.glob("checkpoints/*/model.safetensors")).write_bytes(b"damaged")
    execute(ledger.root, cell.id)
    assert len(steps) == 6
    assert ledger.state(cell.id) == "done"


@pytest.mark.parametrize("change", [{"seed": 1}, {"settings": {"steps": 1}}, {"model": "other"}])
def test_a_spec_that_was_changed_is_refused(opened, change):
    ledger, cell = opened()
    file = ledger.folder(cell.id) / "spec.json"
    spec = json.loads(file.read_text())
    changed = {k: {**spec[k], **v} if isinstance(v, dict) else v for k, v in change.items()}
    file.write_text(json.dumps(spec | changed))
    execute(ledger.root, cell.id)
    failure = ledger.failure(cell.id)
    assert failure.kind == "bad-input"
    assert failure.message.startswith("spec that is not its run's")


def test_a_run_that_was_taken_over_writes_nothing_more(opened, objective):
    ledger, cell = opened(
        objectives=[objective(lambda _: (folder / "lease.2.json").write_text("{}"))]
    )
    folder = ledger.folder(cell.id)
    execute(ledger.root, cell.id)
    left = {path.name for path in folder.iterdir()}
    assert not left & {"result.json", "failure.json", "tune.json"}
    assert ledger.state(cell.id) == "running"
