"""Profiles of real models whose late blocks were moved by hand, and of an adapter on GGUF."""

import warnings
from dataclasses import replace

import peft
import pytest
import torch

import layerwise as lw
from layerwise.data import probes
from layerwise.models.load import load
from layerwise.profile.probe_reading import ProbeReading, as_probe_set

pytestmark = [pytest.mark.long, pytest.mark.real_model]


def move(model, blocks, share=0.05):
    """Noise on every matrix of `blocks`, by their module names."""
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and any(f"{block}." in name for block in blocks):
            parameter.data.add_(share * parameter.std() * torch.randn_like(parameter))


def profiled(loaded, blocks):
    """The profile of `loaded` before and after its `blocks` are moved."""
    half = probes()[::2]  # Where a change is does not take them all.
    before = ProbeReading(as_probe_set(half)).states(loaded)
    move(loaded.model, blocks)
    return lw.profile(before, loaded, probes=half)


@pytest.fixture(scope="module")
def smollm2_moved(smollm2):
    loaded = load("demo")
    return profiled(loaded, loaded.stacks[0].blocks[24:])


def test_late_change_in_smollm2_is_seen_late(smollm2_moved):
    for readout in smollm2_moved.readouts.values():
        assert {block.procrustes for block in readout.blocks[:24]} == {0.0}
        late = readout.blocks[24:]
        assert min(block.procrustes for block in late) > 0
        assert min(block.noise for block in late) > 0
        assert readout.slope_low > 0
        assert sum(readout.width[:5]) == 0.0
    assert smollm2_moved.probes.inputs == 145


def test_every_measure_sees_it(smollm2_moved):
    last = smollm2_moved.readouts["residual"].blocks[-1]
    assert min(last.cka, last.rsa, last.shared_pca_cka) > 0
    assert last.shared_pca_cka == pytest.approx(last.cka, rel=0.1)


def test_late_change_in_an_encoder_is_seen_late(minilm):
    loaded = load(str(minilm))
    made = profiled(loaded, loaded.stacks[0].blocks[4:])
    assert [block.procrustes > 0 for block in made.blocks] == [False] * 4 + [True] * 2
    assert made.readouts["hf"] == made.readouts["normed"]  # it has no final norm
    assert made.slope_low > 0


def test_an_adapter_on_a_gguf_file_is_put_onto_its_one_copy(smollm2, tmp_path):
    base = load("demo")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = peft.LoraConfig(r=2, target_modules=["v_proj"], layers_to_transform=[20, 29])
        model = peft.get_peft_model(base.model, config)
        torch.nn.init.normal_(
            model.get_submodule(
                "base_model.model.model.layers.29.self_attn.v_proj.lora_B.default"
            ).weight,
            std=0.02,
        )
        model.save_pretrained(tmp_path)
    few = probes()[::8]
    in_hand = lw.profile(None, replace(base, model=model), probes=few)
    named = lw.profile("demo", str(tmp_path), probes=few)
    for made in (in_hand, named):
        assert [b.index for b in made.blocks if b.procrustes > 0] == [29]
        assert made.untrained_modules == ("model.layers.20.self_attn.v_proj",)
    assert named.blocks[29].procrustes == pytest.approx(in_hand.blocks[29].procrustes, rel=1e-3)
