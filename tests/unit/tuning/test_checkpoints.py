"""Checkpoints are whole, their own run's, and what was written; or they are not used."""

import json
import logging
import shutil

import pytest

from layerwise.errors import OutputError, SchemaError
from layerwise.tuning.checkpoints import MANIFEST, Checkpoints, hashes

RUN = {"model": "m", "seed": 0, "learning_rate": 1e-3}


def writer(folder, step, *, text="weights"):
    def write():
        target = folder / f"checkpoint-{step}"
        (target / "deep").mkdir(parents=True)
        (target / "model.bin").write_text(f"{text} {step}")
        (target / "deep" / "optimizer.pt").write_text("moments")

    return write


@pytest.fixture
def saved(tmp_path):
    """Checkpoints after step 2 was saved."""
    checkpoints = Checkpoints(tmp_path, RUN, tau=2e-3)
    checkpoints.save(writer(tmp_path, 2), 2)
    return checkpoints


def steps(checkpoints):
    return sorted(int(p.name.rpartition("-")[2]) for p in checkpoints.folder.iterdir())


def test_what_was_saved_is_found(saved):
    last = saved.latest()
    assert (last.folder.name, last.step, last.tau) == ("checkpoint-2", 2, 2e-3)
    assert set(hashes(last.folder)) == {"model.bin", "deep/optimizer.pt"}


def test_nothing_is_found_where_nothing_was_saved(tmp_path):
    assert Checkpoints(tmp_path / "absent", RUN).latest() is None


def test_the_one_before_stays_until_a_step_went_well(saved):
    saved.save(writer(saved.folder, 4), 4)
    assert steps(saved) == [2, 4]
    assert saved.latest().step == 4
    saved.settle()
    assert steps(saved) == [4]
    saved.save(writer(saved.folder, 6), 6)
    saved.settle()
    assert steps(saved) == [6]


def test_a_run_that_begins_anew_clears_all(saved):
    saved.clear()
    assert not saved.folder.exists()
    saved.clear()


ARCHIVE = "[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598"
FULL = OSError(28, "No space left on device")


def failing(saved, error):
    """A writer of step 4 that fails on its way."""

    def fail():
        writer(saved.folder, 4)()
        raise error

    return fail


@pytest.mark.parametrize("error", [FULL, RuntimeError(ARCHIVE)], ids=["full", "archive"])
def test_what_cannot_be_written_leaves_the_one_before(saved, error):
    with pytest.raises(
        OutputError, match=r"cannot write the checkpoint of step 4 .*kept: checkpoint-2.*--resume"
    ):
        saved.save(failing(saved, error), 4)
    assert steps(saved) == [2]
    assert saved.latest().step == 2


def test_the_first_that_cannot_be_written_says_that_none_is_kept(tmp_path):
    first = Checkpoints(tmp_path, RUN)
    with pytest.raises(OutputError, match="kept: none"):
        first.save(failing(first, FULL), 4)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("CUDA error: a bug")])
def test_what_else_ends_the_writing_is_told_as_it_is_and_leaves_nothing(saved, error):
    with pytest.raises(type(error)) as caught:
        saved.save(failing(saved, error), 4)
    assert caught.value is error
    assert steps(saved) == [2]


def test_one_that_was_cut_off_is_not_used(saved, caplog):
    writer(saved.folder, 4)()
    with caplog.at_level(logging.WARNING):
        assert saved.latest().step == 2
    assert "checkpoint-4 was cut off while it was written and is not used" in caplog.text


def test_a_manifest_that_was_cut_off_is_named(saved):
    file = saved.folder / "checkpoint-2" / MANIFEST
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(SchemaError, match=MANIFEST):
        saved.latest()


def test_no_flipped_digit_of_the_manifest_goes_unseen(saved):
    file = saved.folder / "checkpoint-2" / MANIFEST
    whole = file.read_text()
    for place in [i for i, c in enumerate(whole) if c.isdigit()]:
        changed = "1" if whole[place] != "1" else "2"
        file.write_text(whole[:place] + changed + whole[place + 1 :])
        with pytest.raises(SchemaError):
            saved.latest()


def test_a_checkpoint_under_another_step_s_name_is_refused(saved):
    shutil.copytree(saved.folder / "checkpoint-2", saved.folder / "checkpoint-9")
    with pytest.raises(SchemaError, match="checkpoint with a damaged file"):
        saved.latest()


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (RUN | {"seed": 1}, "seed=0, now 1"),
        (RUN | {"model": "n", "seed": 1}, "model='m', now 'n', seed=0, now 1"),
        ({"model": "m", "seed": 0}, "learning_rate=0.001, now None"),
        (RUN | {"top": 2}, "top=None, now 2"),
    ],
)
def test_another_run_s_checkpoint_is_refused_and_the_difference_named(saved, run, said):
    with pytest.raises(SchemaError) as caught:
        Checkpoints(saved.folder, run).latest()
    assert caught.value.what == "checkpoint of another run"
    assert caught.value.value == said


def test_a_manifest_of_another_schema_is_refused(saved):
    file = saved.folder / "checkpoint-2" / MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema": "layerwise/card/1"}))
    with pytest.raises(SchemaError, match="record of another schema"):
        saved.latest()


def test_checkpoints_behind_a_link_are_never_removed(tmp_path, caplog):
    elsewhere = tmp_path / "elsewhere"
    former = Checkpoints(elsewhere, RUN)
    for step in (2, 4):
        former.save(writer(elsewhere, step), step)
    (tmp_path / "out").mkdir()
    linked = Checkpoints(tmp_path / "out" / "checkpoints", RUN)
    linked.folder.symlink_to(elsewhere)
    assert linked.latest().step == 4
    linked.settle()
    assert "lies outside" in caplog.text
    linked.clear()
    assert not linked.folder.is_symlink()
    assert steps(former) == [2, 4]
