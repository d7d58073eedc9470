"""An adapter looked into: what is dead, what is wasted, what is not in the figures."""

import warnings
from types import SimpleNamespace

import numpy as np
import peft
import pytest
import torch

from layerwise.errors import ModelError, NonFiniteError
from layerwise.profile.audit import agreement, make_audit, spectrum
from layerwise.profile.audit_outputs import record_outputs
from layerwise.profile.audit_update import adapted_layers, unread_reason

# PEFT reads an attribute that transformers is renaming.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is:FutureWarning")


@pytest.fixture
def adapted(tiny):
    """Makes a tiny model with adapters whose B is as after training but in the blocks named."""

    def make(name="llama", *, config=None, untouched=(), **options):
        options = {"target_modules": ["q_proj", "down_proj"], "r": 4} | options
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = peft.get_peft_model(
                tiny.build(name).model, config or peft.LoraConfig(**options)
            )
        torch.manual_seed(3)
        for key, parameter in model.named_parameters():
            if "lora_B" in key and not any(part in key for part in untouched):
                parameter.data.normal_(std=0.1)
        return model.eval()

    return make


def test_a_dead_adapter_is_named_and_left_out_of_the_medians(adapted):
    audit = make_audit(adapted(untouched=["layers.1.", "layers.2.mlp"]), {})
    assert audit.dead == (
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.mlp.down_proj",
        "model.layers.2.mlp.down_proj",
    )
    assert [(b.index, b.modules, b.dead) for b in audit.blocks] == [(0, 2, 0), (1, 2, 2), (2, 2, 1)]
    live = [m.update for m in audit.modules if not m.dead]
    assert audit.stable_rank == np.median([u.stable_rank for u in live])
    assert audit.effective_rank == np.median([u.effective_rank for u in live])
    dead = next(m for m in audit.modules if m.dead)
    assert dead.update == spectrum(np.zeros(4))
    assert (dead.dominance, dead.relative_norm) == (0.0, 0.0)


def test_where_all_is_dead_nothing_is_a_number_out_of_nothing(adapted):
    audit = make_audit(adapted(untouched=["lora_B"]), {})
    assert len(audit.dead) == len(audit.modules) == 6
    assert (audit.stable_rank, audit.effective_rank, audit.enough_rank) == (0.0, 0.0, 0)
    assert audit.wasted_share == 1.0
    assert audit.frobenius_norm == audit.relative_norm == 0.0


def test_wasted_rank_is_counted_in_parameters(adapted):
    model = adapted(r=8)
    for _, layer in adapted_layers(model):  # Two of eight directions are used.
        layer.lora_B["default"].weight.data[:, 2:] = 0.0
    audit = make_audit(model, {})
    assert audit.wasted_share == pytest.approx(0.75)
    assert audit.enough_rank <= 2
    assert all(m.update.energy_rank_99 <= 2 for m in audit.modules)
    assert all(b.wasted_share == pytest.approx(0.75) for b in audit.blocks)


def test_norms_of_blocks_and_of_the_whole_add_up(adapted):
    audit = make_audit(adapted(), {})
    whole = sum(m.update.frobenius_norm**2 for m in audit.modules)
    assert audit.frobenius_norm**2 == pytest.approx(whole)
    assert sum(b.frobenius_norm**2 for b in audit.blocks) == pytest.approx(whole)
    base = sum(m.base_frobenius_norm**2 for m in audit.modules)
    assert audit.relative_norm == pytest.approx((whole / base) ** 0.5)
    first = [m for m in audit.modules if m.index == 0]
    assert audit.blocks[0].dominance == max(m.dominance for m in first)
    assert audit.parameters == sum(m.parameters for m in audit.modules)


@pytest.mark.parametrize(("rank", "alpha", "rslora", "scale"), [(4, 8, False, 2), (4, 8, True, 4)])
def test_the_scale_is_peft_s(adapted, rank, alpha, rslora, scale):
    audit = make_audit(adapted(r=rank, lora_alpha=alpha, use_rslora=rslora), {})
    plain = make_audit(adapted(r=rank, lora_alpha=rank), {})
    assert audit.frobenius_norm == pytest.approx(scale * plain.frobenius_norm)
    assert audit.kinds == (("LORA", "rsLoRA") if rslora else ("LORA",))


def test_what_is_outside_all_blocks_is_a_module_and_no_block(adapted):
    model = adapted(target_modules=["q_proj", "embed_tokens", "lm_head"])
    audit = make_audit(model, {})
    outside = [m.name for m in audit.modules if m.index is None]
    assert outside == ["model.embed_tokens", "lm_head"]
    assert [b.modules for b in audit.blocks] == [1, 1, 1]


