"""Runs as processes of this machine: how they begin, end, speak, and die with their runner."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest

from layerwise.errors import BadInputError, LayerwiseError
from layerwise.study.engines import Engine
from layerwise.study.engines.local import LocalEngine
from layerwise.study.expand import study_from
from layerwise.study.ledger import create
from layerwise.study.runner import run
from support.processes import jobs
from support.studies import matrix

STUDY = study_from(matrix(seeds=[0, 1, 2, 3]))
CELLS = STUDY.cells


@pytest.fixture
def ledger(tmp_path):
    return create(tmp_path / "ledger", STUDY)


@pytest.fixture
def engine(ledger):
    made = []

    def make(execute, workers=1):
        made.append(LocalEngine(ledger.root, workers=workers, execute=execute))
        return made[-1]

    yield make
    for each in made:
        each.close()


def results(ledger):
    return [ledger.result(cell.id)["result"] for cell in CELLS]


def are_ready(ledger):
    """Return whether the first two runs are at work."""
    return all((ledger.folder(cell.id) / "ready").exists() for cell in CELLS[:2])


def test_each_run_has_a_process_and_all_have_one_parent(ledger, engine):
    made = engine(jobs.finish)
    assert isinstance(made, Engine)
    assert made.ended(60.0) == ()  # Nothing runs, and nothing ends.
    assert run(STUDY, ledger, made).done == 4
    found = results(ledger)
    assert len({r["pid"] for r in found}) == 4
    assert len({r["parent"] for r in found} - {os.getpid()}) == 1
    assert sorted(p.name for p in ledger.folder(CELLS[0].id).iterdir()) == [
        "lease.1.json",
        "result.json",
        "spec.json",
    ]
    assert not (ledger.root / "engine.log").exists()


def test_cores_and_devices_are_shared_out(ledger, engine, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    run(STUDY, ledger, engine(jobs.finish, workers=2))
    found = results(ledger)
    assert {r["threads"] for r in found} == {"4"}
    assert {r["device"] for r in found} <= {"3", "5"}
    assert found[0]["device"] == "3"


def test_what_is_set_stays(ledger, engine, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    run(STUDY, ledger, engine(jobs.finish, workers=2))
    assert {(r["threads"], r["device"]) for r in results(ledger)} == {("3", "")}


def test_what_a_run_says_stays_in_its_folder(ledger, engine, capfd):
    status = run(STUDY, ledger, engine(jobs.speak))
    assert dict(status.failed) == {"error": 4}
    said = (ledger.folder(CELLS[0].id) / "output.txt").read_text()
    assert said.count("said ''\n") == 4
    assert said.count("ValueError: a-causal-lm") == 4
    assert capfd.readouterr() == ("", "")


def test_a_killed_run_is_noticed_at_once(ledger, engine):
    made, first = engine(jobs.die), CELLS[0]
    ledger.prepare(first)
    made.submit(first.id)
    gone = []
    while not gone:  # The server says first that it is ready.
        gone = made.ended(60.0)
    assert gone == [first.id]
    assert ledger.state(first.id) == "lost"
    assert dict(run(STUDY, ledger, made).failed) == {"error": 4}


def test_a_killed_server_is_replaced(ledger, engine):
    assert run(STUDY, ledger, engine(jobs.kill_server, workers=2)).done == 4
    assert (ledger.root / "killed").exists()


def test_closing_interrupts_what_runs(ledger, engine):
    made = engine(jobs.wait_for_ever, workers=2)
    for cell in CELLS[:2]:
        ledger.prepare(cell)
        made.submit(cell.id)
    while not are_ready(ledger):
        made.ended(0.05)
    made.close()
    assert [ledger.failure(c.id).kind for c in CELLS[:2]] == ["interrupted"] * 2


RUNNER = """
import sys
from pathlib import Path
from layerwise.study.engines.local import LocalEngine
from layerwise.study.expand import expand
from layerwise.study.ledger import open_ledger
from layerwise.study.runner import run
from support.processes.jobs import wait_for_ever

ledger = open_ledger(Path(sys.argv[1]))
study = expand(ledger.study_plain())
engine = LocalEngine(ledger.root, workers=2, execute=wait_for_ever)
run(study, ledger, engine, on_change=lambda status: print(status.running, flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=str)
def test_runs_end_with_their_runner(ledger, number):
    command = [sys.executable, "-c", RUNNER, ledger.root]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        while process.stdout.readline() != "2\n":
            assert process.poll() is None
        while not are_ready(ledger):
            assert process.poll() is None
        below = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
    psutil.wait_procs(below, timeout=60)
    assert [ledger.failure(cell.id).kind for cell in CELLS[:2]] == ["interrupted"] * 2
    with suppress(psutil.NoSuchProcess):
        assert not [p for p in below if p.is_running()]


def test_a_function_that_cannot_be_imported_is_refused(ledger):
    with pytest.raises(BadInputError, match="function of a run that cannot be imported"):
        LocalEngine(ledger.root, workers=1, execute=lambda *_: None)
    with pytest.raises(BadInputError, match="workers: '0'; expected 1 or more"):
        LocalEngine(ledger.root, workers=0, execute=jobs.finish)


def test_a_system_that_cannot_fork_is_told_what_can(ledger, monkeypatch):
    monkeypatch.delattr(os, "fork")
    with pytest.raises(BadInputError, match=r"cannot fork.*--engine ray"):
        LocalEngine(ledger.root, workers=1, execute=jobs.finish)


def test_a_server_that_cannot_start_is_said(ledger, engine, monkeypatch):
    monkeypatch.setattr(jobs.finish, "__module__", "no_such_module")
    with pytest.raises(LayerwiseError, match=r"cannot start: .ModuleNotFoundError.*no_such_module"):
        run(STUDY, ledger, engine(jobs.finish))
