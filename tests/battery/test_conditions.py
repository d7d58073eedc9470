"""Every condition on every kind of architecture: who trains, at which rate, and who stays."""

from dataclasses import replace

import pytest
import torch

from layerwise.errors import BadInputError, ModelError
from layerwise.models.roles import roles
from layerwise.models.stack import all_refs
from layerwise.tuning.conditions import CONDITIONS, places
from layerwise.tuning.groups import REST, layer_groups
from layerwise.tuning.lora import adapter_parameters, prepared
from layerwise.tuning.record import TuneSettings

ARCHITECTURES = [
    "llama", "gpt2", "opt", "gemma3", "qwen3_moe", "mamba", "rwkv", "bert", "modernbert", "t5",
    "bart",
]  # fmt: skip
TRAINED = ["llama", "gpt2", "mamba", "bert", "encoder", "t5"]
WHOLE = [name for name in CONDITIONS if not CONDITIONS[name].adapters]
TOP = {"top-m": {"top": 1}}


def trained(loaded, condition, **settings):
    """The learning rate factor of each parameter that trains."""
    where = places(roles(loaded.model, loaded.stacks), loaded.stacks)
    return CONDITIONS[condition].trained(where, TuneSettings(**TOP.get(condition, {}) | settings))


def by_place(loaded):
    """Each parameter's role and block: the stack's length and the index in it, or None."""
    refs = all_refs(loaded.stacks)
    sizes = {stack.name: len(stack.blocks) for stack in loaded.stacks}
    for role in roles(loaded.model, loaded.stacks):
        ref = None if role.row is None else refs[role.row]
        yield role, ref and (sizes[ref.stack], ref.index)


# --- Which parameters -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_layer_groups_partition_the_parameters(tiny, name):
    loaded = tiny.build(name)
    groups = layer_groups(loaded.model, loaded.stacks)
    named = [n for group in groups for n in group.parameters]
    assert sorted(named) == sorted(n for n, _ in loaded.model.named_parameters())
    held = [loaded.model.get_parameter(n) for n in named]
    assert len({id(p) for p in held}) == len(held)
    assert [group.name for group in groups] == [r.name for r in all_refs(loaded.stacks)] + [REST]


@pytest.mark.parametrize("name", ["gpt2", "bert", "t5", "mamba"])
def test_a_tied_weight_is_in_the_rest_once(tiny, name):
    loaded = tiny.build(name)
    tied = loaded.model.get_input_embeddings().weight
    assert loaded.model.get_output_embeddings().weight is tied
    members = {
        n: group.name
        for group in layer_groups(loaded.model, loaded.stacks)
        for n in group.parameters
        if loaded.model.get_parameter(n) is tied
    }
    assert list(members.values()) == [REST]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_standard_decays_from_the_top_of_each_stack(tiny, name):
    loaded = tiny.build(name)
    factors = trained(loaded, "standard")
    deepest = max(len(stack.blocks) for stack in loaded.stacks)
    for role, place in by_place(loaded):
        if place is not None:
            size, index = place
            assert factors[role.name] == pytest.approx(0.95 ** (size - 1 - index))
        else:
            assert factors[role.name] == (
                pytest.approx(0.95 ** (deepest - 1)) if role.embeds else 1
            )
    assert any(role.embeds for role, _ in by_place(loaded))
    top = [n for n, factor in factors.items() if factor == 1 and ".1." not in n and ".2." not in n]
    assert top or name == "bart"  # It has no final norm, and its head is its embedding.


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("condition", ["uniform", "equal-step"])
def test_everything_at_one_rate(tiny, name, condition):
    loaded = tiny.build(name)
    assert trained(loaded, condition) == {n: 1.0 for n, _ in loaded.model.named_parameters()}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_frozen_norm_freezes_every_norm_and_nothing_else(tiny, name):
    loaded = tiny.build(name)
    frozen = {n for n, _ in loaded.model.named_parameters()} - trained(loaded, "frozen-norm").keys()
    assert frozen == {
        f"{path}.{own}"
        for path, module in loaded.model.named_modules()
        if "norm" in type(module).__name__.lower()
        for own, _ in module.named_parameters(recurse=False)
    }
    assert frozen


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_frozen_lower_freezes_the_bottom_half_and_no_embeddings(tiny, name):
    loaded = tiny.build(name)
    factors = trained(loaded, "frozen-lower")
    for role, place in by_place(loaded):
        is_low = place is not None and place[1] < place[0] // 2
        assert (role.name in factors) is not is_low
    assert set(factors.values()) == {1.0}


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("top", [1, 2])
def test_top_m_trains_the_top_blocks_and_the_head(tiny, name, top):
    loaded = tiny.build(name)
    factors = trained(loaded, "top-m", top=top)
    for role, place in by_place(loaded):
        is_low = role.embeds if place is None else place[1] < place[0] - top
        assert (role.name in factors) is not is_low


