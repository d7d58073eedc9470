"""Two processes under torchrun: records that disturb nothing, and the control of one process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("profile_processes.py")


def launch(world, out):
    out.mkdir()
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone",
         f"--nproc-per-node={world}", str(SCRIPT), str(world), str(out)],
        check=True, capture_output=True, timeout=240, text=True,
    )  # fmt: skip
    return [json.loads((out / f"rank{rank}.json").read_text()) for rank in range(world)]


@pytest.mark.slow  # Three processes, each of which imports torch and transformers.
def test_two_processes(tmp_path):
    first, second = launch(2, tmp_path / "two")
    (one,) = launch(1, tmp_path / "one")
    assert first == second
    assert first["same"]
    assert first["steps"] == [0, 2, 3]
    lines = (tmp_path / "two" / "depths.jsonl").read_text().splitlines()
    assert [json.loads(line)["slope"] for line in lines] == first["history"]
    assert first["control"]["tau"] == pytest.approx(one["control"]["tau"], rel=1e-4)
    assert first["control"]["losses"] == pytest.approx(one["control"]["losses"], rel=1e-5)
    for name, slope in one["control"]["slopes"].items():
        assert first["control"]["slopes"][name] == pytest.approx(slope, rel=1e-3)
    assert (tmp_path / "two" / "runs" / "equal-step-0" / "tune.json").exists()
