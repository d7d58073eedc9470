"""Studies on a Ray cluster; each test is a process of its own, with all that it starts."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from layerwise.errors import BadInputError
from layerwise.study.engines.ray import RayEngine


def unused(_ledger, _run_id):
    raise AssertionError


@pytest.mark.long  # Ray's processes start one after another, and workers import torch.
def test_a_study_survives_the_loss_of_a_node(tmp_path):
    """The run that was on it goes on from its checkpoint elsewhere; each cell has one result.

    Before that, on the same cluster, an engine that is closed interrupts what runs.
    """
    said = subprocess.run(
        [sys.executable, "-m", "support.processes.ray_study", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )
    assert said.returncode == 0, said.stderr[-3000:]
    told = json.loads(said.stdout.splitlines()[-1])
    assert told["interrupted"] == "interrupted"
    assert told["slots"] == 2
    assert told["nodes"] == 1
    assert len(told["killed"]) == 1
    assert told["generations"][0] > 1
    assert (told["done"], told["failed"]) == (4, {})
    assert told["results"] == [1] * 4
    assert told["equal"]


@pytest.fixture
def silent():
    """The address of something that takes connections and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.slow  # It waits for the time in which a cluster must answer.
def test_an_address_that_does_not_answer_is_said_in_time(silent, tmp_path):
    began = time.monotonic()
    with pytest.raises(BadInputError, match="Ray cluster that does not answer") as caught:
        RayEngine(tmp_path, execute=unused, address=silent)
    assert time.monotonic() - began < 20
    assert caught.value.value == silent
    assert "ray start --head" in caught.value.hint


def test_a_name_that_is_no_address(tmp_path):
    with pytest.raises(BadInputError, match=r"does not answer .*Invalid address format: nowhere"):
        RayEngine(tmp_path, execute=unused, address="nowhere")
