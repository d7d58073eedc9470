"""The two real models of the project load as what they are."""

import hashlib
import shutil

import pytest
import torch

from layerwise.errors import ModelError
from layerwise.models.load import load, load_skeleton
from layerwise.models.targets import resolve_targets

pytestmark = [pytest.mark.real_model, pytest.mark.slow]


def state_hash(model):
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.contiguous().numpy().tobytes())
    return digest.hexdigest()


def test_the_demo_is_smollm2(demo, smollm2):
    (stack,) = demo.stacks
    assert (stack.name, len(stack.blocks), stack.block_class) == (
        "model.layers", 30, "LlamaDecoderLayer",
    )  # fmt: skip
    assert (demo.kind, demo.model.dtype) == ("causal", torch.float32)
    assert list(demo.files) == [smollm2[1]]
    assert demo.source == "demo"
    assert {t.suffix for t in resolve_targets(demo.model, demo.stacks)} == {
        "q_proj", "k_proj", "v_proj", "o_proj",
    }  # fmt: skip


def test_the_demo_knows_english(demo):
    inputs = demo.tokenizer("The capital of France is", return_tensors="pt")
    with torch.no_grad():
        logits = demo.model(**inputs).logits
    assert logits.isfinite().all()
    assert demo.tokenizer.decode(logits[0, -1].argmax()).strip() == "Paris"


def test_loading_twice_gives_the_same_weights(demo, smollm2):
    again = load(str(smollm2[0] / smollm2[1]), device="cpu")
    assert state_hash(again.model) == state_hash(demo.model)
    assert (again.files, again.stacks) == (demo.files, demo.stacks)


def test_the_demos_skeleton(demo):
    skeleton = load_skeleton("demo")
    assert (skeleton.stacks, skeleton.kind) == (demo.stacks, demo.kind)
    names = [name for name, _ in demo.model.named_modules()]
    assert [name for name, _ in skeleton.model.named_modules()] == names


def test_a_folder_with_one_gguf_file_is_that_file(smollm2):
    assert load_skeleton(str(smollm2[0])).source == str(smollm2[0] / smollm2[1])


def test_minilm_is_an_encoder(minilm):
    loaded = load(str(minilm), device="cpu")
    assert (loaded.kind, loaded.notes) == ("encoder", ())
    assert [(s.name, len(s.blocks)) for s in loaded.stacks] == [("encoder.layer", 6)]
    inputs = loaded.tokenizer(
        ["a cat", "a small cat", "tax law"], padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        vectors = torch.nn.functional.normalize(
            loaded.model(**inputs).last_hidden_state.mean(1), dim=-1
        )
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


def test_minilm_with_its_weights_cut(minilm, tmp_path):
    for name in ("config.json", "tokenizer.json", "vocab.txt"):
        shutil.copy(minilm / name, tmp_path)
    with (minilm / "model.safetensors").open("rb") as whole:
        (tmp_path / "model.safetensors").write_bytes(whole.read(1_000_000))
    with pytest.raises(ModelError, match="model that cannot be read"):
        load(str(tmp_path), device="cpu")
