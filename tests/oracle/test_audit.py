"""Audits of adapters against the formed change of each weight, the slow way."""

import warnings

import numpy as np
import peft
import pytest
import torch

from layerwise.profile.audit import make_audit
from layerwise.profile.audit_outputs import record_outputs

# PEFT reads an attribute that transformers is renaming.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is:FutureWarning")

LORA = {
    "llama": {"target_modules": ["q_proj", "down_proj"], "r": 4},
    "gpt2": {"target_modules": ["c_attn", "c_proj"], "r": 4, "lora_alpha": 24},
    "bert": {"target_modules": ["query", "dense", "word_embeddings"], "r": 4},
    "t5": {"target_modules": ["q", "wo"], "r": 3, "use_rslora": True},
    "opt": {
        "target_modules": ["q_proj", "fc1"],
        "r": 4,
        "rank_pattern": {"fc1": 7},
        "alpha_pattern": {"fc1": 3},
    },
    "gpt_neox": {"target_modules": ["query_key_value"], "r": 4, "use_dora": True},
    "gemma3": {"target_modules": ["q_proj"], "r": 40},
    "mamba": {"target_modules": ["in_proj", "x_proj"], "r": 4},
}


def adapted(tiny, name, *, std=0.1, config=None, **options):
    """A tiny model with adapters that are as after training."""
    loaded = tiny.build(name)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
        model = peft.get_peft_model(loaded.model, config or peft.LoraConfig(**options))
    torch.manual_seed(5)
    for key, parameter in model.named_parameters():
        if any(part in key for part in ("lora_B", "lora_embedding_A", "lora_E", "magnitude")):
            parameter.data.add_(std * torch.randn_like(parameter))
    return model.eval()


def entropy_rank(values):
    shares = values[values > 1e-9 * values[0]] / values.sum()
    return np.exp(-(shares * np.log(shares)).sum())


def held(values, share):
    """How many of `values` hold `share` of the energy, counted one by one."""
    energy, total = 0.0, float((values**2).sum())
    for count, value in enumerate(values, start=1):
        energy += value**2
        if energy >= share * total:
            return count
    return len(values)


def check(found, delta, weight):
    """Holds `found` against the formed change and the weight, as matrices."""
    values = np.linalg.svd(delta.double().numpy(), compute_uv=False)
    base = np.linalg.svd(weight.double().numpy(), compute_uv=False)
    update = found.update
    assert update.spectral_norm == pytest.approx(values[0], rel=1e-5)
    assert update.frobenius_norm == pytest.approx(np.linalg.norm(values), rel=1e-5)
    assert update.stable_rank == pytest.approx((values**2).sum() / values[0] ** 2, rel=1e-4)
    assert update.effective_rank == pytest.approx(entropy_rank(values[: found.rank]), rel=1e-3)
    for share in (90, 95, 99):
        assert getattr(update, f"energy_rank_{share}") == held(values, share / 100)
    assert found.dominance == pytest.approx(values[0] / base[0], rel=1e-4)
    assert found.relative_norm == pytest.approx(float(delta.norm() / weight.norm()), rel=1e-4)
    assert not found.dead


@pytest.mark.parametrize("name", LORA)
def test_every_figure_is_that_of_the_formed_update(tiny, name):
    model = adapted(tiny, name, **LORA[name])
    audit = make_audit(model, {})
    layers = {n: m for n, m in model.get_base_model().named_modules() if hasattr(m, "lora_A")}
    assert {m.name for m in audit.modules} == set(layers)
    assert audit.unread == {}
    for found in audit.modules:
        layer = layers[found.name]
        delta = layer.get_delta_weight("default").detach()
        check(found, delta, layer.get_base_layer().weight.detach())
        assert found.rank == layer.r["default"]


@pytest.mark.parametrize("name", ["gpt_neox", "gpt2"])
def test_dora_counts_its_magnitudes_in_the_whole(tiny, name):
    model = adapted(tiny, name, **(LORA[name] | {"use_dora": True}))
    for key, parameter in model.named_parameters():
        if "magnitude" in key:
            parameter.data.mul_(1.5)
    layers = dict(model.get_base_model().named_modules())
    for found in make_audit(model, {}).modules:
        layer = layers[found.name]
        before = layer.get_base_layer().weight.detach().clone()
        layer.merge()
        change = layer.get_base_layer().weight.detach() - before
        share = float(change.norm() / before.norm())
        assert found.whole_relative_norm == pytest.approx(share, rel=1e-4)
        assert found.whole_relative_norm > found.relative_norm


