"""A disk that fills up keeps what was there, and nothing is left half written."""

import json
from contextlib import suppress

import pytest

from layerwise.errors import OutputError
from layerwise.tuning import results
from layerwise.tuning.checkpoints import MANIFEST, hashes
from layerwise.tuning.record import TuneRecord


def tree(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


@pytest.mark.parametrize("kib", [0, 8, 40, 90])
def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(tuning, disk, kib):
    """Room for none of it, for a part of the weights, of the optimizer, for all but the seal."""
    folder, leave = disk
    out = folder / "out"
    out.mkdir()

    def fill(entry):
        if entry["step"] == 3:
            leave(kib)

    with pytest.raises(OutputError, match=r"step 4 .*kept: checkpoint-2.*--resume") as caught:
        tuning.tune("llama", folder=out, steps=6, save_every=2, on_step=fill)
    assert caught.value.exit_code == 2
    assert [p.name for p in (out / "checkpoints").iterdir()] == ["checkpoint-2"]
    last = out / "checkpoints" / "checkpoint-2"
    assert json.loads((last / MANIFEST).read_text())["files"] == hashes(last)
    (folder / "filler").unlink()
    resumed = tuning.tune("llama", folder=out, steps=6, save_every=2, resume=True)
    assert resumed.record.outcome.resumed_from == 2
    assert tuning.same(tuning.weights(resumed), tuning.weights(tuning.tune("llama", steps=6)))


@pytest.mark.parametrize("kib", [0, 12, 28, 40])
def test_a_result_that_does_not_fit_leaves_the_former_one(tuning, disk, kib):
    folder, leave = disk
    out = folder / "out"
    out.mkdir()
    results.save(tuning.tune("llama", steps=1), out)
    before, record = hashes(out), TuneRecord.load(out)
    tuned = tuning.tune("llama", steps=2)
    leave(kib)
    with pytest.raises(OutputError, match=r"cannot write the result .*room on the disk"):
        results.save(tuned, out)
    assert hashes(out) == before
    assert TuneRecord.load(out) == record
    (folder / "filler").unlink()
    saved = results.save(tuned, out)
    assert TuneRecord.load(out) == saved.record
    assert hashes(out).items() >= saved.record.files.items()


def test_a_log_that_does_not_fit_ends_the_run(tuning, disk):
    folder, leave = disk
    out = folder / "out"
    out.mkdir()
    pad = "x" * 4000

    def fill(entry):
        if entry["step"] == 2:
            leave(0)
            with suppress(OSError), (out / "log.jsonl").open("a") as stream:
                stream.write(json.dumps({"step": 2, "pad": pad}) + "\n")

    with pytest.raises(OutputError, match=r"cannot write the log .*No space left"):
        tuning.tune("llama", folder=out, steps=40, on_step=fill)


def test_no_room_for_anything_is_said_in_one_line(run, model_folder, text_file, disk):
    folder, leave = disk
    leave(0)
    short = ["--text-column", "text", "--batch-size", 4, "--steps", 2, "--max-length", 16]
    said = run("tune", model_folder, text_file, *short, "--out", folder / "out")
    assert said.code == 2
    assert "cannot write" in said.error
