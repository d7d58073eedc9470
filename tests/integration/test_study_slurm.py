"""Studies as jobs: submitit's local executor, and the words that SLURM itself would be told."""

import os
import re
import threading
from types import SimpleNamespace

import pytest

from layerwise.errors import BadInputError, LayerwiseError
from layerwise.study.engines import Engine
from layerwise.study.engines.slurm import JOBS, SlurmEngine
from layerwise.study.expand import study_from
from layerwise.study.ledger import create
from layerwise.study.runner import run
from layerwise.study.worker import execute
from support.processes import jobs


@pytest.fixture
def study(study_kit, tmp_path):
    def make(**keys):
        study_kit.files(tmp_path, "llama")
        made = study_from(study_kit.plain(tmp_path, **keys))
        return made, create(tmp_path / "ledger", made)

    return make


def local(ledger, what, *, workers=2, **options):
    return SlurmEngine(ledger.root, workers=workers, execute=what, cluster="local", **options)


def test_it_is_an_engine(study):
    _, ledger = study()
    engine = local(ledger, jobs.finish)
    assert isinstance(engine, Engine)
    assert list(engine.ended(0.0)) == []
    engine.close()


def test_each_run_is_a_job_with_one_result(study):
    made, ledger = study(seeds=[0, 1, 2])
    status = run(made, ledger, local(ledger, jobs.finish))
    assert (status.done, status.total) == (3, 3)
    assert [ledger.result(c.id)["result"]["run"] for c in made.cells] == [c.id for c in made.cells]
    assert len(list((ledger.root / JOBS).glob("*_submitted.pkl"))) == 3


@pytest.mark.parametrize("what", ["die_once", "out_of_time_once"])
def test_a_job_that_was_lost_or_out_of_time_is_submitted_again(study, what):
    made, ledger = study(seeds=[0, 1])
    status = run(made, ledger, local(ledger, getattr(jobs, what)))
    assert status.done == 2
    assert [ledger.result(c.id)["result"]["generation"] for c in made.cells] == [2, 2]


def test_leaving_cancels_the_jobs(study):
    made, ledger = study()
    (cell,) = made.cells
    folder = ledger.prepare(cell)
    engine = local(ledger, jobs.wait_for_ever)
    engine.submit(cell.id)
    assert engine.ended(0.0) == []
    begun = threading.Event()
    while not (folder / "lease.1.json").exists():
        begun.wait(0.01)
    engine.close()
    assert ledger.failure(cell.id).message == "cancelled"
    assert engine.ended(0.0) == []


@pytest.mark.slow  # A job imports torch.
def test_a_real_run_as_a_job(study):
    made, ledger = study()
    assert run(made, ledger, local(ledger, execute)).done == 1
    assert ledger.result(made.cells[0].id)["result"]["model"]["block"] == "sequential"


# --- What SLURM is told ---------------------------------------------------------------------------


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Commands of SLURM's names: they keep what they are given, and say what a test wrote down."""
    commands, said = tmp_path / "bin", tmp_path / "said"
    commands.mkdir()
    said.mkdir()
    scripts = {
        "srun": "exit 0",
        "sbatch": f'n=$(ls {said} | wc -l); cp "$1" {said}/$n; test ! -e {tmp_path}/refuse '
        '|| { echo "Invalid partition" >&2; exit 1; }; echo "Submitted batch job 1$n"',
        "sacct": f"cat {tmp_path}/states",
        "scancel": f'echo "$1|CANCELLED|node" >> {tmp_path}/states',
    }
    for name, script in scripts.items():
        (commands / name).write_text(f"#!/bin/sh\n{script}\n")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    states = "JobID|State|NodeList"
    (tmp_path / "states").write_text(states + "\n")

    def tell(**by_job):
        rows = [f"{job}|{state}|node" for job, state in by_job.items()]
        (tmp_path / "states").write_text("\n".join([states, *rows]) + "\n")

    return SimpleNamespace(said=said, tell=tell, folder=tmp_path)


def test_what_is_submitted_together_is_one_array(study, slurm):
    made, ledger = study(seeds=[0, 1, 2])
    job = {"partition": "gpu", "minutes": 90, "cpus": 4, "gpus": 1, "memory_gb": 24}
    engine = SlurmEngine(ledger.root, workers=2, execute=jobs.finish, **job)
    for cell in made.cells:
        engine.submit(cell.id)
    assert engine.ended(0.0) == []
    (script,) = [file.read_text() for file in slurm.said.iterdir()]
    wanted = {
        "array": "0-2%2",
        "partition": "gpu",
        "time": "90",
        "cpus-per-task": "4",
        "gpus-per-node": "1",
        "mem": "24GB",
        "job-name": "layerwise",
    }
    told = dict(re.findall(r"^#SBATCH --([a-z-]+)=(\S+)$", script, re.MULTILINE))
    assert {name: told[name] for name in wanted} == wanted
    engine.close()
    assert (slurm.folder / "states").read_text().count("CANCELLED") == 3


def test_what_is_not_chosen_is_left_to_the_cluster(study, slurm):
    made, ledger = study()
    engine = SlurmEngine(ledger.root, workers=1, execute=jobs.finish)
    engine.submit(made.cells[0].id)
    engine.ended(0.0)
    (script,) = [file.read_text() for file in slurm.said.iterdir()]
    assert "--time=1440" in script
    assert not re.search(r"--(array|partition|gpus|mem)", script)
    slurm.tell(**{"10": "COMPLETED"})
    engine.close()


@pytest.mark.parametrize("state", ["NODE_FAIL", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "CANCELLED"])
def test_a_job_that_slurm_lost_has_ended(study, slurm, state):
    made, ledger = study()
    engine = SlurmEngine(ledger.root, workers=1, execute=jobs.finish)
    run_id = made.cells[0].id
    engine.submit(run_id)
    slurm.tell(**{"10": state})
    assert engine.ended(30.0) == [run_id]
    engine.close()


def test_a_job_that_is_refused_is_an_error_of_one_line(study, slurm):
    made, ledger = study()
    (slurm.folder / "refuse").touch()
    engine = SlurmEngine(ledger.root, workers=1, execute=jobs.finish)
    engine.submit(made.cells[0].id)
    with pytest.raises(LayerwiseError, match=r"SLURM does not take a job \(.*Invalid partition"):
        engine.ended(0.0)
    engine.close()


def test_no_slurm(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BadInputError, match=r"no SLURM on this machine .*--engine local"):
        SlurmEngine(tmp_path, workers=1, execute=jobs.finish)