def test_adalora_is_a_product_with_its_values(tiny):
    config = peft.AdaLoraConfig(target_modules=["query"], init_r=5, target_r=2, total_step=10)
    model = adapted(tiny, "bert", config=config, std=0.5)
    layers = dict(model.get_base_model().named_modules())
    audit = make_audit(model, {})
    assert audit.kinds == ("ADALORA",)
    for found in audit.modules:
        delta = layers[found.name].get_delta_weight("default").detach()
        check(found, delta, layers[found.name].get_base_layer().weight.detach())


def test_experts_are_one_block_diagonal_update(tiny):
    names = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    model = adapted(tiny, "qwen3_moe", target_parameters=names, target_modules=[], r=2)
    wrappers = [m for m in model.modules() if hasattr(m, "parameter_name")]
    audit = make_audit(model, {})
    found = {m.name: m for m in audit.modules}
    assert len(found) == len(wrappers) == 6
    for row, block in enumerate(model.get_base_model().model.layers):
        wrapper = block.mlp.experts
        while hasattr(wrapper, "parameter_name"):
            delta = wrapper.get_delta_weight("default").detach()
            name = f"model.layers.{row}.mlp.experts.{wrapper.parameter_name}"
            assert (found[name].experts, found[name].rank) == (4, 8)
            check(found[name], torch.block_diag(*delta), torch.block_diag(*wrapper.get_param()))
            wrapper = wrapper.base_layer


def test_two_active_adapters_add_up(tiny):
    model = adapted(tiny, "llama", target_modules=["q_proj"], r=2)
    model.add_adapter("other", peft.LoraConfig(target_modules=["q_proj"], r=3, lora_alpha=5))
    for key, parameter in model.named_parameters():
        if "lora_B.other" in key:
            parameter.data.normal_(std=0.2)
    model.base_model.set_adapter(["default", "other"])
    layers = dict(model.get_base_model().named_modules())
    for found in make_audit(model, {}).modules:
        layer = layers[found.name]
        delta = sum(layer.get_delta_weight(name).detach() for name in ("default", "other"))
        assert found.rank == 5
        check(found, delta, layer.get_base_layer().weight.detach())


class Image(torch.nn.Module):
    """Two convolutions in a list, as blocks."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.ModuleList(torch.nn.Conv2d(6, 6, k, padding="same") for k in (1, 3))


def test_a_convolution_s_kernels_are_rows():
    from layerwise.profile.audit_update import adapted_layers, update
    from layerwise.signals.spectrum import product_singular_values

    model = peft.get_peft_model(Image(), peft.LoraConfig(target_modules=["0", "1"], r=3))
    for _, layer in adapted_layers(model):
        layer.lora_B["default"].weight.data.normal_(std=0.3)
        found = update("conv", layer)
        delta = layer.get_delta_weight("default").detach().flatten(1)
        values = np.linalg.svd(delta.double().numpy(), compute_uv=False)[:3]
        assert product_singular_values(found.up, found.down) == pytest.approx(values, rel=1e-5)
        assert found.base.shape[1:] == delta.shape


# --- On real inputs ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "t5", "gpt_neox"])
def test_output_changes_are_those_of_each_module_alone(tiny, name):
    """Against each module run twice on the input that it got, example by example."""
    model = adapted(tiny, name, **LORA[name])
    batch, inputs = tiny.batch(name), {}
    layers = {n: m for n, m in model.get_base_model().named_modules() if hasattr(m, "lora_A")}
    with record_outputs(model) as outputs, torch.no_grad():
        model(**batch.inputs)
    for key, layer in layers.items():
        layer.register_forward_pre_hook(lambda _, given, key=key: inputs.update({key: given[0]}))
    with torch.no_grad():
        model(**batch.inputs)
        mask = batch.inputs["attention_mask"].bool()
        for key, layer in layers.items():
            there = layer.get_base_layer()(inputs[key])[mask]
            change = layer(inputs[key])[mask] - there
            expected = float(change.double().norm() / there.double().norm())
            assert outputs.changes[key] == pytest.approx(expected, rel=1e-4)
    assert set(outputs.changes) == set(layers)


def test_isotropic_inputs_see_what_the_weights_say(tiny):
    """For white inputs the change of outputs is that of the weights; real inputs are not white."""
    model = adapted(tiny, "llama", **LORA["llama"])
    found = make_audit(model, {}).modules[0]
    layer = model.get_base_model().get_submodule(found.name)
    white = torch.randn(200_000, layer.in_features, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        there = layer.get_base_layer()(white)
        change = (layer(white) - there).norm() / there.norm()
    assert float(change) == pytest.approx(found.relative_norm, rel=0.01)
