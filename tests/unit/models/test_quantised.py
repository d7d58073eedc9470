"""Weights that are codes: known by what they are, counted and measured as what they stand for."""

import pytest
import torch
from torch import nn

from layerwise.errors import BadInputError, ModelError, UnknownNameError
from layerwise.models.linear import (
    is_packed,
    packed_modules,
    parameter_count,
    passes_gradient,
    weight_of,
    widths,
)
from layerwise.models.load import load
from layerwise.models.meta import meta_copy
from layerwise.models.quantisation import quantisation, refuse_without_gradient, unpack
from layerwise.models.targets import adaptable, resolve_targets
from support import quantised
from support.versions import since


class Deaf(nn.Linear):
    """Rounds its input, as kernels for 8-bit activations do: no gradient comes through."""

    def __init__(self, plain):
        super().__init__(plain.in_features, plain.out_features, bias=False)
        codes = (plain.weight.detach() * 64).to(torch.int8)
        self.weight = nn.Parameter(codes, requires_grad=False)

    def forward(self, x):
        return x.detach() @ self.weight.T.to(x.dtype) / 64


class Codes(nn.Linear):
    """Keeps its weight as codes of 8 bits that any gradient comes through, and nothing else."""

    def __init__(self, plain):
        super().__init__(plain.in_features, plain.out_features, bias=False)
        self.scale = float(plain.weight.detach().abs().max()) / 127
        codes = (plain.weight.detach() / self.scale).round().to(torch.int8)
        self.weight = nn.Parameter(codes, requires_grad=False)
        self.weight.extra = "kept"

    def forward(self, x):
        return x @ (self.weight.T.to(x.dtype) * self.scale)


@pytest.fixture
def gptq(monkeypatch):
    yield quantised.stand_ins(monkeypatch)
    quantised.forget_stand_ins()


def test_a_linear_is_known_by_its_widths_and_codes(gptq):
    plain = nn.Linear(32, 24)
    coded = gptq.BaseQuantLinear(plain)
    assert widths(coded) == widths(plain) == (32, 24, False)
    assert (is_packed(plain), is_packed(coded)) == (False, True)
    assert widths(nn.Embedding(4, 8)) is None
    assert widths(nn.Sequential(plain)) is None
    assert parameter_count(coded) == parameter_count(plain) == 32 * 24 + 24
    assert torch.allclose(weight_of(coded), coded.numbers().T)
    # At most half a code away from the weight that was packed.
    half = plain.weight.abs().amax(1) / 14
    assert bool(((weight_of(coded) - plain.weight).abs() <= half[:, None] + 1e-6).all())
    assert weight_of(plain).data_ptr() == plain.weight.data_ptr()


def test_a_wide_weight_is_read_in_parts(gptq):
    coded = gptq.BaseQuantLinear(nn.Linear(2056, 8, bias=False))
    assert torch.allclose(weight_of(coded), coded.numbers().T)


def test_the_meta_copy_keeps_classes_and_attributes_and_copies_no_numbers():
    it = quantised.in_hand(Codes)
    copy = meta_copy(it.model)
    before, after = (m.model.layers[1].mlp.up_proj for m in (it.model, copy))
    assert type(after) is Codes
    assert after.weight.is_meta
    assert (after.weight.dtype, after.weight.extra) == (torch.int8, "kept")
    assert copy.lm_head.weight.shape == it.model.lm_head.weight.shape
    after.added, copy.config.hidden_size = 1, 3
    after.register_forward_hook(print)
    copy.model.layers[1].mlp.other = nn.Identity()
    assert not hasattr(before, "added")
    assert not before._forward_hooks
    assert not hasattr(it.model.model.layers[1].mlp, "other")
    assert it.model.config.hidden_size == 64
    assert copy.config is copy.model.config


def test_codes_that_no_gradient_passes_through_are_refused():
    it = quantised.in_hand(Deaf)
    assert not passes_gradient(it.model.model.layers[0].mlp.up_proj)
    with pytest.raises(ModelError, match="no gradient passes through here: 'Parameter of Deaf'"):
        refuse_without_gradient(it.model)
    refuse_without_gradient(quantised.in_hand(Codes).model)


def test_what_peft_has_no_adapter_for_is_no_target(gptq):
    class Unknown(nn.Module):
        def __init__(self, plain):
            super().__init__()
            self.in_features, self.out_features = plain.in_features, plain.out_features
            self.register_buffer("codes", plain.weight.detach().to(torch.int8))

    it = quantised.in_hand(Unknown)
    assert adaptable(it.model, it.stacks) == ()
    with pytest.raises(BadInputError, match="that PEFT can adapt: 'Unknown of NoneType"):
        resolve_targets(it.model, it.stacks)
    it = quantised.in_hand(gptq.BaseQuantLinear)
    assert len(adaptable(it.model, it.stacks)) == 21


