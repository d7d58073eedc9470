"""`layerwise study` from end to end: run, stop, go on, status, table, and what is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
import yaml

from layerwise.study.expand import expand, study_from
from layerwise.study.ledger import create, open_ledger
from layerwise.study.read import checked
from layerwise.study.record import Failure


@pytest.fixture(scope="module")
def files(study_kit, tmp_path_factory):
    return study_kit.files(tmp_path_factory.mktemp("files"), "llama")


@pytest.fixture
def study(study_kit, files, tmp_path, monkeypatch):
    """Writes a study; commands run beside it."""
    monkeypatch.chdir(tmp_path)

    def write(**keys):
        file = tmp_path / "study.yaml"
        file.write_text(yaml.safe_dump(study_kit.plain(files, **keys)))
        return file

    return write


@pytest.mark.slow  # A process that imports all that runs need.
def test_a_study_from_its_file_to_its_tables(run, study, study_kit, files, tmp_path):
    models = {
        "llama": {"source": str(files / "llama"), "conditions": ["standard", "lora"]},
        "neox": {"pretrain": study_kit.neox(files)},
    }
    file = study(models=models, distance={"examples": 12, "batch_size": 4, "objectives": None})
    said = run("study", "run", file, "--workers", 2)
    assert said.code == 0, said.err
    assert said.out.startswith("Study: tiny\n6 runs\n")
    assert said.out.endswith("\n6 of 6 runs done.\n")
    assert run("study", "status", "tiny-study").out == said.out
    again = run("study", "run", file, "--format", "json")
    assert json.loads(again.out)["done"] == 6
    said = run("study", "table", "tiny-study")
    assert said.code == 0
    assert "\n4 rows of runs.csv, 3 rows of summary.csv, " in said.out
    assert "Mean and standard deviation over seeds." in said.out
    written = {path.name for path in (tmp_path / "tiny-study-tables").iterdir()}
    names = ("runs", "summary", "distances")
    assert written == {f"{name}.{suffix}" for name in names for suffix in ("csv", "parquet")}
    table = json.loads(run("study", "table", "tiny-study", "--format", "json").out)
    assert table["rows"]["runs.csv"] == 4


def test_a_study_with_failed_runs_ends_with_3(run, study, forking):
    """Too few texts for a batch shows when the run begins, and no sooner."""
    file = study(defaults={"batch_size": 400}, seeds=[0, 1])
    said = run("study", "run", file)
    assert said.code == 3
    assert "\nWhat failed\nllama-causal-lm" in said.out
    assert said.out.endswith("\n0 of 2 runs done, 2 failed (bad-input).\n")
    record = json.loads(run("study", "status", file, "--format", "json").out)
    assert record["failed"] == {"bad-input": 2}
    assert run("study", "run", file, "--format", "quiet").code == 3


#: The faults themselves are in unit/study/test_refusals.py.
REFUSED = [
    ({"seed": [1]}, r"unknown key of a study: 'seed'"),
    ({"seeds": []}, "matrix without a run"),
    ({"objectives": ["causal-lm", "masked-lm"]}, "runs of the study that cannot work, 1 of 2"),
    ({"defaults": {"stesp": 1}}, "did you mean 'steps'?"),
]


@pytest.mark.parametrize(("keys", "match"), REFUSED, ids=[match for _, match in REFUSED])
def test_what_is_refused_leaves_nothing(run, study, tmp_path, keys, match):
    said = run("study", "run", study(**keys))
    assert said.code == 2
    assert said.out == ""
    assert match in said.err.splitlines()[-1]
    assert said.err.splitlines()[-1].startswith("layerwise: error: ")
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


CODE = """
from transformers import LlamaConfig, LlamaForCausalLM

class OwnConfig(LlamaConfig):
    model_type = "own"

class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def own_code(files, tmp_path):
    """A model folder that cannot be read without running the code in it."""
    folder = tmp_path / "own"
    shutil.copytree(files / "llama", folder)
    config = json.loads((folder / "config.json").read_text())
    auto = {"AutoConfig": "code.OwnConfig", "AutoModelForCausalLM": "code.OwnForCausalLM"}
    own = {"model_type": "own", "auto_map": auto, "architectures": ["OwnForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config | own))
    (folder / "code.py").write_text(CODE)
    return str(folder)


def test_only_the_call_lets_a_model_s_code_run_and_nothing_keeps_it(
    run, study, own_code, tmp_path, forking
):
    distance = {"examples": 12, "batch_size": 4, "objectives": None}
    file = study(models={"own": own_code}, distance=distance)
    said = run("study", "run", file)
    assert said.code == 2
    assert "brings its own code, which was not run" in said.err
    assert "--trust-remote-code, once you have read that code" in said.err
    ids = {cell.id for cell in study_from(file).cells}
    said = run("study", "run", file, "--trust-remote-code")
    assert said.code == 0, said.err
    assert said.out.endswith("\n2 of 2 runs done.\n")
    ledger = tmp_path / "tiny-study"
    assert open_ledger(ledger).begun() == ids
    kept = {p.name for p in ledger.rglob("*.*") if b"trust" in p.read_bytes()}
    assert kept <= {"tune.json", "profile.json", "distance.json"}  # The command, as provenance.


def test_a_ledger_whose_study_said_it_is_still_read(run, study, tmp_path):
    """The first edition took it for a setting; its runs and their ids are what they were."""
    plain = checked(yaml.safe_load(study(distance={"examples": 8}).read_text()), folder=tmp_path)
    plain["defaults"]["trust_remote_code"] = True
    made = expand(plain)
    ledger = create(tmp_path / "tiny-study", made)
    for cell in made.cells:
        assert cell.settings["trust_remote_code"] is True
        ledger.prepare(cell)
        lease = ledger.begin(cell.id)
        ledger.fail(cell.id, Failure("error", "as it was", "training"), lease=lease)
        lease.release()
    assert run("study", "status", "tiny-study").out.endswith("failed (error).\n")
    assert ledger.cell(made.cells[0].id) == made.cells[0]


@pytest.mark.parametrize("command", ["status", "table"])
def test_what_is_no_ledger_is_said(refused, tmp_path, command):
    assert "try: layerwise study run STUDY.yaml, first" in refused("study", command, tmp_path)


def test_an_address_is_for_ray(run, study):
    said = run("study", "run", study(), "--address", "10.0.0.1:6379")
    assert said.code == 2
    assert said.error.startswith("address has no meaning for the engine local: '10.0.0.1:6379'")
    assert run("study", "run", study(), "--engine", "ray", "--partition", "a").code == 2


@pytest.mark.slow  # Imports twice, as people's shells do.
def test_ctrl_c_ends_with_130_and_the_study_goes_on(run, study, tmp_path):
    file = study(defaults={"steps": 4000, "save_every": 2, "log_every": 1000})
    command = [sys.executable, "-m", "layerwise", "study", "run", file]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment, start_new_session=True,
    ) as process:  # fmt: skip
        checkpoints = tmp_path / "tiny-study" / "runs"
        while not list(checkpoints.glob("*/checkpoints/checkpoint-*")):
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=0.05)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=90)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "layerwise: error: interrupted; no file was half written"
    ledger = open_ledger(tmp_path / "tiny-study")
    (run_id,) = ledger.begun()
    assert ledger.failure(run_id).kind == "interrupted"
    status = json.loads(run("study", "status", "tiny-study", "--format", "json").out)
    assert status["failed"] == {"interrupted": 1}
