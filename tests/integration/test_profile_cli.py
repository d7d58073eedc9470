"""`layerwise profile` from the command line."""

import json

import peft
import pytest
import torch

from layerwise.models.load import load
from layerwise.profile.record import Profile


@pytest.fixture(scope="module")
def tuned_folder(model_folder, tiny_text, tmp_path_factory):
    """The model with its last block moved."""
    folder = tmp_path_factory.mktemp("tuned") / "tiny-tuned"
    loaded = load(str(model_folder))
    torch.manual_seed(0)
    for name, parameter in loaded.model.named_parameters():
        if "layers.1." in name:
            parameter.data.add_(0.3 * parameter.std() * torch.randn_like(parameter))
    loaded.model.save_pretrained(folder)
    tiny_text.tokenizer(frame="causal").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapter_folder(model_folder, tmp_path_factory):
    """An adapter on the model's first block, whose MLP never trained."""
    folder = tmp_path_factory.mktemp("adapted") / "adapter"
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "down_proj"], layers_to_transform=[0])
    model = peft.get_peft_model(load(str(model_folder)).model, config)
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "q_proj.lora_B" in name:
            parameter.data.normal_(std=0.2)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def card_folder(model_folder, probes, tmp_path_factory):
    """A card of the model."""
    from layerwise.cli import main

    folder = tmp_path_factory.mktemp("card") / "card"
    args = ["card", model_folder, probes, "--out", folder, "--format", "quiet"]
    assert main([str(arg) for arg in args]) == 0
    return folder


@pytest.fixture(scope="module")
def probes(tmp_path_factory):
    file = tmp_path_factory.mktemp("probes") / "probes.txt"
    file.write_text("\n".join(f"w{i} w{(3 * i) % 50} w{(7 * i + 1) % 50}" for i in range(20)))
    return file


def test_profile_writes_the_record_and_the_page(run, model_folder, tuned_folder, probes, tmp_path):
    out = tmp_path / "moved"
    args = ["--probes", probes, "--out", out, "--readout", "residual", "--seed", "3"]
    said = run("profile", model_folder, tuned_folder, *args)
    assert said.code == 0
    assert said.err == ""
    assert "Depth profile: tiny-llama → tiny-tuned" in said.out
    assert str(out / "profile.json") in said.out.replace("\n", "")
    made = Profile.load(out)
    assert (made.readout, made.probes.inputs, made.probes.seed) == ("residual", 20, 3)
    assert [b.procrustes > 0 for b in made.blocks] == [False, True]
    assert b"<html" in (out / "report.html").read_bytes()
    again = run("profile", model_folder, tuned_folder, *args)
    assert again.code == 2
    assert "already holds a profile.json" in again.error
    assert run("profile", model_folder, tuned_folder, *args, "--overwrite").code == 0


def test_json_is_the_record(run, model_folder, tuned_folder, probes, tmp_path):
    said = run(
        "profile", model_folder, tuned_folder, "--probes", probes, "--out", tmp_path / "out",
        "--format", "json", "--examples", "10", "--max-length", "3",
    )  # fmt: skip
    record = json.loads(said.out)
    assert record["schema"] == "layerwise/profile/1"
    assert record["probes"]["inputs"] == 10
    assert record["notes"][-1] == "10 probes were cut at 3 tokens"
    for key in ("depths", "slope", "slope_low", "slope_high", "cka_slope", "width", "noise_floor"):
        assert key in record
    assert record["untrained_modules"] == []


def test_charts_are_files_too(run, model_folder, tuned_folder, probes, tmp_path):
    args = ["--probes", probes, "--out", tmp_path, "--charts", "--format", "quiet"]
    assert run("profile", model_folder, tuned_folder, *args).code == 0
    assert list(tmp_path.glob("*.svg"))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--stack", "model.layer"], "unknown stack: 'model.layer'"),
        (["--readout", "last"], "of --readout: 'last'; expected one of hf, residual, normed"),
        (["--probes", "none.txt"], "none.txt"),
    ],
)
def test_bad_input_is_one_line(run, model_folder, tuned_folder, tmp_path, args, message):
    said = run("profile", model_folder, tuned_folder, "--out", tmp_path / "out", *args)
    assert said.code == 2
    assert message in said.error


def test_models_that_cannot_be_compared(run, model_folder, tiny_text, tmp_path):
    tiny_text.model("gpt2").save_pretrained(tmp_path / "gpt2")
    tiny_text.tokenizer(frame="causal").save_pretrained(tmp_path / "gpt2")
    said = run("profile", model_folder, tmp_path / "gpt2", "--out", tmp_path / "out")
    assert said.code == 2
    assert "models of different stacks" in said.error
    assert not (tmp_path / "out" / "profile.json").exists()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is:FutureWarning")
def test_an_adapter_is_audited_beside_a_card(
    run, model_folder, adapter_folder, card_folder, probes, tmp_path
):
    out = tmp_path / "out"
    args = ["--probes", probes, "--out", out, "--card", card_folder]
    said = run("profile", model_folder, adapter_folder, *args)
    assert said.code == 0
    text = " ".join(said.out.split())
    assert "LORA: 2 modules in 1 block, rank 4" in text
    assert "1 of 2 adapters are dead, they change nothing, in block 0." in text
    assert "Card The card (gain) would have taken block" in text
    audit = Profile.load(out).audit
    assert audit.dead == ("model.layers.0.mlp.down_proj",)
    assert len(audit.card.blocks) == 1
    assert "The adapter by module" in (out / "report.html").read_text()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is:FutureWarning")
@pytest.mark.parametrize(
    ("card", "message"), [("nowhere", "no such file"), ("foreign", "a card of other weights")]
)
def test_a_card_that_is_not_there_or_another_s_is_one_line(
    run, model_folder, adapter_folder, card_folder, probes, tmp_path, card, message
):
    record = json.loads((card_folder / "card.json").read_text())
    record["model"]["files"] = {"model.safetensors": "0" * 64}
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "card.json").write_text(json.dumps(record))
    args = ["--probes", probes, "--out", tmp_path / "out", "--card", tmp_path / card]
    said = run("profile", model_folder, adapter_folder, *args)
    assert said.code == 2
    assert message in said.error
    assert not (tmp_path / "out").exists()


def test_a_card_needs_an_adapter(run, model_folder, tuned_folder, card_folder, probes, tmp_path):
    args = ["--probes", probes, "--out", tmp_path / "out", "--card", card_folder]
    said = run("profile", model_folder, tuned_folder, *args)
    assert said.code == 2
    assert "card beside what cannot be audited: there is no adapter" in said.error
    assert "try: layerwise profile BASE ADAPTER --card CARD" in said.error
