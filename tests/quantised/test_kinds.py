"""Each kind of quantisation whose library runs on a CPU, whole path; `make test-quantised`.

The libraries are in an environment of their own: imported beside PEFT they take seconds of every
process.
"""

import json
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

import layerwise as lw
from layerwise.api.cards import export
from layerwise.errors import BadInputError, ModelError
from layerwise.models.adapters import put_on
from layerwise.models.linear import packed_modules, passes_gradient, weight_of
from layerwise.models.load import attach, load, merge, wrap_model
from layerwise.models.quantisation import unpack
from layerwise.models.sources import resolve
from layerwise.profile.callback import DepthCallback
from support import adapters, quantised, tuning
from support.quantised import PROBES

pytest.importorskip("bitsandbytes", reason="make test-quantised brings bitsandbytes")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*get_apply_tensor_subclass:UserWarning"),
]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return quantised.save(tmp_path_factory.mktemp("plain"))


def torchao(folder, name):
    import torchao.quantization as ao
    from torchao.quantization.granularity import PerGroup
    from transformers import TorchAoConfig

    configs = {
        "int8": ao.Int8WeightOnlyConfig,
        "fp8": ao.Float8WeightOnlyConfig,
        "dynamic": ao.Int8DynamicActivationInt8WeightConfig,
        "int4": lambda: ao.IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(32)),
    }
    how = {"quantization_config": TorchAoConfig(configs[name]()), "attn_implementation": "sdpa"}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **how)
    return wrap_model(model, AutoTokenizer.from_pretrained(folder))


def hqq(folder):
    from hqq.core.quantize import BaseQuantizeConfig
    from hqq.models.hf.base import AutoHQQHFModel

    options = {"dtype": torch.float32, "attn_implementation": "sdpa"}
    model = AutoModelForCausalLM.from_pretrained(folder, **options)
    config = BaseQuantizeConfig(nbits=4, group_size=32)
    AutoHQQHFModel.quantize_model(
        model, quant_config=config, compute_dtype=torch.float32, device="cpu"
    )
    return wrap_model(model, AutoTokenizer.from_pretrained(folder))


#: How far columns are apart at most, beside the same model dequantised.
KINDS = {
    "nf4": (lambda folder: load(folder, quantize="nf4"), 1e-3),
    "int8": (lambda folder: load(folder, quantize="int8"), 0.02),
    "torchao int8": (lambda folder: torchao(folder, "int8"), 1e-3),
    "torchao fp8": (lambda folder: torchao(folder, "fp8"), 1e-3),
    "hqq": (hqq, 1e-3),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_path(plain, tmp_path, kind):
    make, within = KINDS[kind]
    card, placed = quantised.whole_path(lambda: make(plain), tmp_path, within=within)
    bits = {"nf4": 4, "hqq": 4}.get(kind, 8)
    assert card.model.quantisation.bits == bits
    assert not card.model.quantisation.saved
    with pytest.raises(BadInputError, match=r"full fine-tuning.*--condition lora"):
        tuning.tune(make(plain), condition="uniform")
    written, coverage, made = export(placed, card, trainer="axolotl", model=plain)
    assert written.verified.matched == coverage.verified.expected == len(placed.modules)
    assert (b"qlora" in made.files["axolotl.yaml"]) == (kind == "nf4")
    assert packed_modules(placed.apply(make(plain).model))


def test_columns_of_torchao_s_4_bits_and_that_transformers_does_not_train_them(plain):
    it, same = torchao(plain, "int4"), torchao(plain, "int4")
    unpack(same.model)
    cards = [lw.card(x, tuning.data(16), **quantised.SETTINGS) for x in (it, same)]
    assert quantised.furthest(*cards) < 1e-3
    with pytest.raises(BadInputError, match="transformers does not train adapters on"):
        tuning.tune(it, condition="lora")


def test_activations_that_are_rounded_pass_no_gradient(plain):
    with pytest.raises(ModelError, match="no gradient passes through here: 'Int8Tensor of Linear'"):
        lw.card(torchao(plain, "dynamic"), tuning.data(16), **quantised.SETTINGS)


def test_a_checkpoint_that_is_saved_in_nf4(plain, tmp_path):
    made = load(plain, quantize="nf4")
    made.model.save_pretrained(tmp_path / "nf4")
    made.tokenizer.save_pretrained(tmp_path / "nf4")
    it = load(str(tmp_path / "nf4"))
    card = lw.card(it, tuning.data(16), **quantised.SETTINGS)
    assert card.model.quantisation.saved
    assert quantised.furthest(card, lw.card(made, tuning.data(16), **quantised.SETTINGS)) == 0
    with pytest.raises(ModelError, match=r"quantised already: 'bitsandbytes'; .*drop --quantize"):
        load(str(tmp_path / "nf4"), quantize="int8")
    # An adapter on it is merged into what its codes stand for, and computes what it did.
    adapted = get_peft_model(it.model, LoraConfig(target_modules=["q_proj"], r=2))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted.peft_config["default"].base_model_name_or_path = str(tmp_path / "nf4")
    adapted.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    merged = load(str(tmp_path / "adapter"))
    assert any("were dequantised for that" in note for note in merged.notes)
    ids = torch.arange(10, 30)[None]
    with torch.no_grad():
        assert torch.allclose(merged.model(ids).logits, adapted(ids).logits, atol=1e-4)


@pytest.mark.parametrize("double", [False, True])
def test_a_forward_without_gradient_leaves_weights_as_they_were(plain, tmp_path, double):
    """On a CPU with AVX512-BF16 bitsandbytes packs them anew, and no gradient passes after that."""
    bits = transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_use_double_quant=double)
    hand = AutoModelForCausalLM.from_pretrained(
        plain, dtype=torch.float32, quantization_config=bits
    )
    before = {name: weight_of(module) for name, module in packed_modules(hand).items()}
    for _ in range(2):
        with torch.no_grad():
            hand.eval()(torch.arange(10, 30)[None])
        it = wrap_model(hand, AutoTokenizer.from_pretrained(plain))
        for name, weight in before.items():
            after = weight_of(hand.get_submodule(name))
            assert (after - weight).norm() < 0.01 * weight.norm()
            assert passes_gradient(hand.get_submodule(name))
    assert it.notes == ()  # There was nothing to undo the second time.
    it = load(plain, quantize="nf4")
    tuned = tuning.tune(it, condition="lora", eval_examples=4)  # It is evaluated before.
    assert all(map(passes_gradient, packed_modules(tuned.loaded.model).values()))
    hand = AutoModelForCausalLM.from_pretrained(plain, quantization_config=bits)
    callback = DepthCallback(it.tokenizer, probes=PROBES)  # The probes are shown before, too.
    how = transformers.TrainingArguments(str(tmp_path), max_steps=1, use_cpu=True, report_to="none")
    given = {"callbacks": [callback], "train_dataset": [{"input_ids": [5, 6], "labels": [5, 6]}]}
    transformers.Trainer(get_peft_model(hand, adapters.lora()), how, **given).train()
    assert all(map(passes_gradient, packed_modules(hand).values()))


