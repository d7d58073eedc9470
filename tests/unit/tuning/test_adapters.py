"""Adapters on a model: attached unmerged, switched off, and looked into."""

import json
import warnings

import peft
import pytest
import torch

from layerwise.errors import ModelError
from layerwise.models.load import load
from layerwise.models.sources import resolve
from layerwise.tuning.adapters import (
    adapter_notes,
    attach,
    base_of,
    base_parameters,
    disabled,
    has_adapters,
    inseparable,
    untrained_modules,
)

IDS = torch.arange(12).view(2, 6)
PROJECTION = {"target_modules": ["q_proj"]}
BOTH = [f"model.layers.{i}.self_attn.q_proj" for i in range(2)]
KINDS = {
    "lora": lambda: peft.LoraConfig(**PROJECTION),
    "dora": lambda: peft.LoraConfig(**PROJECTION, use_dora=True),
    "adalora": lambda: peft.AdaLoraConfig(**PROJECTION, total_step=10, init_r=4, target_r=2),
    "ia3": lambda: peft.IA3Config(**PROJECTION, feedforward_modules=[]),
    "loha": lambda: peft.LoHaConfig(**PROJECTION),
    "lokr": lambda: peft.LoKrConfig(**PROJECTION),
    "oft": lambda: peft.OFTConfig(**PROJECTION, oft_block_size=4),
    "vera": lambda: peft.VeraConfig(**PROJECTION, r=4),
}


@pytest.fixture(scope="module")
def base(tiny_text, tmp_path_factory):
    """The folder of a small causal model."""
    folder = tmp_path_factory.mktemp("base")
    tiny_text.model("llama").save_pretrained(folder)
    tiny_text.tokenizer(frame="causal").save_pretrained(folder)
    return folder


@pytest.fixture
def adapted(base):
    """Makes a `PeftModel` of the base, its adapter trained (at random) or as it starts."""

    def made(config, *, trained=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT's remarks on its own settings
            model = peft.get_peft_model(load(str(base)).model, config)
        torch.manual_seed(0)
        for parameter in model.parameters():
            if trained and parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.3)
        return model.eval()

    return made


@pytest.fixture
def saved(adapted, tmp_path):
    """Saves such an adapter; its folder and the logits of the model with it."""

    def made(config, *, trained=True):
        model = adapted(config, trained=trained)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.save_pretrained(tmp_path / "adapter")
        return tmp_path / "adapter", logits(model)

    return made


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


@pytest.mark.parametrize("kind", KINDS)
def test_attached_is_as_saved_and_off_is_the_base(base, saved, kind):
    folder, wanted = saved(KINDS[kind]())
    loaded = load(str(base))
    bare = logits(loaded.model)
    names = [name for name, _ in loaded.model.named_modules()]
    weights = {n: p.data_ptr() for n, p in loaded.model.named_parameters()}
    both = attach(loaded, resolve(str(folder)))
    assert torch.equal(logits(both.model), wanted)
    with disabled(both.model):
        assert torch.equal(logits(both.model), bare)
    assert torch.equal(logits(both.model), wanted)
    assert not torch.equal(bare, wanted)
    assert (both.source, both.base, both.stacks) == (str(folder), str(base), loaded.stacks)
    assert "adapter_model.safetensors" in both.files
    assert set(names) <= {name for name, _ in both.model.named_modules()}
    after = {p.data_ptr() for p in both.model.parameters()}
    assert set(weights.values()) <= after  # one copy


@pytest.mark.parametrize("kind", KINDS)
def test_what_never_trained_is_found(adapted, kind):
    fresh = adapted(KINDS[kind](), trained=False)
    assert untrained_modules(fresh) == tuple(BOTH)
    assert untrained_modules(adapted(KINDS[kind]())) == ()
    assert adapter_notes(fresh) == ()


def test_one_module_of_two(adapted):
    model = adapted(peft.LoraConfig(**PROJECTION))
    layer = base_of(model).get_submodule(BOTH[1])
    torch.nn.init.zeros_(layer.lora_B["default"].weight)
    assert untrained_modules(model) == (BOTH[1],)


def test_an_embedding_starts_at_zero_on_its_other_side(adapted):
    config = peft.LoraConfig(target_modules=["embed_tokens"])
    assert untrained_modules(adapted(config, trained=False)) == ("model.embed_tokens",)
    assert untrained_modules(adapted(config)) == ()


