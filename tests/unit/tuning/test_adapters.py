"""Adapters on a model: attached unmerged, switched off, and looked into."""

import warnings

import peft
import pytest
import torch

from layerwise.models.load import attach, load
from layerwise.models.sources import resolve
from layerwise.objectives.forward import without_adapter
from layerwise.tuning.adapters import (
    adapter_notes,
    base_parameters,
    disabled,
    has_adapters,
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
    return tiny_text.save(tmp_path_factory.mktemp("base"))


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
    layer = without_adapter(model).get_submodule(BOTH[1])
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
    without_adapter(model).get_submodule(BOTH[0]).lora_A["default"].weight.requires_grad_(False)
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


def test_a_plain_model_has_no_adapters(base):
    model = load(str(base)).model
    assert not has_adapters(model)
    assert without_adapter(model) is model
    assert untrained_modules(model) == ()