def adapted(plain, folder, how, config):
    """PEFT's model of `plain` quantised, with an adapter at random, which is saved in `folder`."""
    model = adapters.train(load(plain, quantize=how).model, config)
    model.peft_config["default"].base_model_name_or_path = str(plain)
    with warnings.catch_warnings(action="ignore"):  # PEFT's remarks on shapes.
        model.save_pretrained(folder, save_embedding_layers=False)
    return model


ADAPTERS = {
    "lora": lambda: adapters.lora(rank_pattern={"q_proj": 2}),
    "dora": lambda: adapters.lora(use_dora=True),
    "bias-of-b": lambda: adapters.lora(lora_bias=True),
    "tokens": lambda: adapters.lora(trainable_token_indices=[4]),
    "adalora": lambda: adapters.linear("AdaLoraConfig", init_r=4, total_step=10),
    "ia3": lambda: adapters.linear("IA3Config", feedforward_modules=[]),
    "vera": lambda: adapters.linear("VeraConfig", r=8),
    "oft": lambda: adapters.linear("OFTConfig", oft_block_size=8),
    "miss": lambda: adapters.linear("MissConfig", r=4),
}


@pytest.mark.parametrize("kind", ADAPTERS)
@pytest.mark.parametrize("how", ["nf4", "int8"])
def test_adapters_on_codes_compute_what_peft_does(plain, tmp_path, how, kind):
    model = adapted(plain, tmp_path, how, ADAPTERS[kind]())
    with torch.no_grad():
        wanted = model(adapters.IDS).logits
    audit = partial(lw.audit, str(tmp_path), quantize=how, probes=PROBES, device="cpu")
    if (how, kind) == ("int8", "dora"):  # PEFT's second forward has lost the scales, on a CPU.
        with pytest.raises(ModelError, match=r"Linear8bitLt on model\.layers\.0.* does not run"):
            audit()
        return
    attached = attach(load(plain, quantize=how), resolve(str(tmp_path)))
    with torch.no_grad():
        assert torch.equal(attached.model(adapters.IDS).logits, wanted)
    with pytest.raises(BadInputError, match=r"after a quantised model in hand: .* its own"):
        lw.profile(load(plain, quantize=how), str(tmp_path), probes=PROBES)
    found = audit()
    assert bool(found.modules) == (kind in {"lora", "dora", "bias-of-b", "tokens", "adalora"})
    full = load(plain).model
    norms = {m.name: float(full.get_submodule(m.name).weight.data.norm()) for m in found.modules}
    assert {m.name: m.base_frobenius_norm for m in found.modules} == pytest.approx(norms, rel=0.02)