def test_modules_trained_whole_are_switched_too(base, saved):
    folder, wanted = saved(peft.LoraConfig(**PROJECTION, modules_to_save=["lm_head"]))
    loaded = load(str(base))
    bare, size = logits(loaded.model), sum(p.numel() for p in loaded.model.parameters())
    both = attach(loaded, resolve(str(folder)))
    assert torch.equal(logits(both.model), wanted)
    with disabled(both.model):
        assert torch.equal(logits(both.model), bare)
    assert base_parameters(both.model) == size < sum(p.numel() for p in both.model.parameters())


def test_switching_restores_what_was_to_be_trained(adapted):
    model = adapted(peft.LoraConfig(**PROJECTION))
    base_of(model).get_submodule(BOTH[0]).lora_A["default"].weight.requires_grad_(False)
    before = {n: p.requires_grad for n, p in model.named_parameters()}
    with pytest.raises(RuntimeError, match="planted"), disabled(model):
        raise RuntimeError("planted")
    assert {n: p.requires_grad for n, p in model.named_parameters()} == before


def test_what_is_off_stays_off(adapted):
    model = adapted(peft.LoraConfig(**PROJECTION))
    with disabled(model):
        off = logits(model)
        with disabled(model):
            pass
        assert torch.equal(logits(model), off)


@pytest.mark.parametrize(
    ("options", "why"),
    [({"bias": "all"}, "biases in place"), ({"init_lora_weights": "pissa"}, r"start \(pissa\)")],
)
def test_an_adapter_that_changed_its_base_cannot_be_switched_off(base, saved, options, why):
    config = peft.LoraConfig(**PROJECTION, **options)
    folder, _ = saved(config)
    with pytest.raises(ModelError, match=rf"cannot be switched off: .*{why}.*as two models"):
        attach(load(str(base)), resolve(str(folder)))
    assert inseparable(folder) != ""


def test_one_in_hand_that_changed_its_base_cannot_either(adapted):
    model = adapted(peft.LoraConfig(**PROJECTION, bias="all"))
    with pytest.raises(ModelError, match="biases in place"), disabled(model):
        pytest.fail("it was switched off")


def test_kinds_that_cannot_be_judged_are_noted(adapted):
    model = adapted(peft.LNTuningConfig(target_modules=["input_layernorm"]), trained=False)
    assert untrained_modules(model) == ()
    assert adapter_notes(model) == (
        "whether these adapters ever trained cannot be told: LNTuningLayer",
    )
    model = adapted(peft.LoraConfig(**PROJECTION, init_lora_weights=False), trained=False)
    assert adapter_notes(model) == (
        "adapters that start otherwise than at zero (False) count as trained",
    )


def test_an_adapter_of_another_model_is_refused(base, saved, tiny_text, tmp_path):
    folder, _ = saved(peft.LoraConfig(**PROJECTION))
    other = tmp_path / "gpt2"
    tiny_text.model("gpt2").save_pretrained(other)
    tiny_text.tokenizer().save_pretrained(other)
    with pytest.raises(
        ModelError, match=r"cannot be attached \(NoMatchingPeftModuleError: Target modules"
    ):
        attach(load(str(other)), resolve(str(folder)))


def test_a_damaged_adapter_is_refused(base, saved):
    folder, _ = saved(peft.LoraConfig(**PROJECTION))
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(ModelError, match=r"cannot be attached \(SafetensorError"):
        attach(load(str(base)), resolve(str(folder)))
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"cannot be attached \("):
        attach(load(str(base)), resolve(str(folder)))


def test_an_adapter_without_weights_is_refused(base, saved):
    folder, _ = saved(peft.LoraConfig(**PROJECTION))
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"adapter without weights.*adapter_model\.safetensors"):
        attach(load(str(base)), resolve(str(folder)))
    with pytest.raises(ModelError, match="adapter without weights"):
        load(str(folder))


def test_weights_that_are_missing_are_named(base, saved):
    folder, _ = saved(peft.LoraConfig(**PROJECTION))
    config = json.loads((folder / "adapter_config.json").read_text())
    config["target_modules"] = ["q_proj", "v_proj"]
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"does not fit its base model.*weights for .*v_proj"):
        attach(load(str(base)), resolve(str(folder)))


def test_a_soft_prompt_is_refused(base, saved):
    folder, _ = saved(peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"))
    with pytest.raises(ModelError, match="adapter"):
        attach(load(str(base)), resolve(str(folder)))


def test_a_plain_model_has_no_adapters(base):
    model = load(str(base)).model
    assert not has_adapters(model)
    assert base_of(model) is model
    assert untrained_modules(model) == ()
