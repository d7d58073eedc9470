"""`layerwise check`: its exit status, what it prints and writes, and the hook."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import layerwise as lw

# As an adapter is saved.
GOOD = {"peft_type": "LORA", "target_modules": ["q_proj"], "inference_mode": True}
BAD = "adapter: lora\nbase_model: x\nlora_target_modules: [q_proj, v_porj]\n"


@pytest.fixture
def configs(tmp_path):
    good, bad = tmp_path / "good" / "adapter_config.json", tmp_path / "bad.yaml"
    good.parent.mkdir()
    good.write_text(json.dumps(GOOD))
    bad.write_text(BAD)
    return good, bad


def test_the_exit_status_says_whether_something_was_found(run, model_folder, configs):
    good, bad = configs
    clean = run("check", model_folder, good.parent)
    assert (clean.code, clean.err) == (0, "")
    assert "Nothing was found." in clean.out
    said = run("check", model_folder, good, bad)
    assert said.code == 1
    assert "Write: v_proj. [target-unmatched]" in said.out.replace("\n", " ")
    assert "lora_target_modules (v_porj)" in said.out


def test_what_is_corrected_is_printed_and_written(run, model_folder, configs, tmp_path):
    _, bad = configs
    said = run("check", model_folder, bad, "--fix", "--out", tmp_path / "out")
    assert said.code == 1
    assert 'lora_target_modules: ["q_proj", "v_proj"]' in said.out
    fixed = tmp_path / "out" / "fixed-bad.yaml"
    assert fixed.read_text() == BAD.replace("[q_proj, v_porj]", '["q_proj", "v_proj"]')
    assert run("check", model_folder, fixed).code == 0
    assert lw.Check.load(tmp_path / "out").fixed == fixed.read_text()
    assert bad.read_text() == BAD


@pytest.mark.real_model
def test_it_works_on_the_demo_that_is_a_gguf_file(run, configs):
    said = run("check", "demo", configs[0], "--format", "json")
    kinds = {k["kind"]: k["trained"] for k in json.loads(said.out)["kinds"]}
    assert (said.code, kinds["self_attn.q_proj"], kinds["mlp.up_proj"]) == (0, 30, 0)


def test_the_report_opens_without_a_folder_too(model_folder, configs):
    line = [sys.executable, "-m", "layerwise", "check", model_folder, configs[1], "--open"]
    env = {**os.environ, "BROWSER": "echo opened %s"}
    done = subprocess.run(line, capture_output=True, check=False, text=True, env=env)
    (page,) = re.findall(r"opened file://(\S+report\.html)", done.stdout)
    assert done.returncode == 1
    assert "v_porj" in Path(page).read_text()


@pytest.mark.slow
def test_the_hook_runs_from_its_file(model_folder, configs):
    (hook,) = yaml.safe_load((Path(__file__).parents[2] / ".pre-commit-hooks.yaml").read_text())
    words = hook["entry"].split()
    assert (words[0], hook["language"], hook["pass_filenames"]) == ("layerwise", "python", True)
    line = [sys.executable, "-m", *words, model_folder, *configs]
    assert subprocess.run(line, capture_output=True, check=False).returncode == 1