def test_what_is_read_otherwise_on_codes_is_found_out(plain, tmp_path):
    adapted(plain, tmp_path, "nf4", ADAPTERS["dora"]())
    adapter = put_on(load(plain, quantize="nf4").model, resolve(str(tmp_path)))
    adapter.prove()
    layer = adapter.model.model.layers[0].self_attn.q_proj
    layer.scaling["default"] *= 1.001  # What PEFT's forward has cached of DoRA is of the old one.
    layer.lora_magnitude_vector["default"].forward = lambda x, **_: 0.1 * x
    with pytest.raises(ModelError, match=r"read wrong on model\.layers\.0\.self_attn\.q_proj"):
        adapter.prove()


def test_scales_stay_with_codes_in_copies_of_blocks(plain, tmp_path):
    """bitsandbytes keeps them in the module that ran, and a copy shares the codes alone."""
    config = adapters.lora(layer_replication=[[0, 2], [1, 3]])
    adapted(plain, tmp_path, "int8", config)
    base = load(plain, quantize="int8")
    one = attach(base, resolve(str(tmp_path))).model
    other = merge(load(plain, quantize="int8"), resolve(str(tmp_path))).model
    with torch.no_grad():
        gap = one(adapters.IDS).logits - other(adapters.IDS).logits
        assert gap.norm() < 0.02 * other(adapters.IDS).logits.norm()
    coded = base.model.model.layers[0].mlp.up_proj
    coded.weight.SCB = coded.state.SCB = None
    with pytest.raises(ModelError, match="8-bit weights whose scales are gone"):
        weight_of(coded)


def test_a_start_that_changed_a_base_of_codes_is_refused(plain, tmp_path):
    adapted(plain, tmp_path, "nf4", adapters.lora(init_lora_weights="olora"))
    for put in (attach, merge):
        with pytest.raises(ModelError, match=r"on quantised weights whose start \(olora\)"):
            put(load(plain, quantize="nf4"), resolve(str(tmp_path)))


@pytest.mark.parametrize("form", ["pack-quantized", "float-quantized", "int-quantized"])
def test_compressed_tensors_are_read_as_what_they_stand_for(plain, tmp_path, form):
    compress(plain, tmp_path, form)
    it = load(str(tmp_path))
    assert "compressed-tensors weights were dequantised to float32" in it.notes[0]
    tokenizer = AutoTokenizer.from_pretrained(plain)
    hand = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    in_hand = wrap_model(hand, tokenizer)
    assert in_hand.notes == (
        "the compressed weights of 21 modules were decompressed, as a forward does",
    )
    found = dict(it.model.named_parameters())
    for name, module in in_hand.model.named_modules():
        if name.endswith("_proj"):
            assert torch.equal(module.weight, found[f"{name}.weight"])
    tuned = tuning.tune(it, condition="lora", steps=1)
    assert tuned.record.outcome.loss > 0


def compress(folder, target, form):
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config
    from compressed_tensors.quantization.utils import calculate_qparams

    kind, bits = ("float", 8) if form == "float-quantized" else ("int", 4 if "pack" in form else 8)
    how = {"num_bits": bits, "type": kind, "symmetric": True, "strategy": "channel"}
    if bits == 4:
        how |= {"strategy": "group", "group_size": 32}
    group = {"targets": ["Linear"], "weights": how}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    said = {"config_groups": {"all": group}, "format": form, "ignore": ["lm_head"]}
    config = QuantizationConfig.model_validate(said | {"quantization_status": "frozen"})
    apply_quantization_config(model, config)
    for module in model.modules():
        scheme = getattr(module, "quantization_scheme", None)
        if scheme is not None:
            parts = module.weight.detach().unflatten(
                1, (-1, how.get("group_size", module.in_features))
            )
            scale, _ = calculate_qparams(parts.amin(-1), parts.amax(-1), scheme.weights)
            module.weight_scale.data.copy_(scale)
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(target)
    compressor.update_config(target)
    AutoTokenizer.from_pretrained(folder).save_pretrained(target)


@pytest.mark.real_model
def test_the_notebook_runs_on_the_demo_s_gguf_file(tmp_path, monkeypatch, smollm2):
    file = Path(__file__).parents[2] / "examples" / "notebooks" / "quantised.ipynb"
    cells = json.loads(file.read_text())["cells"]
    monkeypatch.chdir(tmp_path)
    names = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)  # noqa: S102  # ours
    assert names["card"].model.quantisation.kind == "nf4"
    assert names["profile"].audit.relative_norm > 0
