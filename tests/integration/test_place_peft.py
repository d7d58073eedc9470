"""Placements on real PEFT: the modules that were meant, in every kind of model, and no others."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import peft
import pytest
import torch
from packaging.version import Version
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn
from torch.nn.parallel import DataParallel
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MixtralConfig,
    MixtralForCausalLM,
)
from transformers.integrations.peft import MIN_PEFT_VERSION

from layerwise.api import cards as api
from layerwise.card.record import ModelInfo, StackInfo
from layerwise.errors import BadInputError, PlacementError, VerificationError
from layerwise.models.meta import meta_copy
from layerwise.models.parts import unwrapped
from layerwise.models.stack import find_stacks
from layerwise.models.targets import resolve_targets
from layerwise.placement import TRAINERS
from layerwise.placement.exports.lora import peft_config
from layerwise.placement.place import place
from layerwise.placement.verify import apply, lora_config, verify, verify_whole
from support.batches import FAMILIES
from support.versions import CONVERTED, FUSED

# PEFT reads an attribute that transformers is renaming.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")

VOCAB = 97
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "vocab_size": VOCAB,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 8,
    "patch_size": 4,
}
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def llava():
    text = LlamaConfig(**SIZES, **IDS)
    config = LlavaConfig(text_config=text, vision_config=CLIPVisionConfig(**VISION))
    return LlavaForConditionalGeneration(config)


OTHERS = {
    "bare llama": lambda: AutoModel.from_config(LlamaConfig(**SIZES, **IDS)),
    "bare bert": lambda: AutoModel.from_config(BertConfig(**SIZES, **IDS)),
    "llava": llava,
    "mixtral": lambda: MixtralForCausalLM(
        MixtralConfig(**SIZES, **IDS, num_key_value_heads=2, num_local_experts=2)
    ),
}
NAMES = [*FAMILIES, *OTHERS]

OTHERS["deep llama"] = lambda: LlamaForCausalLM(
    LlamaConfig(**SIZES | {"num_hidden_layers": 12}, **IDS)
)


@pytest.fixture
def subject(tiny, small_card):
    """A function that gives a tiny model by name, and a card with its blocks and modules."""

    def make(name, *, targets=None):
        torch.manual_seed(0)
        model = OTHERS[name]() if name in OTHERS else tiny.build(name).model
        stacks = find_stacks(model)
        found = resolve_targets(model, stacks, targets)
        rows = range(sum(len(stack.blocks) for stack in stacks))
        by_row = [[t for t in found if t.row == row] for row in rows]
        card = small_card(
            stacks={stack.name: len(stack.blocks) for stack in stacks},
            modules=[tuple(t.name for t in targets) for targets in by_row],
            adapter_parameters=[
                8 * sum(t.in_features + t.out_features for t in targets) for targets in by_row
            ],
            model=ModelInfo(
                name,
                type(model).__name__,
                sum(p.numel() for p in model.parameters()),
                tuple(StackInfo(s.name, len(s.blocks), s.block_class, s.residual) for s in stacks),
            ),
        )
        return SimpleNamespace(model=model, card=card, stacks=stacks)

    return make


def ends(card):
    """The first block of the first stack and the last of the last, as text."""
    first, last = card.layers[0], card.layers[-1]
    return f"{first.stack}:{first.index},{last.stack}:{last.index}"


def text_inputs(model):
    ids = torch.randint(5, VOCAB, (2, 7), generator=torch.Generator().manual_seed(0))
    extra = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    return {"input_ids": ids, **extra}


def adapters(model):
    return {name: m for name, m in model.named_modules() if isinstance(m, LoraLayer)}


@pytest.mark.parametrize("name", NAMES)
def test_just_the_placed_modules_are_adapted(subject, name):
    it = subject(name)
    placement = place(it.card, rows=ends(it.card))
    copy = meta_copy(it.model)
    coverage = verify(placement, copy)
    assert set(adapters(copy)) == set(placement.modules)
    assert coverage.verified.expected == coverage.verified.matched == len(placement.modules)
    assert coverage.adapter_parameters == placement.adapter_parameters
    placed = {(b.stack, b.index) for b in placement.blocks}
    touched = {
        (block.stack, block.index)
        for block, row in zip(coverage.blocks, coverage.matrix, strict=True)
        if any(row)
    }
    assert touched == placed
    assert len(coverage.blocks) == len(it.card.layers)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "llava"])
def test_one_training_step_reaches_every_adapter_and_nothing_else(subject, name):
    # Mamba reads the weight of dt_proj without calling it, so an adapter there is never used.
    it = subject(name, targets=["in_proj", "x_proj"] if name == "mamba" else None)
    placement = place(it.card, rows=ends(it.card))
    before = {n: p.detach().clone() for n, p in it.model.named_parameters()}
    adapted = apply(placement, it.model).train()
    assert isinstance(adapted, PeftModel)
    adapted(**text_inputs(it.model))[0].float().square().mean().backward()
    trained = {n for n, p in adapted.named_parameters() if p.grad is not None}
    assert trained == {n for n, p in adapted.named_parameters() if ".lora_" in n}
    for module in adapters(adapted.get_base_model()).values():
        assert module.lora_B["default"].weight.grad.abs().sum() > 0
    torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.1).step()
    for n, p in adapted.unload().named_parameters():
        torch.testing.assert_close(p, before[n], rtol=0, atol=0)


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5", "bare bert", "llava", "mixtral"])
def test_the_exported_file_means_the_same_to_peft(subject, name, tmp_path):
    it = subject(name)
    placement = place(it.card, rows=ends(it.card))
    exported = json.loads(json.dumps(peft_config(placement)))
    assert LoraConfig(**exported).to_dict() == lora_config(placement).to_dict()
    (tmp_path / "adapter_config.json").write_text(json.dumps(exported))
    config = LoraConfig.from_pretrained(tmp_path)
    config.fan_in_fan_out = name == "gpt2"
    copy = meta_copy(it.model)
    inject_adapter_in_model(config, copy)
    assert set(adapters(copy)) == set(placement.modules)


def test_an_adapter_is_saved_and_loaded_again(subject, tmp_path):
    it = subject("llama")
    base, folder = tmp_path / "base", tmp_path / "adapter"
    it.model.save_pretrained(base)
    placement = replace(place(it.card, rows="0,2"), model=str(base))
    adapted = apply(placement, it.model)
    for module in adapters(adapted).values():
        nn.init.normal_(module.lora_B["default"].weight)
    inputs = text_inputs(it.model)
    expected = adapted(**inputs).logits
    adapted.save_pretrained(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base)
    loaded = PeftModel.from_pretrained(subject("llama").model, folder)
    torch.testing.assert_close(loaded(**inputs).logits, expected)


def test_a_placement_knows_how_to_be_applied(subject):
    it = subject("llama")
    placement = place(it.card, rows="1")
    assert placement.lora_config().to_dict() == lora_config(placement).to_dict()
    adapted = placement.apply(it.model)
    assert set(adapters(adapted.get_base_model())) == set(placement.modules)


def trainable(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


# What torch.compile imports calls what torch has deprecated.
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated")
@pytest.mark.parametrize("wrap", [torch.compile, DataParallel, lambda m: torch.compile(lora(m))])
def test_what_stands_around_a_model_is_taken_off_and_that_is_said(subject, caplog, wrap):
    it = subject("llama")
    wrapped = wrap(it.model)
    adapted = apply(place(it.card, rows="0,2"), wrapped)
    assert adapted.get_base_model() is it.model
    assert unwrapped(wrapped) in {it.model, adapted}
    assert f"{type(wrapped).__name__}: the model inside got the adapters: compile" in caplog.text
    adapted(**text_inputs(it.model)).logits.square().mean().backward()
    assert {n for n, p in adapted.named_parameters() if p.grad is not None} == trainable(adapted)


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated")
def test_blocks_that_were_compiled_and_what_is_no_model_are_refused(subject):
    it = subject("llama")
    placement = place(it.card, rows="0")
    with pytest.raises(BadInputError, match="a transformers PreTrainedModel"):
        apply(placement, "llama")
    blocks = it.model.model.layers
    blocks[1] = torch.compile(blocks[1])
    with pytest.raises(BadInputError, match=r"compiled: 'model.layers.1'.*then compile"):
        apply(placement, it.model)
    assert not adapters(it.model)


def lora(model):
    """The model with adapters that were trained, on other modules than those that are placed."""
    torch.manual_seed(4)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["k_proj", "q_proj"]))
    for module in adapters(adapted).values():
        nn.init.normal_(module.lora_B["default"].weight)
    return adapted.eval()


HEADS = {
    "llama": ("model.layers", "layers"),
    "gpt2": ("transformer.h", "h"),
    "bert": ("bert.encoder.layer", "encoder.layer"),
    "t5": ("decoder.block", "decoder.block"),
    "llava": ("model.language_model.layers", "language_model.layers"),
}


@pytest.mark.parametrize("name", HEADS)
def test_a_placement_with_a_head_fits_the_bare_model_and_the_other_way_round(subject, name, caplog):
    whole, bare = HEADS[name]
    it = subject(name)
    both = place(it.card, rows=f"{whole}:0,1", rank=4, ranks=f"{whole}:1=2")
    body = it.model.base_model if name != "t5" else it.model
    adapted = apply(both, body)
    found = adapters(adapted.get_base_model())
    assert set(found) == {bare + m.removeprefix(whole) for m in both.modules}
    ranks = {n.split(f"{bare}.")[1][0]: layer.r["default"] for n, layer in found.items()}
    assert ranks == {"0": 4, "1": 2}
    assert (f"blocks in {whole} are those in {bare} here" in caplog.text) == (whole != bare)
    again = subject(name).model
    names = {m: bare + m.removeprefix(whole) for m in both.modules}
    turned = replace(
        both, modules=tuple(names.values()), ranks={names[m]: r for m, r in both.ranks.items()},
        blocks=tuple(replace(block, stack=bare) for block in both.blocks),
    )  # fmt: skip
    assert set(adapters(apply(turned, again).get_base_model())) == set(both.modules)


@pytest.mark.parametrize("other", ["gpt2", "llava"])
def test_a_model_of_another_architecture_is_refused(subject, other):
    placement = place(subject("llama").card, rows="0")
    if other == "llava":  # Both towers' blocks are in a list of that name.
        short = replace(placement, blocks=(replace(placement.blocks[0], stack="layers"),))
        placement = replace(short, modules=("layers.0.self_attn.q_proj",))
    model = subject(other).model
    line = rf"^model of another architecture: '{type(model).__name__}, blocks in .*; try: a card of"
    with pytest.raises(VerificationError, match=line):
        apply(placement, model)
    assert not adapters(model)


def test_adapters_that_were_there_are_kept_beside_the_new_ones(subject, tmp_path, caplog):
    it = subject("llama")
    inputs = text_inputs(it.model)
    bare = it.model(**inputs).logits
    it.model.save_pretrained(tmp_path / "base")
    first = lora(it.model)
    before = first(**inputs).logits
    placement = replace(place(it.card, rows="0,2"), model=str(tmp_path / "base"))
    adapted = apply(placement, first)
    assert adapted is first
    assert "adapters already, now switched off (default): the placement's is called default2" in (
        caplog.text
    )
    assert trainable(adapted) == {
        f"base_model.model.{m}.lora_{x}.default2.weight" for m in placement.modules for x in "AB"
    }
    torch.testing.assert_close(adapted(**inputs).logits, bare, rtol=0, atol=0)
    for name, layer in adapters(adapted).items():
        if "default2" in layer.lora_B:
            assert layer.lora_B["default2"].weight.shape[1] == placement.rank_of(name)
            nn.init.normal_(layer.lora_B["default2"].weight)
    second = adapted(**inputs).logits
    adapted.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(subject("llama").model, tmp_path / "default2")
    torch.testing.assert_close(loaded(**inputs).logits, second)
    adapted.set_adapter("default")
    torch.testing.assert_close(adapted(**inputs).logits, before, rtol=0, atol=0)
    third = apply(placement, adapted)
    assert third.active_adapters == ["default3"]


@pytest.mark.skipif(
    Version(peft.__version__) < Version(MIN_PEFT_VERSION), reason="refused by transformers itself"
)
def test_adapters_without_peft_s_wrapper_no_longer_train(subject):
    it = subject("llama")
    it.model.add_adapter(LoraConfig(r=2, target_modules=["q_proj"]))
    placement = place(it.card, rows="1")
    adapted = apply(placement, it.model)
    assert len(trainable(adapted)) == 2 * len(placement.modules)
    assert all(".default2." in name for name in trainable(adapted))


def test_adapters_of_another_kind_are_refused(subject):
    it = subject("llama")
    model = get_peft_model(it.model, IA3Config(target_modules=["k_proj"], feedforward_modules=[]))
    with pytest.raises(VerificationError, match=r"another kind: 'default \(IA3\)'.*unload\(\)"):
        apply(place(it.card, rows="1"), model)


@pytest.fixture
def spread(subject, tmp_path):
    """A model of three blocks, of which accelerate keeps the first on disk; and the same whole."""
    it = subject("llama")
    it.model.save_pretrained(tmp_path)
    parts = ["model.embed_tokens", "model.rotary_emb", "model.norm", "lm_head"]
    where = dict.fromkeys([*parts, "model.layers.1", "model.layers.2"], "cpu")
    model = AutoModelForCausalLM.from_pretrained(
        tmp_path,
        device_map={**where, "model.layers.0": "disk"},
        offload_folder=tmp_path / "disk",
    )
    return model, it


def test_a_model_that_is_spread_over_devices_is_adapted_and_no_weight_copied(spread):
    model, it = spread
    hooked = [m for m in model.modules() if hasattr(m, "_hf_hook")]
    copied = [m for m in meta_copy(model).modules() if hasattr(m, "_hf_hook")]
    assert [m._hf_hook for m in copied] == [m._hf_hook for m in hooked] != []
    placement, inputs = place(it.card, rows="1,2"), text_inputs(it.model)
    adapted = apply(placement, model)
    assert set(adapters(adapted.get_base_model())) == set(placement.modules)
    logits = adapted(**inputs).logits
    torch.testing.assert_close(logits, it.model(**inputs).logits)
    logits.square().mean().backward()  # It does not reach what is on disk.
    assert {n for n, p in adapted.named_parameters() if p.grad is not None} == trainable(adapted)


def test_modules_whose_weights_are_on_disk_are_refused(spread):
    model, it = spread
    line = r"modules whose weights are offloaded: 'model.layers.0.*; try: a device_map that keeps"
    with pytest.raises(VerificationError, match=line):
        apply(place(it.card, rows="0,2"), model)
    assert not adapters(model)


def test_one_stack_of_two_is_adapted_alone(subject):
    for name, stack in [("t5", "decoder"), ("bart", "encoder"), ("llava", "language_model")]:
        it = subject(name)
        placement = place(it.card, policy="all", stack=stack)
        coverage = verify(placement, meta_copy(it.model))
        touched = [
            block.stack
            for block, row in zip(coverage.blocks, coverage.matrix, strict=True)
            if any(row)
        ]
        assert touched
        assert all(f".{stack}." in f".{name}." for name in touched)


def test_a_nested_model_with_odd_names_is_adapted_just_so(subject):
    class Odd(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.config = model.config
            self.add_module("a+b (x)*", model)

        def forward(self, **inputs):
            return self._modules["a+b (x)*"](**inputs)

    it = subject("llama")
    odd = Odd(it.model)
    rows = [tuple(f"a+b (x)*.{m}" for m in row.modules) for row in it.card.layers]
    stack = "a+b (x)*.model.layers"
    layers = tuple(
        replace(row, stack=stack, name=f"{stack}.{row.index}", modules=modules)
        for row, modules in zip(it.card.layers, rows, strict=True)
    )
    placement = place(replace(it.card, layers=layers), rows=[1])
    coverage = verify(placement, meta_copy(odd))
    assert coverage.verified.matched == len(placement.modules) > 0


def test_the_copy_has_no_weights_and_the_model_keeps_its_own(subject):
    it = subject("llama")
    state = {n: t.clone() for n, t in it.model.state_dict().items()}
    flags = [p.requires_grad for p in it.model.parameters()]
    copy = meta_copy(it.model)
    verify(place(it.card, rows="1"), copy)
    assert all(p.is_meta for p in copy.parameters())
    assert not adapters(it.model)
    assert [p.requires_grad for p in it.model.parameters()] == flags
    for n, t in it.model.state_dict().items():
        torch.testing.assert_close(t, state[n], rtol=0, atol=0)


def test_tied_weights_stay_tied_in_the_copy(subject):
    copy = meta_copy(subject("gpt2").model)
    assert copy.lm_head.weight is copy.transformer.wte.weight


def test_a_failed_check_leaves_the_model_as_it_was(subject):
    it = subject("llama")
    placement = replace(place(it.card, rows="1"), adapter_parameters=1)
    names = [name for name, _ in it.model.named_modules()]
    with pytest.raises(VerificationError, match="parameters of the adapters"):
        apply(placement, it.model)
    assert [name for name, _ in it.model.named_modules()] == names
    assert all(p.requires_grad for p in it.model.parameters())


def test_a_placement_of_a_deeper_model_is_refused(subject, small_card):
    it = subject("llama")
    placement = place(small_card(4), rows="2,3")
    line = "1 blocks that the model does not have: 'model.layers.3'; expected those of org/model"
    with pytest.raises(VerificationError, match=re.escape(line)):
        verify(placement, meta_copy(it.model))


def test_a_module_that_is_not_there_is_named(subject, small_card):
    line = "2 modules that the model does not have: 'model.layers.2.attn.q, model.layers.2.attn.v'"
    with pytest.raises(VerificationError, match=re.escape(line)):
        verify(place(small_card(3), rows="2"), meta_copy(subject("llama").model))


def test_modules_outside_the_placed_blocks_are_refused(subject):
    it = subject("llama")
    placement = place(it.card, rows="1")
    stray = replace(placement, modules=(*placement.modules, "lm_head"))
    with pytest.raises(VerificationError, match=r"1 modules outside .* blocks: 'lm_head'"):
        verify(stray, meta_copy(it.model))
    bare = replace(placement, blocks=place(it.card, rows="1,2").blocks)
    with pytest.raises(VerificationError, match=r"1 blocks without a module.*'model.layers.2'"):
        verify(bare, meta_copy(it.model))


def test_a_model_with_adapters_is_not_adapted_again(subject):
    it = subject("llama")
    placement = place(it.card, rows="1")
    copy = meta_copy(it.model)
    verify(placement, copy)
    with pytest.raises(VerificationError, match="modules that have an adapter already"):
        verify(placement, copy)


@FUSED
def test_fused_experts_are_refused_by_name(subject):
    it = subject("qwen3_moe")
    with pytest.raises(PlacementError, match="fused experts"):
        subject("qwen3_moe", targets=["gate_up_proj"])
    row = it.card.layers[1]
    fused = replace(row, modules=(f"{row.name}.mlp.experts.gate_up_proj",))
    layers = (it.card.layers[0], fused, it.card.layers[2])
    placement = place(replace(it.card, layers=layers), rows="1")
    with pytest.raises(VerificationError, match=r"1 parameters, not modules \(fused experts\)"):
        verify(placement, meta_copy(it.model))
    whole = replace(placement, modules=(f"{row.name}.mlp.experts",))
    with pytest.raises(VerificationError, match="PEFT cannot adapt these modules"):
        verify(whole, meta_copy(it.model))


def test_what_peft_refuses_is_said_in_one_line(subject):
    it = subject("mamba")
    row = it.card.layers[0]
    layers = (replace(row, modules=(f"{row.name}.mixer.out_proj",)), *it.card.layers[1:])
    placement = place(replace(it.card, layers=layers), rows="0")
    with pytest.raises(VerificationError, match=r"^PEFT cannot adapt these modules \(.*out_proj"):
        verify(placement, meta_copy(it.model))


def test_the_matrix_as_text(subject):
    it = subject("llama", targets=["q_proj", "down_proj"])
    text = str(verify(place(it.card, rows="0,2"), meta_copy(it.model)))
    assert text.splitlines() == [
        "Coverage: model.layers",
        "3 blocks",
        "",
        "Adapters by block",
        "                  0",
        "self_attn.q_proj  ●·●  2 of 3",
        "                  0",
        "mlp.down_proj     ●·●  2 of 3",
        "",
        "4 of 4 modules adapted as meant, 2,304 trainable parameters.",
    ]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("trainer", [t for t in TRAINERS if t != "freeze"])
def test_what_each_trainer_hands_to_peft_adapts_the_same(subject, name, trainer):
    it = subject(name)
    placement = place(it.card, rows=ends(it.card))
    lora = TRAINERS[trainer].export(placement, it.card.model).lora
    copy = meta_copy(it.model)
    assert verify(placement, copy, lora=lora).verified.matched == len(placement.modules)
    assert set(adapters(copy)) == set(placement.modules)


def test_names_that_peft_shortens_are_of_the_same_blocks(subject):
    """From 20 names on it looks for endings that will do: 1's is the end of 11's."""
    it = subject("deep llama", targets=["all-linear"])
    placement = place(it.card, rows="1,5,10")
    assert len(placement.modules) > 20
    lora = TRAINERS["axolotl"].export(placement, it.card.model).lora
    assert verify(placement, meta_copy(it.model), lora=lora).verified


# A list of one is a pattern to TRL, and PEFT takes a pattern apart in models with fused experts.
@CONVERTED
@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe"])
def test_what_a_trainer_cannot_tell_apart_is_refused_with_those_that_can(subject, name, tmp_path):
    it = subject(name, targets=["q_proj"])
    it.model.config.architectures = [type(it.model).__name__]
    it.model.config.save_pretrained(tmp_path)
    card = replace(it.card, model=replace(it.card.model, source=str(tmp_path)))
    placement = place(card, rows="0")
    line = r"^modules that trl cannot tell from others .*extra model.layers.1.self_attn.q_proj"
    can = ["peft", "axolotl", "llamafactory", "ms-swift", "unsloth"]
    with pytest.raises(PlacementError, match=f"{line}.*; try: --for {', '.join(can[:-1])} or uns"):
        api.export(placement, card, trainer="trl")
    for trainer in can:
        assert api.export(placement, card, trainer=trainer)[0].verified


def test_ranks_and_scales_are_verified(subject):
    it = subject("llama")
    placement = place(it.card, rows="0,2", rank=4, ranks="2=2")
    copy = meta_copy(it.model)
    assert verify(placement, copy).verified
    ranks = {name: layer.r["default"] for name, layer in adapters(copy).items()}
    assert ranks == {m: 2 if ".2." in m else 4 for m in placement.modules}
    assert {layer.scaling["default"] for layer in adapters(copy).values()} == {2.0}
    swapped = {**lora_config(placement).to_dict(), "rank_pattern": {"layers.0.*": 2}}
    with pytest.raises(VerificationError, match=r"rank and scale of the adapter on model.layers.0"):
        verify(placement, meta_copy(it.model), lora=swapped)


def frozen(it, rows):
    placement = place(it.card, rows=rows, whole=True)
    return verify_whole(placement, it.model, TRAINERS["freeze"].export(placement, it.card.model))


@pytest.mark.parametrize("name", NAMES)
def test_lists_of_weights_are_those_of_the_blocks(subject, name):
    it = subject(name)
    placed, made = frozen(it, ends(it.card))
    assert {"freeze.json", "freeze-axolotl.yaml", "freeze-ms-swift.yaml"} <= made.files.keys()
    blocks = [f"{s.name}.{i}." for s in it.stacks for i in (0, len(s.blocks) - 1)]
    first, last = blocks[0], blocks[-1]
    sizes = [w.numel() for n, w in it.model.named_parameters() if n.startswith((first, last))]
    assert made.notes[0].startswith(f"{sum(sizes):,} parameters in {len(sizes)} tensors train")
    assert placed.trained == sum(sizes)
    assert placed.verified.expected == placed.verified.matched == len(sizes)


@pytest.mark.parametrize("use", [apply, lambda placement, _: lora_config(placement)])
def test_whole_blocks_are_no_adapters(subject, use):
    it = subject("llama")
    placed, _ = frozen(it, "2")
    before = [name for name, _ in it.model.named_modules()]
    with pytest.raises(
        PlacementError, match=r"that trains whole blocks: 'model.layers.2'; .* --placement FILE"
    ):
        use(placed, it.model)
    assert [name for name, _ in it.model.named_modules()] == before


def test_a_list_that_would_train_more_is_left_out(subject):
    it = subject("llama")
    it.model.model.extra = nn.ModuleDict({"2": nn.Linear(2, 2)})
    _, made = frozen(it, "2")
    assert "freeze-llamafactory.yaml" not in made.files
    why = "its trainer would also train, or miss, model.extra.2.bias, model.extra.2.weight"
    assert made.notes[1:] == (f"no freeze-llamafactory.yaml: {why}",)


def test_lists_for_blocks_that_are_not_there_are_refused(subject):
    it = subject("llama")
    placement = place(it.card, rows="2", whole=True)
    made = TRAINERS["freeze"].export(placement, it.card.model)
    with pytest.raises(VerificationError, match="weights to train that are not those of the block"):
        verify_whole(placement, it.model, replace(made, trained={"freeze.json": "lm_head"}))