@pytest.mark.parametrize("top", [None, 0, -1, 4])
def test_top_m_needs_a_number_of_blocks_that_there_are(tiny, top):
    with pytest.raises(
        BadInputError, match=r"number of top blocks to train.*--top M, with M from 1"
    ):
        trained(tiny.build("llama"), "top-m", top=top)


def test_embeddings_are_low_with_their_norm(tiny):
    factors = trained(tiny.build("bert"), "standard")
    assert factors["bert.embeddings.LayerNorm.weight"] == pytest.approx(0.95**2)
    assert factors["cls.predictions.transform.LayerNorm.weight"] == 1
    assert trained(tiny.build("bart"), "standard")[
        "model.decoder.layernorm_embedding.weight"
    ] == pytest.approx(0.95**2)


def test_a_condition_that_freezes_all_is_refused():
    with pytest.raises(BadInputError, match="condition frozen-lower freezes every parameter"):
        CONDITIONS["frozen-lower"].trained((), TuneSettings())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_lora_is_on_all_blocks_by_default(tiny, name):
    loaded = tiny.build(name)
    blocks, own = len(all_refs(loaded.stacks)), {n for n, _ in loaded.model.named_parameters()}
    subject, placed = prepared(loaded, None)
    assert (placed.rank, placed.alpha, placed.dropout) == (8, 16, 0.1)
    assert len(placed.blocks) == blocks
    names = adapter_parameters(subject.model)
    added = dict(subject.model.named_parameters())
    assert sum(added[n].numel() for n in names) == placed.adapter_parameters
    assert len(names) == 2 * len(placed.modules) == len(added) - len(own)
    dropouts = {m.p for n, m in subject.model.named_modules() if n.endswith("lora_dropout.default")}
    assert dropouts == {0.1}


# --- What a run does to them ------------------------------------------------------------------


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("condition", WHOLE)
def test_what_is_frozen_stays_and_the_rest_moves(tuning, name, condition):
    loaded = tuning.loaded(name)
    factors = trained(loaded, condition)
    before = {n: p.detach().clone() for n, p in loaded.model.named_parameters()}
    tuned = tuning.tune(loaded, condition=condition, learning_rate=1e-2, **TOP.get(condition, {}))
    moved = {n for n, p in loaded.model.named_parameters() if not torch.equal(p, before[n])}
    # SimCSE has no use for the pooler, and a key's bias changes no attention but in rounding.
    unused = {n for n in factors if "pooler" in n}
    assert moved == factors.keys() - unused
    sizes = {n: p.numel() for n, p in loaded.model.named_parameters()}
    assert sum(g.trained for g in tuned.record.groups) == sum(sizes[n] for n in factors)
    assert sum(g.parameters for g in tuned.record.groups) == sum(sizes.values())


@pytest.mark.parametrize("name", TRAINED)
def test_under_lora_the_base_stays(tuning, name):
    loaded = tuning.loaded(name)
    before = {n: p.detach().clone() for n, p in loaded.model.named_parameters()}
    tuned = tuning.tune(loaded, condition="lora", learning_rate=1e-2)
    model = tuned.loaded.model
    names = adapter_parameters(model)
    after = {n.replace(".base_layer", ""): p for n, p in model.named_parameters() if n not in names}
    base = {n.removeprefix("base_model.model."): p for n, p in after.items()}
    assert base.keys() == before.keys()
    assert all(torch.equal(base[n], before[n]) for n in before)
    up = [model.get_parameter(n) for n in names if ".lora_B." in n]
    assert up
    assert all(bool(p.any()) for p in up)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_seed_decides(tuning, condition):
    options = {"condition": condition, **TOP.get(condition, {})}
    first, again, other = (
        tuning.weights(tuning.tune("bert", seed=seed, **options)) for seed in (1, 1, 2)
    )
    assert tuning.same(first, again)
    assert not tuning.same(first, other)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_run_leaves_the_model_as_it_was_but_for_weights(tuning, condition):
    loaded = tuning.loaded("bert")
    loaded.model.bert.embeddings.requires_grad_(False)
    wanted = {n: p.requires_grad for n, p in loaded.model.named_parameters()}
    states = torch.random.get_rng_state()
    tuned = tuning.tune(
        loaded,
        condition=condition,
        gradient_checkpointing=True,
        bf16=True,
        **TOP.get(condition, {}),
    )
    assert torch.equal(torch.random.get_rng_state(), states)
    model = tuned.loaded.model
    assert not any(m.training for m in model.modules())
    assert not any(getattr(m, "gradient_checkpointing", False) for m in model.modules())
    assert not any("forward" in vars(m) for m in model.modules())
    assert all(p.grad is None for p in model.parameters())
    if condition != "lora":
        assert {n: p.requires_grad for n, p in model.named_parameters()} == wanted


