"""Memory and disk that run out are told from other faults, whoever raises them."""

import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from layerwise.errors import LayerwiseError, OutOfMemoryError, OutputError
from layerwise.files import write_atomic
from layerwise.resources import disk_full, enough_memory, out_of_memory, unwritable

CUDA = torch.OutOfMemoryError("CUDA out of memory.")
DEVICE = Path("/dev/full")
needs_full = pytest.mark.skipif(not DEVICE.exists(), reason="needs Linux's /dev/full")


def cpu():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55)
    return caught.value


@pytest.mark.parametrize("error", [CUDA, MemoryError(), OutOfMemoryError("memory"), cpu()])
def test_what_counts_as_memory(error):
    assert out_of_memory(error)
    with pytest.raises(OutOfMemoryError, match="memory"), enough_memory("less"):
        raise error


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA error: shape"), LayerwiseError("out of memory"), OSError("memory")]
)
def test_what_does_not(error):
    assert not out_of_memory(error)
    with pytest.raises(type(error), match=str(error)), enough_memory("less"):
        raise error


def test_the_hint_is_what_to_type():
    said = r"^out of memory; try: a smaller batch$"
    with pytest.raises(OutOfMemoryError, match=said), enough_memory("a smaller batch"):
        raise CUDA


def raised(work):
    with pytest.raises(Exception, match=r".") as caught:
        work()
    return caught.value


@needs_full
def test_a_full_disk_is_told_whoever_writes(tmp_path):
    def python():
        with DEVICE.open("w") as stream:
            stream.write("x" * 10_000)

    found = raised(python)
    assert found.errno == errno.ENOSPC
    assert disk_full(found)
    wrapped = OutputError("cannot write")
    wrapped.__cause__ = found
    assert disk_full(wrapped)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("kind", [SafetensorError, RuntimeError, Exception])
def test_a_full_disk_is_told_by_writers_without_numbers(number, kind):
    assert disk_full(OSError(number, "cannot"))
    assert disk_full(kind(f"I/O error: {os.strerror(number)} (os error {number})"))


def test_another_fault_is_not_a_full_disk(tmp_path):
    (tmp_path / "file").write_text("")
    for work in (
        lambda: write_atomic(tmp_path / "file" / "deeper", b"x"),
        lambda: save_file({"a": torch.ones(2)}, tmp_path / "none" / "a"),
    ):
        assert not disk_full(raised(work))


@needs_full
def test_what_cannot_be_written_is_told_from_a_bug(tmp_path):
    writers = (
        lambda: torch.save(torch.ones(9), DEVICE),
        lambda: torch.save(torch.ones(9_999), DEVICE),
        lambda: torch.save(torch.ones(9), tmp_path),
        lambda: torch.save(torch.ones(9), tmp_path / "none" / "a.pt"),
        lambda: save_file({"a": torch.ones(2)}, tmp_path / "none" / "a"),
        lambda: tmp_path.write_bytes(b"x"),
    )
    assert [unwritable(raised(write)) for write in writers] == [True] * 6
    assert not unwritable(raised(lambda: torch.ones(2) @ torch.ones(3)))
    assert not unwritable(raised(lambda: {}["a"]))
