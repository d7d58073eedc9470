"""Runs as processes of this machine: how they begin, end, speak, and die with their runner."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import psutil
import pytest

from layerwise.errors import BadInputError, LayerwiseError
from layerwise.study.engines import Engine
from layerwise.study.engines.local import LocalEngine
from layerwise.study.expand import study_from
from layerwise.study.ledger import create
from layerwise.study.runner import run

PLAIN = {
    "schema": "layerwise/study/1",
    "name": "matrix",
    "defaults": {"data": "demo"},
    "models": {"a": "x"},
    "objectives": ["causal-lm"],
    "conditions": ["standard"],
    "seeds": [0, 1, 2, 3],
}


@pytest.fixture
def works(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return import_module("study_works")


@pytest.fixture
def ledger(tmp_path):
    return create(tmp_path / "ledger", study_from(PLAIN))


@pytest.fixture
def study():
    return study_from(PLAIN)


@pytest.fixture
def engine(ledger):
    made = []

    def make(execute, workers=1):
        made.append(LocalEngine(ledger.root, workers=workers, execute=execute))
        return made[-1]

    yield make
    for each in made:
        each.close()


def results(study, ledger):
    return [ledger.result(cell.id)["result"] for cell in study.cells]


def are_ready(ledger, cells):
    return all((ledger.folder(cell.id) / "ready").exists() for cell in cells)


def test_each_run_has_a_process_and_all_have_one_parent(study, ledger, engine, works):
    made = engine(works.finishes)
    assert isinstance(made, Engine)
    assert run(study, ledger, made).done == 4
    found = results(study, ledger)
    assert len({r["pid"] for r in found}) == 4
    assert len({r["parent"] for r in found} - {os.getpid()}) == 1
    assert sorted(p.name for p in ledger.folder(study.cells[0].id).iterdir()) == [
        "lease.1.json",
        "result.json",
        "spec.json",
    ]
    assert not (ledger.root / "engine.log").exists()


def test_cores_and_devices_are_shared_out(study, ledger, engine, works, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    run(study, ledger, engine(works.finishes, workers=2))
    found = results(study, ledger)
    assert {r["threads"] for r in found} == {"4"}
    assert {r["device"] for r in found} <= {"3", "5"}
    assert found[0]["device"] == "3"


def test_what_is_set_stays(study, ledger, engine, works, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    run(study, ledger, engine(works.finishes, workers=2))
    assert {(r["threads"], r["device"]) for r in results(study, ledger)} == {("3", "")}


def test_what_a_run_says_stays_in_its_folder(study, ledger, engine, works, capfd):
    status = run(study, ledger, engine(works.speaks))
    assert dict(status.failed) == {"error": 4}
    said = (ledger.folder(study.cells[0].id) / "output.txt").read_text()
    assert said.count("said ''\n") == 4
    assert said.count("ValueError: a-causal-lm") == 4
    assert capfd.readouterr() == ("", "")


def test_a_killed_run_is_noticed_at_once(study, ledger, engine, works):
    made = engine(works.is_killed)
    first = study.cells[0]
    ledger.prepare(first)
    made.submit(first.id)
    gone = []
    while not gone:  # The server says first that it is ready.
        gone = made.ended(60.0)
    assert gone == [first.id]
    assert ledger.state(first.id) == "lost"
    status = run(study, ledger, made)
    assert dict(status.failed) == {"error": 4}


def test_a_killed_server_is_replaced(study, ledger, engine, works):
    status = run(study, ledger, engine(works.kills_server, workers=2))
    assert status.done == 4
    assert (ledger.root / "killed").exists()


def test_nothing_runs_and_nothing_ends(engine, works):
    assert engine(works.finishes).ended(60.0) == ()


def test_closing_interrupts_what_runs(study, ledger, engine, works):
    made = engine(works.waits, workers=2)
    for cell in study.cells[:2]:
        ledger.prepare(cell)
        made.submit(cell.id)
    while not are_ready(ledger, study.cells[:2]):
        made.ended(0.05)
    made.close()
    assert [ledger.failure(c.id).kind for c in study.cells[:2]] == ["interrupted"] * 2


RUNNER = """
import sys
from pathlib import Path
import study_works
from layerwise.study.engines.local import LocalEngine
from layerwise.study.expand import expand
from layerwise.study.ledger import open_ledger
from layerwise.study.runner import run

ledger = open_ledger(Path(sys.argv[1]))
study = expand(ledger.study_plain())
engine = LocalEngine(ledger.root, workers=2, execute=study_works.waits)
run(study, ledger, engine, on_change=lambda status: print(status.running, flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=str)
def test_runs_end_with_their_runner(study, ledger, works, number):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", RUNNER, ledger.root]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        while process.stdout.readline() != "2\n":
            assert process.poll() is None
        cells = study.cells[:2]
        while not are_ready(ledger, cells):
            assert process.poll() is None
        below = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
    psutil.wait_procs(below, timeout=60)
    assert [ledger.failure(cell.id).kind for cell in cells] == ["interrupted"] * 2
    with suppress(psutil.NoSuchProcess):
        assert not [p for p in below if p.is_running()]


def test_a_function_that_cannot_be_imported_is_refused(ledger, works):
    with pytest.raises(BadInputError, match="function of a run that cannot be imported"):
        LocalEngine(ledger.root, workers=1, execute=lambda *_: None)
    with pytest.raises(BadInputError, match="workers: '0'; expected 1 or more"):
        LocalEngine(ledger.root, workers=0, execute=works.finishes)


def test_a_server_that_cannot_start_is_said(study, ledger, engine, works, monkeypatch):
    monkeypatch.setattr(works.finishes, "__module__", "no_such_module")
    with pytest.raises(LayerwiseError, match=r"cannot start: .ModuleNotFoundError.*no_such_module"):
        run(study, ledger, engine(works.finishes))