def test_both_stacks_of_an_encoder_decoder(adapted):
    model = adapted("t5", target_modules=["q"], layers_to_transform=[0, 2], layers_pattern="block")
    blocks = [(b.stack, b.index) for b in make_audit(model, {}).blocks]
    assert blocks == [(s, i) for s in ("encoder.block", "decoder.block") for i in (0, 2)]


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (
            peft.IA3Config(target_modules=["q_proj"], feedforward_modules=[]),
            "this kind of adapter does not",
        ),
        (peft.LoHaConfig(target_modules=["q_proj"], r=2), "this kind of adapter does not"),
        (peft.VeraConfig(target_modules=["q_proj"], r=2), "this kind of adapter does not"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_adapters_that_are_no_product_are_named_with_the_reason(adapted, config, why):
    audit = make_audit(adapted(config=config), {})
    assert audit.modules == audit.blocks == ()
    assert list(audit.unread) == [f"model.layers.{i}.self_attn.q_proj" for i in range(3)]
    assert all(why in reason for reason in audit.unread.values())
    assert audit.wasted_share == 0.0


def test_a_convolution_in_groups_is_not_read(adapted):
    class Blocks(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(4, 4, 3, groups=2)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(Blocks(), peft.LoraConfig(target_modules=["conv"], r=2))
    (layer,) = (layer for _, layer in adapted_layers(model))
    assert unread_reason(layer) == "a convolution in groups"


def test_an_inactive_adapter_is_not_read(adapted):
    model = adapted()
    model.add_adapter("other", peft.LoraConfig(target_modules=["k_proj"], r=2))
    audit = make_audit(model, {})
    assert set(audit.unread.values()) == {"no adapter is active"}
    assert all("k_proj" in name for name in audit.unread)
    assert len(audit.modules) == 6


def test_a_factor_that_is_not_finite_is_named(adapted):
    model = adapted()
    layer = dict(adapted_layers(model))["model.layers.1.mlp.down_proj"]
    layer.lora_B["default"].weight.data[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"NaN or infinite.*layers\.1\.mlp\.down_proj"):
        make_audit(model, {})


def test_dora_that_only_rescales_is_not_dead(adapted):
    model = adapted(use_dora=True, untouched=["lora_B"])
    assert len(make_audit(model, {}).dead) == 6
    layer = dict(adapted_layers(model))["model.layers.0.self_attn.q_proj"]
    layer.lora_magnitude_vector["default"].weight.data.mul_(1.1)
    audit = make_audit(model, {})
    (alive,) = (m for m in audit.modules if not m.dead)
    assert alive.name == "model.layers.0.self_attn.q_proj"
    assert alive.whole_relative_norm == pytest.approx(0.1, rel=1e-3)
    assert alive.update.spectral_norm == 0.0
    assert any("DoRA" in note for note in audit.notes)


def test_notes_tell_what_is_not_counted(adapted):
    biased = make_audit(adapted(lora_bias=True), {})
    assert biased.notes == ("biases of B in 6 modules are not counted in ranks and norms",)
    model = adapted("bert", target_modules=["word_embeddings"], use_dora=True)
    assert "DoRA's magnitudes of 1 modules are not counted" in make_audit(model, {}).notes
    assert make_audit(adapted(modules_to_save=["lm_head"]), {}).saved_modules == ("lm_head",)
    model = adapted()
    model.peft_config["default"].modules_to_save = ["classifier", "score"]
    lost = make_audit(model, {})
    assert lost.saved_modules == ()
    assert lost.notes == (
        "what was trained whole beside the adapters (classifier, score) has no place here",
    )


def test_packed_weights_have_no_norms(adapted):
    model = adapted(target_modules=["q_proj"])
    for _, layer in adapted_layers(model):
        packed = torch.zeros(7, dtype=torch.uint8)
        layer.get_base_layer().weight = torch.nn.Parameter(packed, requires_grad=False)
    audit = make_audit(model, {})
    assert audit.relative_norm is None
    assert all(m.dominance is None and m.update.spectral_norm > 0 for m in audit.modules)
    assert audit.notes == (
        "the weights of 3 adapted modules are packed or not there: their norms are not known",
    )


def test_an_audit_leaves_the_model_as_it_was(adapted, tiny, tuning):
    model = adapted()
    with tuning.untouched(SimpleNamespace(model=model)):
        with record_outputs(model) as outputs, torch.no_grad():
            model(**tiny.batch("llama").inputs)
        make_audit(model, outputs.changes)


def test_padding_is_not_heard(adapted, tiny):
    model, whole = adapted(), tiny.batch("llama")
    changes = []
    for batches in ([whole], [tiny.row(whole, i) for i in range(4)]):
        with record_outputs(model) as outputs, torch.no_grad():
            for batch in batches:
                model(**batch.inputs)
        changes.append(outputs.changes)
    assert changes[0] == pytest.approx(changes[1], rel=1e-4)
    assert len(changes[0]) == 6


def test_merged_adapters_are_not_heard(adapted, tiny):
    model = adapted()
    model.merge_adapter()
    with record_outputs(model) as outputs, torch.no_grad():
        model(**tiny.batch("llama").inputs)
    assert outputs.changes == {}


def test_output_changes_reach_modules_and_blocks(adapted):
    changes = {
        f"model.layers.{i}.{name}": float(3 - i) * factor
        for i in range(3)
        for name, factor in (("self_attn.q_proj", 1.0), ("mlp.down_proj", 7.0))
    }
    audit = make_audit(adapted(), changes)
    assert [m.output_change for m in audit.modules] == list(changes.values())
    assert [b.output_change for b in audit.blocks] == pytest.approx([15.0, 10.0, 5.0])
    assert audit.depth_agreement == agreement([(b.relative_norm, -b.index) for b in audit.blocks])


def test_agreement_needs_three_pairs():
    assert agreement([(1.0, 2.0), (2.0, 3.0), (None, 1.0), (3.0, None)]) is None
    assert agreement([(1.0, 2.0), (2.0, 3.0), (3.0, 9.0)]) == 1.0


def test_the_frame_has_a_line_a_module(adapted):
    audit = make_audit(adapted(), {})
    frame = audit.frame()
    assert list(frame.name) == [m.name for m in audit.modules]
    assert list(frame.stable_rank) == [m.update.stable_rank for m in audit.modules]
    assert "update" not in frame


def test_factors_that_are_not_the_change_that_peft_makes_are_found_out(adapted):
    model = adapted()
    name, layer = next(iter(adapted_layers(model)))
    right = layer.get_delta_weight
    layer.get_delta_weight = lambda adapter: 1.01 * right(adapter)  # Planted.
    with pytest.raises(ModelError, match=f"read wrong: its factors are not.*'{name}'"):
        make_audit(model, {})
