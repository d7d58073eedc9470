"""`layerwise tune` as it is typed: what it writes, what it says, and how it refuses."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import transformers

import layerwise as lw
from layerwise.errors import BadInputError, SchemaError
from layerwise.models.load import load
from layerwise.tuning.lora import placed_on
from layerwise.tuning.record import TuneRecord

pytestmark = pytest.mark.usefixtures("tuning")  # It keeps short runs short.

SHORT = ["--text-column", "text", "--steps", "2", "--batch-size", "4", "--max-length", "16"]


@pytest.fixture
def tune(run, model_folder, text_file, tmp_path):
    """Runs `layerwise tune` on the small model and text, into `out`."""

    def command(*args, model=model_folder, data=text_file, out=tmp_path / "out"):
        return run("tune", model, data, *SHORT, "--out", out, *args)

    return command


def names(folder):
    return sorted(p.name for p in folder.iterdir())


# --- What it writes and says ------------------------------------------------------------------


def test_what_is_written_and_said(tune, tmp_path, model_folder):
    said, out = tune(), tmp_path / "out"
    assert "standard on " in said.out
    assert re.search(r"Wrote .*model\.safetensors.*tune\.json.*log\.jsonl", said.out)
    record = TuneRecord.load(out)
    assert (record.condition, record.settings.steps) == ("standard", 2)
    assert record.model.source == str(model_folder)
    assert record.files.keys() == set(names(out)) - {"log.jsonl", "tune.json"}
    assert load(str(out)).kind == "causal"


def test_without_a_folder_one_is_named_by_model_and_condition(
    run, model_folder, text_file, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert run("tune", model_folder, text_file, *SHORT, "--format", "quiet").code == 0
    options = ["--placement", "1", "--format", "quiet"]
    assert run("tune", model_folder, text_file, *SHORT, *options).code == 0
    assert names(tmp_path) == ["tiny-llama-lora", "tiny-llama-standard"]


def test_blocks_of_lists_of_weights_train_whole(
    run, model_folder, text_file, card_folder, tmp_path
):
    placed, out = tmp_path / "placed", tmp_path / "out"
    args = ["--blocks", "1", "--for", "freeze", "--out", placed]
    assert run("place", card_folder, *args).code == 0
    said = run("tune", model_folder, text_file, *SHORT, "--placement", placed, "--out", out)
    assert said.code == 0, said.err
    record, before, after = TuneRecord.load(out), load(str(model_folder)), load(str(out))
    assert (record.condition, record.form, record.placement.rank) == ("uniform", "model", 0)
    trained = {group.name: group.trained for group in record.groups if group.trained}
    assert trained == {"model.layers.1": record.placement.whole_parameters}
    was = dict(before.model.named_parameters())
    moved = {n for n, w in after.model.named_parameters() if not w.equal(was[n])}
    assert moved
    assert {".".join(name.split(".")[:3]) for name in moved} == {"model.layers.1"}


def test_whole_blocks_are_not_taken_for_adapters(run, refused, model_folder, text_file, card_folder,
                                                 tmp_path):  # fmt: skip
    placed = tmp_path / "placed"
    args = ["--blocks", "1", "--for", "freeze", "--out", placed, "--format", "quiet"]
    assert run("place", card_folder, *args).code == 0
    args = ["--placement", placed, "--condition", "lora", "--out", tmp_path / "out"]
    said = refused("tune", model_folder, text_file, *SHORT, *args)
    assert said == (
        "placement of blocks that train whole under a condition that trains adapters: 'lora'; "
        "try: --condition uniform"
    )
    assert not (tmp_path / "out").exists()


def test_an_adapter_goes_where_the_placement_says(tune, run, tmp_path, card_folder):
    assert run("place", card_folder, "-k", "1", "--out", tmp_path / "placed").code == 0
    placement = tmp_path / "placed" / "placement.json"
    assert tune("--placement", placement, "--format", "quiet").code == 0
    record = TuneRecord.load(tmp_path / "out")
    asked = json.loads(placement.read_text())
    assert record.form == "adapter"
    assert list(record.placement.modules) == asked["modules"]
    trained = [group.name for group in record.groups if group.trained]
    block = asked["blocks"][0]
    assert trained == [f"{block['stack']}.{block['index']}"]
    merged = load(str(tmp_path / "out"))
    assert merged.base.endswith("tiny-llama")


def test_random_weights_are_kept_as_they_began(tune, tmp_path, model_folder):
    config = model_folder / "config.json"
    assert tune("--from-config", config, "--format", "quiet", "--seed", "3").code == 0
    first, after = tmp_path / "out" / "initial", tmp_path / "out"
    record = TuneRecord.load(after)
    assert record.model.source == str(first)
    assert any("random weights" in note for note in record.notes)
    before = load(str(first)).model.state_dict()
    assert load(str(after)).model.state_dict().keys() == before.keys()
    again = tmp_path / "again"
    assert tune("--from-config", config, "--format", "quiet", "--seed", "3", out=again).code == 0
    assert (
        load(str(again / "initial"))
        .model.state_dict()["lm_head.weight"]
        .equal(before["lm_head.weight"])
    )


# --- Unfinished and finished runs -------------------------------------------------------------


def stopped(tune):
    """Leave a run with a checkpoint behind, as a fault in its third step would."""
    said = tune("--save-every", 1, "--learning-rate", 1e30, "--log-every", 5, "--steps", 9)
    assert said.code == 1
    assert re.search(r"non-finite .* in step \d.*layer group|step of layer group", said.err)
    return said


def test_a_run_that_left_the_finite_ends_with_1_and_keeps_its_checkpoint(tune, tmp_path):
    stopped(tune)
    assert names(tmp_path / "out") == ["checkpoints", "log.jsonl"]
    assert names(tmp_path / "out" / "checkpoints")[0].startswith("checkpoint-")
    again = tune("--learning-rate", 1e-4)
    assert again.code == 2
    assert again.error.startswith("output folder holds checkpoints of an unfinished run")
    other = tune("--learning-rate", 1e-4, "--resume")
    assert other.code == 2
    assert "checkpoint of another run" in other.error
    assert "learning_rate" in other.error
    assert tune("--learning-rate", 1e-4, "--overwrite", "--format", "quiet").code == 0
    assert "checkpoints" not in names(tmp_path / "out")


def test_a_finished_run_says_so(tune):
    assert tune("--format", "quiet").code == 0
    assert "run that is finished already" in tune("--resume").error


def test_to_resume_where_nothing_is_yet_begins(tune, tmp_path):
    said = tune("--resume")
    assert said.code == 0
    assert "going on from the start: there is no checkpoint yet" in said.err
    assert TuneRecord.load(tmp_path / "out").outcome.resumed_from is None


def test_an_interrupted_run_goes_on(model_folder, text_file, tmp_path, run):
    out = tmp_path / "out"
    args = ["--text-column", "text", "--batch-size", "2", "--max-length", "16", "--steps", "5000",
            "--save-every", "3", "--format", "json", "--out", out]  # fmt: skip
    command = [sys.executable, "-m", "layerwise", "tune", model_folder, text_file, *args]
    with subprocess.Popen(
        [str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            while not any(out.glob("checkpoints/checkpoint-*/layerwise.json")):
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(timeout=0.05)
            process.send_signal(signal.SIGTERM)
            said, error = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert (said, error) == ("", "layerwise: error: interrupted; no file was half written\n")
    assert names(out) == ["checkpoints", "log.jsonl"]
    for kept in (out / "checkpoints").iterdir():
        assert (kept / "layerwise.json").exists()


# --- Bad input --------------------------------------------------------------------------------


def test_a_placement_for_another_model_is_refused(tune, tmp_path, planted_card, planted_placement):
    other = tmp_path / "placement.json"
    other.write_bytes(planted_placement(planted_card()).to_json())
    said = tune("--placement", other)
    assert said.code == 2
    assert "placement for another model" in said.error


# --- From Python ------------------------------------------------------------------------------


def hand(model_folder):
    return transformers.AutoModelForCausalLM.from_pretrained(model_folder)


OPTIONS = {"text_column": "text", "steps": 2, "batch_size": 4, "max_length": 16}


def test_a_model_in_hand_is_trained_in_place(model_folder, text_file):
    model = hand(model_folder)
    tuned = lw.tune(model, str(text_file), **OPTIONS)
    assert tuned.loaded.model is model
    named = lw.tune(str(model_folder), str(text_file), **OPTIONS)
    ours, theirs = model.state_dict(), named.loaded.model.state_dict()
    assert all(ours[n].equal(theirs[n]) for n in theirs)


def test_a_tokenizer_may_be_given(model_folder, text_file):
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder)
    model = type(hand(model_folder))(hand(model_folder).config)
    model.name_or_path = model.config._name_or_path = ""
    assert lw.tune(model, str(text_file), tokenizer=tokenizer, **OPTIONS).record.form == "model"
    with pytest.raises(BadInputError, match="model without a name to find its tokenizer by"):
        lw.tune(model, str(text_file), **OPTIONS)


def test_a_placed_model_trains_its_adapters(model_folder, text_file, tmp_path):
    placement = placed_on(load(str(model_folder)), [1])
    model = placement.apply(hand(model_folder))
    tuned = lw.tune(model, str(text_file), placement=placement, out=tmp_path / "out", **OPTIONS)
    assert tuned.loaded.model is model
    assert tuned.record.condition == "lora"
    assert tuned.record.placement.modules == placement.modules
    alone = lw.tune(placement.apply(hand(model_folder)), str(text_file), **OPTIONS)
    assert alone.record.placement.modules == placement.modules
    assert alone.record.placement.adapter_parameters == placement.adapter_parameters
    other = placed_on(load(str(model_folder)), [0])
    with pytest.raises(SchemaError, match="adapters on other modules than the placement's"):
        lw.tune(placement.apply(hand(model_folder)), str(text_file), placement=other, **OPTIONS)


def test_what_is_no_model_is_refused(text_file):
    with pytest.raises(BadInputError, match=r"no model: 'int'; expected a name, a transformers"):
        lw.tune(3, str(text_file), **OPTIONS)


def test_a_model_in_hand_has_no_configuration_to_be_made_from(model_folder, text_file):
    with pytest.raises(BadInputError, match="model in hand, and a configuration of another one"):
        lw.tune(hand(model_folder), str(text_file), from_config=model_folder / "config.json")


def test_a_further_option_is_declared_in_one_line(model_folder, text_file, tmp_path):
    """Without an edit elsewhere: on the command line, in its help, and checked."""
    source = Path(lw.__file__).parent
    copy = shutil.copytree(source, tmp_path / "layerwise", ignore=lambda *_: ["__pycache__"])
    groups = copy / "options" / "groups.py"
    line = '    made_up: Annotated[int, Option("Made up.", 3, least=1)]\n'
    known = "    log_every: Annotated"
    groups.write_text(groups.read_text().replace(known, line + known, 1))
    code = (
        "import sys; from layerwise.cli import main; "
        "sys.exit(main(['tune', '--help']) or main(sys.argv[1:]))"
    )
    args = ("tune", model_folder, text_file, *SHORT, "--device", "cpu", "--out", tmp_path / "o")
    command = [sys.executable, "-c", code, *map(str, args), "--made-up"]
    there = os.environ | {"PYTHONPATH": str(tmp_path)}
    run = partial(subprocess.run, capture_output=True, text=True, env=there)
    done = run([*command, "2"], check=False)
    assert done.returncode == 0, done.stderr
    assert "--made-up N" in done.stdout
    refused = run([*command, "0", "--overwrite"], check=False)
    assert refused.returncode == 2
    assert "1 or more" in refused.stderr
