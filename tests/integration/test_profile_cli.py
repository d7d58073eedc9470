"""`layerwise profile` from the command line."""

import json

import pytest

from layerwise.profile.record import Profile


def test_options_reach_the_record_and_charts_are_files_too(
    run, model_folder, tuned_folder, probes, tmp_path
):
    args = ["--probes", probes, "--out", tmp_path, "--readout", "residual", "--seed", "3"]
    few = ["--examples", "10", "--max-length", "3", "--charts", "--format", "json"]
    record = json.loads(run("profile", model_folder, tuned_folder, *args, *few).out)
    assert (record["readout"], record["probes"]["seed"]) == ("residual", 3)
    assert record["probes"]["inputs"] == 10
    assert record["notes"][-1] == "10 probes were cut at 3 tokens"
    for key in ("depths", "slope", "slope_low", "slope_high", "cka_slope", "width", "noise_floor"):
        assert key in record
    assert record["untrained_modules"] == []
    assert [b.procrustes > 0 for b in Profile.load(tmp_path).blocks] == [False, True]
    assert list(tmp_path.glob("*.svg"))


def test_models_that_cannot_be_compared(refused, model_folder, tiny_text, tmp_path):
    other = tiny_text.save(tmp_path / "gpt2", "gpt2")
    assert "models of different stacks" in refused(
        "profile", model_folder, other, "--out", tmp_path / "out"
    )
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
    refused, model_folder, adapter_folder, card_folder, probes, tmp_path, card, message
):
    record = json.loads((card_folder / "card.json").read_text())
    record["model"]["files"] = {"model.safetensors": "0" * 64}
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "card.json").write_text(json.dumps(record))
    args = ["--probes", probes, "--out", tmp_path / "out", "--card", tmp_path / card]
    assert message in refused("profile", model_folder, adapter_folder, *args)
    assert not (tmp_path / "out").exists()
