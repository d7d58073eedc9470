"""Two processes under torchrun: records that disturb nothing, and the control of one process."""

import json

import pytest

from support.launch import torchrun
from support.processes.profile import controlled


@pytest.mark.slow  # Two processes, each of which imports torch and transformers.
def test_two_processes(tmp_path):
    torchrun("profile", 2, tmp_path)
    first, second = (json.loads((tmp_path / f"rank{r}.json").read_text()) for r in range(2))
    one = controlled(tmp_path / "one", accumulation=2)
    assert first == second
    assert first["same"]
    assert first["steps"] == [0, 2, 3]
    lines = (tmp_path / "depths.jsonl").read_text().splitlines()
    assert [json.loads(line)["slope"] for line in lines] == first["history"]
    assert first["control"]["tau"] == pytest.approx(one["tau"], rel=1e-4)
    assert first["control"]["losses"] == pytest.approx(one["losses"], rel=1e-5)
    for name, slope in one["slopes"].items():
        assert first["control"]["slopes"][name] == pytest.approx(slope, rel=1e-3)
    assert (tmp_path / "runs" / "equal-step-0" / "tune.json").exists()
