"""`layerwise card`, `place` and `compare` on a small model: what they write, print and return."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

import layerwise as lw
from layerwise.files import sha256
from support.launch import together

SMALL = ("--text-column", "text", "--examples", 8, "--max-length", 16, "--rank", 2)
FILES = ["arrays.safetensors", "card.json", "report.html"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def without_measurement(card):
    """A card without what differs from run to run: times, memory, and who made it when."""
    timed = {"forward_seconds": None, "backward_seconds": None, "adapter_seconds": None}
    measured = {"seconds": 0, "peak_memory_bytes": 0, "plain_step_seconds": 0}
    outside = {"outside_forward_seconds": 0, "outside_backward_seconds": 0}
    return replace(
        card,
        layers=tuple(replace(row, **timed) for row in card.layers),
        capture=replace(card.capture, **measured, **outside),
        provenance=replace(card.provenance, created="", command=""),
        advice=None,
    )


def test_card_goes_into_a_folder_named_after_the_model(
    run, model_folder, text_file, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    said = run("card", model_folder, text_file, *SMALL, "--format", "quiet")
    assert (said.code, said.out, said.err) == (0, "", "")
    assert names(tmp_path) == ["tiny-llama-card"]
    assert names(tmp_path / "tiny-llama-card") == FILES


def test_card_is_what_python_gives(card_folder, model_folder, text_file):
    made = lw.card(
        str(model_folder), str(text_file), text_column="text", examples=8, max_length=16, rank=2
    )
    assert without_measurement(made) == without_measurement(lw.LayerCard.load(card_folder))


def test_card_takes_its_options_from_a_file(run, model_folder, text_file, tmp_path):
    config = tmp_path / "options.yaml"
    lines = ["text-column: text", "examples: 8", "max-length: 16", "rank: 4", "seed: 3"]
    config.write_text("\n".join(lines))
    out = tmp_path / "card"
    said = run("card", model_folder, text_file, "--config", config, "--rank", 2, "--out", out)
    assert said.code == 0, said.err
    card = lw.LayerCard.load(out)
    assert (card.capture.rank, card.capture.seed, card.data.examples) == (2, 3, 8)


def test_card_records_the_model_s_files(card_folder, model_folder):
    files = lw.LayerCard.load(card_folder).model.files
    assert files["model.safetensors"] == sha256(model_folder / "model.safetensors")


def test_card_measures_and_draws_what_is_asked_for(run, model_folder, text_file, tmp_path):
    options = ("--signals", "residual_norm,coherence", "--targets", "q_proj", "--charts")
    said = run("card", model_folder, text_file, *SMALL, *options, "--out", tmp_path)
    assert said.code == 0, said.err
    card = lw.LayerCard.load(tmp_path)
    assert card.capture.targets == ("q_proj",)
    assert all(row.coherence is not None and row.effective_rank is None for row in card.layers)
    pictures = {path.suffix for path in tmp_path.iterdir()} - {".json", ".html", ".safetensors"}
    assert pictures == {".png", ".svg"}


def test_card_reads_prompts(run, model_folder, text_file, tmp_path):
    options = ("--prompt-column", "question")
    said = run("card", model_folder, text_file, *SMALL, *options, "--out", tmp_path)
    assert said.code == 0, said.err
    assert lw.LayerCard.load(tmp_path).data.objective == "sft"


@pytest.fixture
def own_card(card_folder, tmp_path):
    """A copy of the card that a test may write beside."""
    for path in card_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_place_writes_and_verifies(run, own_card):
    before = (own_card / "report.html").read_bytes()
    said = run("place", own_card, "--policy", "last", "-k", 1)
    assert said.code == 0, said.err
    assert names(own_card) == sorted([*FILES, "lora_config.json", "placement.json"])
    placed = lw.Placement.load(own_card)
    assert [(b.stack, b.index) for b in placed.blocks] == [("model.layers", 1)]
    assert placed.verified.expected == placed.verified.matched == len(placed.modules) > 0
    assert "q_proj" in said.out
    assert f"{len(placed.modules)} of {len(placed.modules)}" in said.out
    assert (own_card / "report.html").read_bytes() != before


def test_place_elsewhere_leaves_the_card_s_folder_alone(run, own_card, tmp_path_factory):
    out = tmp_path_factory.mktemp("placed")
    said = run("place", own_card / "card.json", "--blocks", "0", "--rank", 4, "--out", out)
    assert said.code == 0, said.err
    assert names(own_card) == FILES
    assert names(out) == ["lora_config.json", "placement.json"]
    placed = lw.Placement.load(out)
    assert (placed.policy, placed.rank, placed.alpha) == ("manual", 4, 8)


def test_place_is_what_python_gives(run, own_card):
    assert run("place", own_card, "--policy", "random", "--seed", 5, "-k", 1).code == 0
    card = lw.LayerCard.load(own_card)
    placed = card.place(policy="random", seed=5, layers=1)
    assert replace(lw.Placement.load(own_card), verified=None) == placed


def test_a_new_card_says_that_a_placement_is_older(run, own_card, model_folder, text_file):
    assert run("place", own_card, "--format", "quiet").code == 0
    said = run("card", model_folder, text_file, *SMALL, "--out", own_card, "--overwrite")
    assert said.code == 0
    assert "placement.json is of an earlier card" in said.err


def test_place_finds_a_model_that_moved(run, own_card, model_folder):
    file = own_card / "card.json"
    plain = json.loads(file.read_text())
    plain["model"]["source"] = str(own_card / "gone")
    file.write_text(json.dumps(plain))
    refused = run("place", own_card, "--policy", "all")
    assert refused.code == 2
    assert "--model MODEL" in refused.error
    said = run("place", own_card, "--policy", "all", "--model", model_folder)
    assert said.code == 0, said.err


def test_placement_applies_to_the_model_as_verified(own_card, model_folder):
    from transformers import AutoModelForCausalLM

    placed = lw.LayerCard.load(own_card).place(policy="last", layers=1)
    adapted = placed.apply(AutoModelForCausalLM.from_pretrained(model_folder))
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad}
    meant = {f"base_model.model.{m}.lora_{x}.default.weight" for m in placed.modules for x in "AB"}
    assert trained == meant
    assert placed.lora_config().r == placed.rank


def test_compare_says_how_cards_agree(run, card_folder, model_folder, text_file, tmp_path):
    options = ("--text-column", "text", "--max-length", 16, "--rank", 2, "--seed", 1)
    out = ("--out", tmp_path, "--format", "quiet")
    assert run("card", model_folder, text_file, *options, *out).code == 0
    said = run("compare", card_folder, tmp_path, "--format", "json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["schema"] == "layerwise/comparison/1"
    cards = [lw.LayerCard.load(folder) for folder in (card_folder, tmp_path)]
    assert found["pairs"][0]["spearman"] == lw.compare(*cards).pairs[0].spearman
    assert run("compare", card_folder, tmp_path).out != ""
    assert run("compare", card_folder, tmp_path, "--format", "quiet").out == ""


def python(*args, **options):
    command = [sys.executable, "-m", "layerwise", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_module_and_version():
    said = python("--version")
    assert (said.returncode, said.stdout, said.stderr) == (0, f"layerwise {lw.__version__}\n", "")


def test_a_reader_that_leaves_is_no_error():
    command = [sys.executable, "-m", "layerwise", "card", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_two_processes_make_one_card(card_folder, model_folder, text_file, tmp_path):
    args = ("card", model_folder, text_file, *SMALL, "--batch-size", 2, "--out", tmp_path)
    said = together("layerwise", [*map(str, args), "--format", "json", "--device", "cpu"])
    assert said.codes == [0, 0], said.stderr
    assert said.stdout.encode() == (tmp_path / "card.json").read_bytes()
    alone, both = lw.LayerCard.load(card_folder), lw.LayerCard.load(tmp_path)
    for column in ("residual_norm", "coherence", "effective_rank", "activation_gradient", "gain"):
        assert both.column(column) == pytest.approx(alone.column(column), rel=1e-5)
    assert both.data == alone.data
