"""Two processes under torchrun measure what one does."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("two_processes.py")
MEASURED = {"forward_seconds", "backward_seconds", "outside_seconds", "activation_bytes"}


def launch(name, world, out):
    out.mkdir()
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone",
         f"--nproc-per-node={world}", str(SCRIPT), name, str(world), str(out)],
        check=True, capture_output=True, timeout=240, text=True,
    )  # fmt: skip
    return [dict(np.load(out / f"rank{r}.npz")) for r in range(world)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "bert"])
def test_two_processes_equal_one(tmp_path, name):
    (one,) = launch(name, 1, tmp_path / "one")
    first, second = launch(name, 2, tmp_path / "two")
    assert one.keys() == first.keys() == second.keys()
    for array in one.keys() - MEASURED:
        scale = np.abs(np.nan_to_num(one[array])).max()
        np.testing.assert_allclose(
            first[array], one[array], rtol=1e-6, atol=1e-6 * scale, err_msg=array
        )
        np.testing.assert_array_equal(first[array], second[array], err_msg=array)