@pytest.mark.parametrize("condition", WHOLE)
def test_the_record_says_each_group_s_rate(tuning, condition):
    record = tuning.tune("llama", condition=condition, **TOP.get(condition, {})).record
    low, high, rest = (group.learning_rate for group in record.groups)
    frozen = condition in {"frozen-lower", "top-m"}
    assert low == (None if frozen else pytest.approx(1.9e-5 if condition == "standard" else 2e-5))
    assert (high, rest) == (2e-5, 2e-5)
    assert record.settings.learning_rate == 2e-5


@pytest.mark.parametrize(
    ("condition", "options", "message"),
    [
        ("standard", {"tau": 1e-3}, r"tau has no .* '0.001'; try: --condition equal-step"),
        ("uniform", {"top": 1}, r"top has no .* uniform: '1'; try: --condition top-m"),
        ("lora", {"decay": 0.9}, r"decay has no .* lora: '0.9'; try: --condition standard"),
        ("standard", {"equal_step": "copy"}, r"equal-step has no meaning under condition standard"),
        ("equal-step", {"decay": 0.9}, "decay has no meaning under condition equal-step"),
    ],
)  # fmt: skip
def test_a_setting_without_meaning_is_refused(tuning, condition, options, message):
    with pytest.raises(BadInputError, match=message):
        tuning.tune("llama", condition=condition, **options)


def test_adapters_need_lora(tuning):
    subject, _ = prepared(tuning.loaded("llama"), None)
    with pytest.raises(
        BadInputError, match=r"model with adapters under a condition.*'standard'.*lora"
    ):
        tuning.tune(subject, condition="standard")


def test_checkpointing_needs_an_architecture_that_can(tuning):
    loaded = tuning.loaded("llama")
    loaded.model.supports_gradient_checkpointing = False
    with pytest.raises(
        BadInputError, match=r"gradient checkpointing is not for this.*LlamaForCausalLM"
    ):
        tuning.tune(loaded, gradient_checkpointing=True)


def test_equal_step_asks_the_same_of_each_group(tuning):
    tuned = tuning.tune("llama", condition="equal-step", tau=3e-3, steps=4)
    assert tuned.record.tau == 3e-3
    for entry in tuned.log:
        assert list(entry["step_ratio"].values()) == pytest.approx([3e-3] * 3, rel=1e-5)


@pytest.mark.slow
def test_tau_is_matched_to_the_first_steps_of_standard(tuning):
    import statistics

    standard = tuning.tune("llama", condition="standard", steps=4)
    ratios = [r for entry in standard.log for r in entry["step_ratio"].values()]
    tuned = tuning.tune("llama", condition="equal-step", steps=6, match_steps=4)
    assert tuned.record.tau == pytest.approx(statistics.median(ratios), rel=5e-3)
    given = tuning.tune("llama", condition="equal-step", steps=6, tau=tuned.record.tau)
    assert tuning.same(tuning.weights(tuned), tuning.weights(given))


def test_adapters_of_another_kind_are_refused(tuning):
    import warnings

    import peft

    loaded = tuning.loaded("llama")
    config = peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT reads an attribute that transformers is renaming.
        other = replace(loaded, model=peft.get_peft_model(loaded.model, config))
    with pytest.raises(
        ModelError, match="adapters that cannot be trained here: 'llama'; expected LoRA"
    ):
        prepared(other, None)
