"""The audit beside another tool's, on the same adapter: gradience 0.11, in an environment apart."""

import json
import os
import subprocess
import sys
import warnings

import peft
import pytest
import torch
from safetensors.torch import save_file

import layerwise as lw
from layerwise.models.load import load

# PEFT reads an attribute that transformers is renaming.
pytestmark = [
    pytest.mark.slow,  # Brings a package and starts a second interpreter.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is:FutureWarning"),
]
VERSION = "gradience==0.11.0"
TEXTS = [" ".join(f"w{(i * j + 3 * i + j) % 50}" for j in range(2 + i % 6)) for i in range(12)]

# It takes one "model." less off PEFT's names than there is, so that weights are given with one more
# ("base_model.model.model.layers" as "model.model.layers").
SCRIPT = """
import json, sys
from gradience.vnext.audit.lora_audit import audit_lora_state_dict, load_peft_adapter_config
from safetensors.torch import load_file
folder, weights = sys.argv[1:]
base = {"model." + name: weight for name, weight in load_file(weights).items()}
found = audit_lora_state_dict(
    load_file(folder + "/adapter_model.safetensors"),
    adapter_config=load_peft_adapter_config(folder + "/adapter_config.json"),
    base_model_weights=base,
)
print(json.dumps({layer.name: layer.to_dict() for layer in found.layers}))
"""


@pytest.fixture(scope="module")
def gradience(tmp_path_factory):
    """A function that runs gradience's audit of an adapter folder on a base's weights."""
    place = tmp_path_factory.mktemp("gradience")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(place)]
    got = subprocess.run([*pip, VERSION], capture_output=True, text=True, check=False)
    if got.returncode:
        pytest.skip(f"{VERSION} cannot be had: {got.stderr.strip().splitlines()[-1:]}")

    def audit(folder, weights):
        there = os.environ | {"PYTHONPATH": str(place)}
        command = [sys.executable, "-c", SCRIPT, str(folder), str(weights)]
        said = subprocess.run(command, capture_output=True, text=True, check=True, env=there)
        return json.loads(said.stdout.splitlines()[-1])

    return audit


@pytest.fixture(scope="module")
def folders(tiny_text, tmp_path_factory):
    """A base and an adapter of several ranks on it, one module of which never trained."""
    root = tmp_path_factory.mktemp("audited")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = load(str(tiny_text.save(root / "base"))).model
        save_file({k: v.clone() for k, v in base.state_dict().items()}, root / "base.safetensors")
        config = peft.LoraConfig(
            r=6, target_modules=["q_proj", "down_proj"], rank_pattern={"down_proj": 3}
        )
        model = peft.get_peft_model(base, config)
        torch.manual_seed(2)
        for key, parameter in model.named_parameters():
            if "lora_B" in key and "layers.0.self_attn" not in key:
                parameter.data.normal_(std=0.05)
        model.save_pretrained(root / "adapter")
    return root


def test_the_figures_are_the_other_tool_s_too(gradience, folders):
    theirs = gradience(folders / "adapter", folders / "base.safetensors")
    ours = lw.profile(str(folders / "base"), str(folders / "adapter"), probes=TEXTS, bootstrap=10)
    assert len(theirs) == len(ours.audit.modules) == 4
    for module in ours.audit.modules:
        other, update = theirs[f"base_model.model.{module.name}"], module.update
        assert module.rank == other["r"]
        assert module.parameters == other["params"]
        assert update.spectral_norm == pytest.approx(other["delta_sigma_max"], rel=1e-5)
        assert update.frobenius_norm == pytest.approx(other["delta_fro_norm"], rel=1e-5)
        assert update.stable_rank == pytest.approx(other["stable_rank"], rel=1e-5)
        assert update.effective_rank == pytest.approx(other["effective_rank"], rel=1e-5)
        for share in (90, 95, 99):
            key = f"energy_rank_{share}"
            assert getattr(update, key) == other[key]
        assert module.dominance == pytest.approx(other["rel_delta_op"], rel=1e-4)
        assert module.relative_norm == pytest.approx(other["rel_delta_fro"], rel=1e-4)
        assert module.dead == (other["sigma_max"] == 0.0)
    assert sum(m.dead for m in ours.audit.modules) == 1


def test_what_weights_alone_cannot_tell_is_there_too(folders):
    made = lw.profile(str(folders / "base"), str(folders / "adapter"), probes=TEXTS, bootstrap=10)
    changes = {m.name: m.output_change for m in made.audit.modules}
    dead = made.audit.dead[0]
    assert changes.pop(dead) == 0.0
    assert all(change > 0.0 for change in changes.values())
    assert made.blocks[-1].procrustes > 0.0