def test_unpacked_codes_compute_the_same(gptq):
    it = quantised.in_hand(gptq.AwqLinear)
    ids = torch.arange(10, 30)[None]
    with torch.no_grad():
        before = it.model(ids).logits
        assert quantisation(it.model) == {
            "method": "gptqmodel", "kind": "gptqmodel 4 bits", "bits": 4, "saved": False,
        }  # fmt: skip
        assert unpack(it.model) == 21
        assert not packed_modules(it.model)
        assert torch.allclose(it.model(ids).logits, before, atol=1e-6)


@since("5.17", "8-bit floats ask for triton before 5.7 or so, and fail of themselves in 5.16")
def test_8_bit_floats_are_read_as_what_they_stand_for(tmp_path):
    meant = quantised.save_fp8(tmp_path)
    it = load(str(tmp_path))
    assert "its fp8 weights were dequantised to float32 as they were loaded" in it.notes[0]
    assert quantisation(it.model) is None
    found = dict(it.model.named_parameters())
    assert all(torch.equal(found[name], weight) for name, weight in meant.items())
    assert getattr(it.model, "hf_quantizer", None) is None  # It trains and is saved as any other.


@pytest.mark.slow
def test_4_bit_floats_of_experts_are_read_as_what_they_stand_for(tmp_path):
    quantised.save_mxfp4(tmp_path)
    it = load(str(tmp_path))
    assert any("its mxfp4 weights were dequantised" in note for note in it.notes)
    values = it.model.model.layers[0].mlp.experts.gate_up_proj.abs().unique()
    # The eight magnitudes of E2M1, times 2 to the exponent of every block, 122 - 127.
    assert values.tolist() == [x / 32 for x in (0, 0.5, 1, 1.5, 2, 3, 4, 6)]


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ("yes", "quantisation|cannot be read"),
        ({}, "no known quant_method"),
        ({"quant_method": "foo"}, "no known quant_method"),
        ({"quant_method": ["fp8"]}, "no known quant_method"),
        ({"quant_method": "gptq", "bits": 4}, "library is not installed: 'gptq'; expected gptqmod"),
        ({"quant_method": "fp8"}, "quantization_config beside weights that are plain: 'fp8'"),
    ],
)
def test_what_config_json_says_is_checked(tmp_path, config, error):
    quantised.save(tmp_path)
    quantised.declare(tmp_path)
    path = tmp_path / "config.json"
    if config != {}:
        import json

        path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": config}))
    with pytest.raises(ModelError, match=error) as raised:
        load(str(tmp_path))
    assert "\n" not in str(raised.value)


def test_what_cannot_be_quantised_as_it_is_loaded_is_refused(tmp_path, monkeypatch):
    import layerwise as lw
    from layerwise.models import quantisation as module
    from support import tuning

    folder = quantised.save(tmp_path / "plain")
    with pytest.raises(UnknownNameError, match="unknown quantisation: 'nf5'; expected one of nf4"):
        load(folder, quantize="nf5")
    with pytest.raises(BadInputError, match="quantisation of a model in hand: 'nf4'"):
        lw.card(tuning.loaded(), tuning.data(), quantize="nf4")
    monkeypatch.setattr(module, "absent", lambda *names: names)
    said = r"not installed: 'bitsandbytes'.*try: pip install 'layerwise\[quantised\]'"
    with pytest.raises(ModelError, match=said):
        load(folder, quantize="nf4")
    monkeypatch.setattr(module, "absent", lambda *_: ())
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(
        f'{{"peft_type": "LORA", "base_model_name_or_path": "{folder}"}}'
    )
    (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"quantisation of an adapter folder.*a full model"):
        load(str(tmp_path / "adapter"), quantize="nf4")
    quantised.save_fp8(tmp_path / "fp8")
    with pytest.raises(ModelError, match=r"quantised already: 'fp8'.*drop --quantize"):
        load(str(tmp_path / "fp8"), quantize="nf4")


def test_training_codes_whole_is_refused_and_lora_is_named():
    from support import tuning

    it = quantised.in_hand(Codes)
    with pytest.raises(BadInputError, match=r"full fine-tuning of weights in .*--condition lora"):
        tuning.tune(it, condition="standard")


def test_rivals_that_are_scored_by_weights_see_what_codes_stand_for():
    from types import SimpleNamespace

    from layerwise.errors import PlacementError
    from layerwise.measure.scores import SCORES

    coded, plain = (quantised.in_hand(Codes) for _ in range(2))
    unpack(plain.model)
    layers = [SimpleNamespace(modules=(f"model.layers.{i}.mlp.up_proj",)) for i in range(3)]
    found = [
        SCORES["kappa"](SimpleNamespace(card=SimpleNamespace(layers=layers), loaded=it))
        for it in (coded, plain)
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    with pytest.raises(PlacementError, match="gradients of weights, which are codes here"):
        SCORES["gradient"](SimpleNamespace(loaded=coded))
