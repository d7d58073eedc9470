"""A run of a study that was killed anywhere ends, when it is run again, with the same numbers."""

import signal

import pytest

from layerwise.tuning.record import TuneRecord
from support.launch import forked

STANDARD = (
    "in training",
    "writing a checkpoint",
    "reading the model before",
    "reading the model after",
    "writing the profile",
    "before the result",
    "after the result",
)
CASES = [
    *(("standard", death) for death in STANDARD),
    *(("equal-step", death) for death in ("in training", "after the match")),
    ("lora", "in training"),
]


def started(ledger, cell, die=None):
    """The exit code of a run in a process of its own."""
    return forked("study", ledger.root, cell.id, die).codes[0]


@pytest.fixture(scope="module")
def files(study_kit, tmp_path_factory):
    return study_kit.files(tmp_path_factory.mktemp("files"), "llama")


@pytest.fixture(scope="module")
def undisturbed(study_kit, files, tmp_path_factory):
    """The numbers of the run under a condition, and the study that it is in."""
    known = {}

    def find(condition):
        if condition not in known:
            # Steps of two forwards, and checkpoints after steps 2, 4 and 6, as the deaths have it.
            options = {"steps": 6, "accumulation": 2, "save_every": 2}
            options |= {"match_steps": 3} if condition == "equal-step" else {}
            study = study_kit.plain(files, conditions=[condition], defaults=options)
            ledger, (cell,) = study_kit.opened(tmp_path_factory.mktemp("whole") / "l", study)
            assert started(ledger, cell) == 0
            known[condition] = study, study_kit.result(ledger, cell)
        return known[condition]

    return find


@pytest.mark.parametrize(("condition", "death"), CASES)
def test_a_killed_run_ends_with_the_same_bytes(undisturbed, study_kit, tmp_path, condition, death):
    study, whole = undisturbed(condition)
    ledger, (cell,) = study_kit.opened(tmp_path / "ledger", study)
    assert started(ledger, cell, death) == -signal.SIGKILL
    is_done = death == "after the result"
    assert ledger.state(cell.id) == ("done" if is_done else "lost")
    before = ledger.result(cell.id) if is_done else None
    assert started(ledger, cell) == 0
    assert study_kit.result(ledger, cell) == whole
    assert ledger.state(cell.id) == "done"
    if is_done:
        assert ledger.result(cell.id) == before


def test_it_goes_on_from_its_checkpoint(undisturbed, study_kit, tmp_path):
    study, _ = undisturbed("standard")
    ledger, (cell,) = study_kit.opened(tmp_path / "ledger", study)
    started(ledger, cell, "in training")
    started(ledger, cell)
    assert TuneRecord.load(ledger.folder(cell.id)).outcome.resumed_from == 2


@pytest.mark.parametrize("death", ["in training", "writing the record"])
def test_pretraining_that_was_killed_ends_with_the_same_model(study_kit, files, tmp_path, death):
    recipe = study_kit.neox(files) | {"steps": 6, "accumulation": 2, "save_every": 2}
    study = study_kit.plain(files, models={"neox": {"pretrain": recipe}})
    found = []
    for die in (None, death):
        ledger, (cell, _) = study_kit.opened(tmp_path / f"{die}", study)
        if die:
            assert started(ledger, cell, die) == -signal.SIGKILL
        assert started(ledger, cell) == 0
        weights = ledger.folder(cell.id) / "model" / "model.safetensors"
        found.append((study_kit.result(ledger, cell), weights.read_bytes()))
    assert found[0] == found[1]
