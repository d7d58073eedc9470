"""What is trained from an adapter is whole, and can be read again."""

import json

import pytest
import torch

import layerwise as lw
from layerwise.cli import main
from layerwise.models.load import load
from support import adapters as made

# PEFT reads an attribute that transformers is renaming.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is")

STILL = {"steps": 1, "batch_size": 2, "learning_rate": 1e-12, "weight_decay": 0.0, "device": "cpu"}


@pytest.fixture
def texts(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(" ".join(f"w{(i * j) % 50}" for j in range(3, 9)) for i in range(12)))
    return str(file)


@pytest.mark.parametrize("condition", ["standard", "lora"])
@pytest.mark.parametrize("kind", ["dora", "tied-tokens", "replicated", "fused-experts"])
def test_a_model_tuned_from_an_adapter_is_whole(tmp_path, texts, kind, condition):
    named, make = made.PLAIN[kind]
    base = made.base(tmp_path / "base", named)
    wanted = made.logits(made.saved(tmp_path / "adapter", base, make()))
    out = tmp_path / "out"
    tuned = lw.tune(
        str(tmp_path / "adapter"), texts, condition=condition, out=out, overwrite=True, **STILL
    )
    assert any("merged into" in note for note in tuned.record.notes)
    found = load(str(out))
    torch.testing.assert_close(made.logits(found.model), wanted, rtol=1e-3, atol=1e-3)
    assert found.base is None


def test_the_commands_on_an_adapter_of_an_embedder_and_one_without_a_base(tmp_path, texts, capsys):
    base = made.base(tmp_path / "base", "llama")
    config = made.lora(task_type="FEATURE_EXTRACTION")
    made.saved(tmp_path / "a", base, config, auto=made.tf.AutoModel)
    file = tmp_path / "a" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": None}))
    how = ["--device", "cpu", "--format", "quiet"]
    profile = ["profile", str(base), str(tmp_path / "a"), *how, "--verify", "--probes", texts]
    assert main([*profile, "--out", str(tmp_path / "p"), "--bootstrap", "10"]) == 0
    notes = json.loads((tmp_path / "p" / "profile.json").read_text())["notes"]
    assert any(note.startswith("the adapter names no base; it was put on") for note in notes)
    assert any(note.startswith("verified: the merged model's states are PEFT's") for note in notes)
    assert main(["card", str(tmp_path / "a"), texts, *how, "--out", str(tmp_path / "c")]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "adapter that names no base model" in said
    assert "layerwise profile BASE ADAPTER" in said
