"""Adapters of every kind: what is read of them computes what PEFT does, or they are refused."""

import json
import shutil
import warnings

import peft
import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

from layerwise.errors import ModelError
from layerwise.models.adapter_proof import adapted_modules, fold, layer_of
from layerwise.models.adapters import put_on
from layerwise.models.load import attach, load, load_skeleton
from layerwise.models.sources import resolve
from layerwise.objectives.forward import without_adapter
from layerwise.tuning.adapters import disabled
from support import adapters as made
from support import architectures
from support.versions import CONVERTED, FOUR

pytestmark = [
    # PEFT reads an attribute that transformers is renaming.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated"),
    pytest.mark.filterwarnings("ignore:Sparse invariant checks"),  # SHiRA's, from torch.
]

CLOSE = {"rtol": 1e-5, "atol": 2e-5}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """The folder of a base by its name, saved once."""
    kept = {}

    def base(named):
        if named not in kept:
            kept[named] = made.base(tmp_path_factory.mktemp("base"), named)
        return str(kept[named])

    return base


@pytest.fixture
def trained(bases, tmp_path):
    """The folder of a plain LoRA adapter, its base, and the logits of PEFT's model."""
    model = made.saved(tmp_path / "adapter", bases("llama"), made.lora())
    return tmp_path / "adapter", bases("llama"), made.logits(model)


def tensors(folder):
    return load_file(folder / "adapter_model.safetensors")


def edit(folder, change):
    """Apply `change` to the tensors of the adapter in `folder`."""
    file, weights = folder / "adapter_model.safetensors", tensors(folder)
    changed = change(weights)
    save_file(weights if changed is None else changed, file, metadata={"format": "pt"})


def setting(folder, **settings):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


# Each kind, as PEFT saves it.


@pytest.mark.parametrize("kind", made.PLAIN)
def test_every_kind_computes_what_peft_does(bases, tmp_path, kind):
    named, make = made.PLAIN[kind]
    config = made.config_of(make)
    if config is None:
        pytest.skip("this version of PEFT has no such kind")
    if kind == "tokens-by-module" and tuple(map(int, peft.__version__.split(".")[:2])) < (0, 18):
        pytest.skip("this version of PEFT does not take a head's tokens")
    base, auto = bases(named), tf.AutoModelForCausalLM
    if "fused" in kind and not any(p.ndim == 3 for p in load(base).model.parameters()):
        pytest.skip("this version of transformers has experts one by one")
    auto = tf.AutoModelForMaskedLM if named == "bert" else auto
    wanted = made.logits(made.saved(tmp_path / "adapter", base, config, auto=auto))
    if kind == "lora-biases" and not any(".bias" in n for n in tensors(tmp_path / "adapter")):
        pytest.skip("this version of PEFT does not save them")
    bare = load(base)
    plain = made.logits(bare.model)
    assert (wanted - plain).abs().max() > 1e-3

    merged = load(str(tmp_path / "adapter"))
    torch.testing.assert_close(made.logits(merged.model), wanted, **CLOSE)
    assert not [n for n, _ in merged.model.named_modules() if "lora" in n or "base_layer" in n]
    merged.model.save_pretrained(tmp_path / "whole")  # What is tuned is kept so.
    again = auto.from_pretrained(tmp_path / "whole", dtype=torch.float32)
    torch.testing.assert_close(made.logits(again.eval()), wanted, **CLOSE)

    attached = attach(bare, resolve(str(tmp_path / "adapter")))
    torch.testing.assert_close(made.logits(attached.model), wanted, **CLOSE)
    assert (attached.base, attached.source) == (base, str(tmp_path / "adapter"))
    assert len(attached.stacks[0].blocks) == len(merged.stacks[0].blocks)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2),
            "PROMPT_TUNING",
        ),
        (
            lambda: peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2),
            "PREFIX_TUNING",
        ),
        (
            lambda: peft.AdaptionPromptConfig(
                adapter_len=4, adapter_layers=1, task_type="CAUSAL_LM"
            ),
            "ADAPTION_PROMPT",
        ),
        (
            lambda: made.lora(alora_invocation_tokens=[4], task_type="CAUSAL_LM"),
            r"self_attn\.q_proj cannot be folded in \(aLoRA",
        ),
    ],
)
def test_what_is_no_change_of_weights_is_refused_by_name(bases, tmp_path, make, said):
    config = made.config_of(make)
    if config is None:
        pytest.skip("this version of PEFT has no such kind")
    made.saved(tmp_path, bases("llama"), config)
    with pytest.raises(ModelError, match=said):
        load(str(tmp_path))
    with pytest.raises(ModelError, match=said):
        attach(load(bases("llama")), resolve(str(tmp_path)))


# The proof.


@pytest.mark.parametrize("name", ["opt", "bart"])
def test_an_embedding_that_counts_its_positions_itself_is_refused_by_name(tmp_path, name):
    base = made.base(tmp_path / "base", name)
    auto = tf.AutoModelForSeq2SeqLM if name == "bart" else tf.AutoModelForCausalLM
    config = made.lora(target_modules=["embed_positions", "q_proj"])
    made.saved(tmp_path / "adapter", base, config, auto=auto)
    with pytest.raises(ModelError, match=r"^adapter (whose|that was read).* on .*embed_positions"):
        load(str(tmp_path / "adapter"))


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_a_reader_that_folds_in_something_else_is_found_out_by_module(trained, size):
    folder, base, _ = trained
    edit(folder, lambda w: {n: t * (size if "lora_B" in n else 1) for n, t in w.items()})
    adapter = put_on(load(base).model, resolve(str(folder)))
    adapter.prove()
    name = "model.layers.1.self_attn.v_proj"
    layer = adapter.model.get_submodule(name)
    right = layer.merge

    def twice(**how):  # Planted: the update is added, and a tenth of it once more.
        right(**how)
        layer.base_layer.weight.data += 0.1 * layer.get_delta_weight("default")

    layer.merge = twice
    with pytest.raises(ModelError, match=rf"read wrong on {name}: off by 0\.1.*PEFT's own"):
        fold(layer, name=name, source="planted")


def test_proving_leaves_the_model_and_random_numbers_as_they_are(trained):
    folder, base, wanted = trained
    model, state = load(base).model, torch.random.get_rng_state()
    adapter = put_on(model, resolve(str(folder)))
    before = {n: p.clone() for n, p in adapter.model.named_parameters()}
    adapter.prove()
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, parameter in adapter.model.named_parameters():
        assert torch.equal(parameter, before[name])
    assert torch.equal(made.logits(adapter.model), wanted)
    assert {layer_of(m) is m for _, m in adapted_modules(adapter.model)} == {True}


def test_half_precision_is_merged_in_full_and_rounded_once(trained):
    folder, _, wanted = trained
    found = load(str(folder), dtype="bfloat16")
    assert {p.dtype for p in found.model.parameters()} == {torch.bfloat16}
    torch.testing.assert_close(made.logits(found.model).float(), wanted, rtol=0.1, atol=0.3)


# Starts that changed the base.


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_a_start_is_put_back_so_that_the_base_stays(bases, tmp_path, start):
    config = made.lora(init_lora_weights=start)
    wanted = made.logits(made.saved(tmp_path, bases("llama"), config))
    bare = load(bases("llama"))
    plain = made.logits(bare.model)
    attached = attach(bare, resolve(str(tmp_path)))
    torch.testing.assert_close(made.logits(attached.model), wanted, **CLOSE)
    with disabled(attached.model):
        assert torch.equal(made.logits(attached.model), plain)
    (note,) = attached.notes
    assert note == f"the adapter's start ({start}) was put back: it is plain LoRA of twice its rank"
    assert attached.model.peft_config["default"].r == 8


def test_a_base_that_comes_with_the_adapter_lacks_the_start_already(bases, tmp_path):
    config = made.lora(init_lora_weights="pissa", target_modules=["lm_head", "q_proj"])
    wanted = made.logits(made.saved(tmp_path, bases("llama"), config))
    attached = attach(load(bases("llama")), resolve(str(tmp_path)))
    torch.testing.assert_close(made.logits(attached.model), wanted, **CLOSE)
    (note,) = attached.notes
    assert note.endswith("twice its rank; its files bring lm_head without it")


def test_a_start_that_was_drawn_needs_what_it_was(bases, tmp_path):
    base = tf.AutoModelForCausalLM.from_pretrained(bases("llama"), dtype=torch.float32)
    model = peft.get_peft_model(base, made.lora(init_lora_weights="pissa_niter_4"))
    config, first = model.peft_config["default"], tmp_path / "first"
    config.init_lora_weights = True
    model.save_pretrained(first)
    config.init_lora_weights = "pissa_niter_4"
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.2 * torch.randn(parameter.shape)
    wanted = made.logits(model.eval())
    model.save_pretrained(tmp_path / "adapter")
    with pytest.raises(ModelError, match=r"pissa_niter_4\) was drawn.*path_initial_model_for_w"):
        load(str(tmp_path / "adapter"))
    shutil.copytree(first, tmp_path / "adapter" / "pissa_init")
    with warnings.catch_warnings(action="ignore"):
        model.save_pretrained(tmp_path / "plain", path_initial_model_for_weight_conversion=first)
    for folder in ("adapter", "plain"):
        found = load(str(tmp_path / folder))
        torch.testing.assert_close(made.logits(found.model), wanted, **CLOSE)
    assert found.notes == ("the adapter was merged into 4 modules",)


@pytest.mark.parametrize("start", ["corda", "lora_ga", "loftq", "nonesuch"])
def test_other_starts_are_refused_by_name(trained, start):
    folder, *_ = trained
    setting(folder, init_lora_weights=start)
    with pytest.raises(ModelError, match=rf"start \({start}\)"):
        load(str(folder))


# Where an adapter was trained, and where it lies.


@pytest.mark.parametrize("auto", ["causal", "body"])
def test_an_adapter_of_the_body_is_for_the_model_and_the_other_way_round(bases, tmp_path, auto):
    config = made.lora(task_type="FEATURE_EXTRACTION" if auto == "body" else None)
    kind = tf.AutoModel if auto == "body" else tf.AutoModelForCausalLM
    model = made.saved(tmp_path / "adapter", bases("llama"), config, auto=kind)
    inner = without_adapter(model)
    inner = inner if auto == "body" else inner.model
    if auto == "causal":  # Onto a base that has no head.
        inner.config.architectures = ["LlamaModel"]
        tf.AutoModel.from_pretrained(bases("llama")).save_pretrained(tmp_path / "body")
        made.text.tokenizer(frame="causal").save_pretrained(tmp_path / "body")
        setting(tmp_path / "adapter", base_model_name_or_path=str(tmp_path / "body"))
    with torch.no_grad():
        wanted = inner(input_ids=made.IDS).last_hidden_state
        found = load(str(tmp_path / "adapter")).model
        states = found.base_model(input_ids=made.IDS).last_hidden_state
    torch.testing.assert_close(states, wanted, **CLOSE)


def test_an_adapted_head_that_is_not_read_is_named_as_in_the_file(tmp_path):
    base, auto = (
        made.base(tmp_path / "base", "bert_classifier"),
        tf.AutoModelForSequenceClassification,
    )
    config = made.lora(target_modules=["query", "classifier"])
    made.saved(tmp_path / "adapter", base, config, auto=auto)
    said = r"2 weights that belong nowhere, first base_model\.model\.classifier\.lora_A\.weight"
    with pytest.raises(ModelError, match=said):
        load(str(tmp_path / "adapter"))


def test_an_adapter_of_the_text_half_of_a_model_that_sees(bases, tmp_path):
    text = tf.AutoModelForCausalLM.from_pretrained(bases("llama"), dtype=torch.float32)
    vision = tf.CLIPVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        image_size=28, patch_size=14,
    )  # fmt: skip
    config = tf.LlavaConfig(vision_config=vision, text_config=text.config, image_token_index=3)
    torch.manual_seed(0)
    seeing = tf.LlavaForConditionalGeneration(config).eval()
    half = seeing.model.language_model
    half.load_state_dict(text.model.state_dict())
    seeing.lm_head.load_state_dict(text.lm_head.state_dict())
    seeing.save_pretrained(tmp_path / "seeing")
    made.text.tokenizer(frame="causal").save_pretrained(tmp_path / "seeing")
    wanted = made.logits(made.saved(tmp_path / "adapter", bases("llama"), made.lora()))
    setting(tmp_path / "adapter", base_model_name_or_path=str(tmp_path / "seeing"))
    found = load(str(tmp_path / "adapter"))
    torch.testing.assert_close(made.logits(found.model), wanted, **CLOSE)
    assert found.notes[-1] == "the adapter was merged into 4 modules"


@pytest.mark.parametrize("form", ["parts", "pickled", "subfolder", "beside another", "8 bits"])
def test_files_as_people_have_them(trained, tmp_path, form):
    folder, _, wanted = trained
    file = folder / "adapter_model.safetensors"
    weights = load_file(file)
    if form == "parts":
        file.unlink()
        names = sorted(weights)
        for number, part in enumerate((names[:5], names[5:])):
            of = folder / f"adapter_model-{number + 1:05d}-of-00002.safetensors"
            save_file({n: weights[n] for n in part}, of, metadata={"format": "pt"})
    elif form == "pickled":
        file.unlink()
        torch.save(weights, folder / "adapter_model.bin")
    elif form == "subfolder":
        shutil.move(folder, tmp_path / "run" / "own")
        folder = tmp_path / "run"
    elif form == "8 bits":
        numbers = {n: t.sign() for n, t in weights.items()}  # Which 8 bits have whole.
        edit(folder, lambda _: numbers)
        wanted = made.logits(load(str(folder)).model)
        edit(folder, lambda _: {n: t.to(torch.float8_e5m2) for n, t in numbers.items()})
    else:
        shutil.copytree(folder, folder / "checkpoint-10")
    found = load(str(folder))
    torch.testing.assert_close(made.logits(found.model), wanted, **CLOSE)
    assert found.notes == ("the adapter was merged into 4 modules",)
    assert any(name.startswith("adapter_model") for name in found.files)
    assert {"adapter_config.json", "model.safetensors"} <= set(found.files)


def test_of_several_adapters_in_a_folder_one_has_to_be_named(trained, tmp_path):
    folder, *_ = trained
    shutil.copytree(folder, tmp_path / "run" / "one")
    shutil.copytree(folder, tmp_path / "run" / "two")
    with pytest.raises(ModelError, match=r"one of its adapters: .*run/one, .*run/two"):
        load(str(tmp_path / "run"))


@CONVERTED
def test_experts_that_were_adapted_one_by_one_go_into_fused_ones(bases, tmp_path):
    """Written as transformers 4 had the experts: a pair of factors an expert and projection."""
    base = load(bases("qwen3_moe"))
    config = made.lora(target_modules=["gate_proj", "up_proj", "down_proj"], r=2, lora_alpha=3)
    config.base_model_name_or_path = bases("qwen3_moe")
    config.save_pretrained(tmp_path)
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for block, layer in enumerate(base.model.model.layers):
        experts = layer.mlp.experts
        both, down = experts.gate_up_proj.data, experts.down_proj.data
        inner, width = down.shape[2], down.shape[1]
        for number in range(len(down)):
            for name, (o, i) in {
                "gate_proj": (inner, width), "up_proj": (inner, width), "down_proj": (width, inner)
            }.items():  # fmt: skip
                a, b = (torch.randn(s, generator=generator) for s in ((2, i), (o, 2)))
                key = f"base_model.model.model.layers.{block}.mlp.experts.{number}.{name}.lora"
                weights |= {f"{key}_A.weight": a, f"{key}_B.weight": b}
                part = {"gate_proj": both[number, :inner], "up_proj": both[number, inner:]}
                part.get(name, down[number]).add_(1.5 * b @ a)
    save_file(weights, tmp_path / "adapter_model.safetensors", metadata={"format": "pt"})
    found = load(str(tmp_path))
    torch.testing.assert_close(made.logits(found.model), made.logits(base.model), **CLOSE)


@pytest.mark.skipif("inkling2_text" not in tf.CONFIG_MAPPING, reason="this version has it not")
def test_names_that_peft_takes_for_others_of_an_older_file_are_read_as_they_are(tmp_path):
    """PEFT has some weights of this model's adapters land in another module, and says nothing."""
    model = architectures.tiny_model("inkling2_text", "causal")
    model.save_pretrained(tmp_path / "base")
    architectures.tokenizer().save_pretrained(tmp_path / "base")
    made.saved(tmp_path / "a", tmp_path / "base", made.lora(target_modules=["weight_proj"]))
    attached = attach(load(str(tmp_path / "base")), resolve(str(tmp_path / "a")))
    found = {n.replace(".default", ""): p for n, p in attached.model.named_parameters()}
    for name, tensor in tensors(tmp_path / "a").items():
        assert torch.equal(found[name.removeprefix("base_model.model.")], tensor)


def test_weights_that_were_one_part_whole(bases, tmp_path):
    """T5's encoder, decoder and head share a weight, of which PEFT trains a copy."""
    config = made.lora(target_modules=["q"], modules_to_save=["shared"])
    model = made.saved(tmp_path / "a", bases("t5"), config, auto=tf.AutoModelForSeq2SeqLM)
    inputs = {"input_ids": made.IDS, "decoder_input_ids": made.IDS[:, :3]}
    if FOUR:  # There they are one module, and scaled only as long as they are tied.
        with pytest.raises(ModelError, match=r"parts weights .* computes with as one"):
            load(str(tmp_path / "a"))
        return
    merged = load(str(tmp_path / "a"))
    assert "were one in its base are no more: shared.weight, encoder" in " ".join(merged.notes)
    with torch.no_grad():
        torch.testing.assert_close(merged.model(**inputs).logits, model(**inputs).logits, **CLOSE)
    merged.model.save_pretrained(tmp_path / "b")
    again = tf.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "b").eval()
    with torch.no_grad():
        torch.testing.assert_close(again(**inputs).logits, model(**inputs).logits, **CLOSE)


def test_weights_that_part_where_the_model_computes_with_them_as_one(tmp_path):
    """UMT5 scales what its head reads where that is tied: no configuration says what it is now."""
    blank = tf.UMT5Config(
        vocab_size=61, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2,
        tie_word_embeddings=True, decoder_start_token_id=0,
    )  # fmt: skip
    tf.UMT5ForConditionalGeneration(blank).save_pretrained(tmp_path / "base")
    made.text.tokenizer(frame="t5").save_pretrained(tmp_path / "base")
    config = made.lora(target_modules=["q"], modules_to_save=["shared"])
    made.saved(tmp_path / "a", str(tmp_path / "base"), config, auto=tf.AutoModelForSeq2SeqLM)
    with pytest.raises(ModelError, match=r"parts weights which a UMT5For.* computes with as one"):
        load(str(tmp_path / "a"))


# What the base must be.


@pytest.mark.parametrize("named", ["llama", made.TIED])
def test_a_grown_vocabulary_is_followed(bases, tmp_path, named):
    model = tf.AutoModelForCausalLM.from_pretrained(bases(named), dtype=torch.float32)
    rows = model.config.vocab_size
    model.resize_token_embeddings(rows + 3, mean_resizing=False)
    model = made.train(model, made.lora())
    model.save_pretrained(tmp_path, save_embedding_layers=True)
    words = made.text.tokenizer(frame="causal")
    words.add_tokens(["new", "newer", "newest"])
    words.save_pretrained(tmp_path)
    found = load(str(tmp_path))
    torch.testing.assert_close(made.logits(found.model), made.logits(model), **CLOSE)
    assert found.model.config.vocab_size == rows + 3 == len(found.tokenizer)
    assert f"its own vocabulary: {rows + 3} tokens, {rows} in its base" in " ".join(found.notes)
    edit(tmp_path, lambda w: {n: t for n, t in w.items() if "embed" not in n and "head" not in n})
    with pytest.raises(ModelError, match=rf"of {rows + 3} tokens with a model that embeds {rows}"):
        load(str(tmp_path))


GROWN = {
    "whole": ("llama", {"modules_to_save": ["embed_tokens", "lm_head"]}),
    "whole-tied": (made.TIED, {"modules_to_save": ["embed_tokens"]}),
    "tokens-tied": (made.TIED, {"trainable_token_indices": "new"}),
    "tokens": ("llama", {"trainable_token_indices": {"embed_tokens": "new", "lm_head": "new"}}),
}


def grown(folder, base, options):
    """PEFT's model, of three more tokens than its base, which is saved in `folder`."""
    model = tf.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    rows = model.config.vocab_size
    model.resize_token_embeddings(rows + 3, mean_resizing=False)
    tokens = json.loads(json.dumps(options).replace('"new"', str([rows, rows + 1, rows + 2])))
    model = made.train(model, made.lora(**tokens))
    model.save_pretrained(folder, save_embedding_layers=True)
    return model


@pytest.mark.parametrize(("named", "options"), GROWN.values(), ids=GROWN)
def test_embeddings_that_grew_and_trained_are_read_once(bases, tmp_path, named, options):
    """PEFT writes them under several names, and what they were before."""
    model = grown(tmp_path, bases(named), options)
    torch.testing.assert_close(made.logits(load(str(tmp_path)).model), made.logits(model), **CLOSE)


def test_new_rows_that_are_in_no_file_are_an_error(bases, tmp_path):
    """Of the head's, that is: random ones would stand in for them."""
    grown(tmp_path, bases("llama"), {"target_modules": ["embed_tokens", "q_proj"]})
    edit(tmp_path, lambda w: {n: t for n, t in w.items() if "lm_head" not in n})
    with pytest.raises(ModelError, match="all of the new ones' weights beside it"):
        load(str(tmp_path))


@pytest.mark.parametrize("rows", [-1, 3])
def test_fewer_embeddings_than_tokens_are_an_error_and_more_are_usual(tmp_path, rows):
    model = tf.AutoModelForCausalLM.from_pretrained(made.base(tmp_path, "llama"))
    tokens = len(made.text.tokenizer())
    model.resize_token_embeddings(tokens + rows, mean_resizing=False)
    model.save_pretrained(tmp_path)
    if rows > 0:
        assert load(str(tmp_path)).notes == ()
        return
    said = rf"of {tokens} tokens with a model that embeds {tokens - 1}.*resize_token_embeddings"
    with pytest.raises(ModelError, match=said):
        load(str(tmp_path))


def test_biases_that_were_not_saved_are_told(bases, tmp_path):
    """Versions of PEFT left out those of modules with an adapter."""
    made.saved(tmp_path, bases(made.BIASED), made.lora(bias="lora_only"))
    edit(tmp_path, lambda w: {n: t for n, t in w.items() if not n.endswith(".bias")})
    assert load(str(tmp_path)).notes[0] == (
        "the adapter trained biases that its files do not hold: its base's stay"
    )


def test_a_base_is_found_beside_its_adapter_and_said_to_be_gone(trained, tmp_path):
    folder, base, wanted = trained
    shutil.copytree(base, tmp_path / "model")
    setting(folder, base_model_name_or_path="../model")
    found = load(str(folder))
    torch.testing.assert_close(made.logits(found.model), wanted, **CLOSE)
    skeleton = load_skeleton(str(folder))
    assert (skeleton.base, skeleton.stacks) == (found.base, found.stacks)
    shutil.rmtree(tmp_path / "model")
    with pytest.raises(ModelError, match=r"base model cannot be loaded.*try: correct base_model_n"):
        load(str(folder))
    for base, error in (
        (None, "adapter that names no base model"),
        (str(folder), "whose base is the adapter itself"),
        ("../adapter", "whose base is the adapter itself"),
    ):
        setting(folder, base_model_name_or_path=base)
        with pytest.raises(ModelError, match=error):
            load(str(folder))


@pytest.mark.parametrize(
    ("model", "is_told"),
    [({"quantisation": {"kind": "nf4"}}, True), ({}, False), ("damaged", False), (None, False)],
)
def test_an_adapter_of_a_quantised_base_says_so_beside_a_full_one(trained, model, is_told):
    folder, base, _ = trained
    record = {"schema": "layerwise/tune/2", "model": model}
    (folder / "tune.json").write_text(json.dumps(record))
    for found in (load(str(folder)), attach(load(base), resolve(str(folder)))):
        assert any("was trained on nf4 weights" in note for note in found.notes) is is_told


def test_a_base_on_the_hub_is_meant_at_the_revision_that_is_named(trained, tmp_path, monkeypatch):
    folder, base, wanted = trained
    hub = tmp_path / "hub" / "models--org--base"
    (hub / "refs").mkdir(parents=True)
    (hub / "refs" / "v1").write_text("0" * 40)
    shutil.copytree(base, hub / "snapshots" / ("0" * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    setting(folder, base_model_name_or_path="org/base", revision="v1")
    found = load(str(folder))
    torch.testing.assert_close(made.logits(found.model), wanted, **CLOSE)
    assert found.base == "org/base"
    setting(folder, revision=None)
    with pytest.raises(ModelError, match="base model cannot be loaded"):
        load(str(folder))


# Files that are no adapter, or not of this base.

ONE_MORE = {"base_model.model.model.layers.7.x.lora_A.weight": torch.ones(2)}


def pickled(folder, held):
    (folder / "adapter_model.safetensors").unlink()
    file = folder / "adapter_model.bin"
    file.write_bytes(held) if isinstance(held, bytes) else torch.save(held, file)


def cut(folder, part):
    file = folder / "adapter_model.safetensors"
    file.rename(folder / part) if isinstance(part, str) else file.write_bytes(
        file.read_bytes()[:part]
    )


def said(folder, text):
    (folder / "adapter_config.json").write_text(text)


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda f: edit(f, lambda w: dict(list(w.items())[1:])), "weights for .*lora_A"),
        (lambda f: setting(f, r=3), r"lora_A\.weight is \(4, 16\).*expected \(3, 16\)"),
        (
            lambda f: edit(f, lambda w: {n.replace("layers", "blocks"): t for n, t in w.items()}),
            "belong nowhere|does not fit",
        ),
        (lambda f: edit(f, lambda w: w | ONE_MORE), r"1 weights that belong no.*first .*layers\.7"),
        (
            lambda f: edit(f, lambda w: {n: t / 0.0 for n, t in w.items()}),
            "NaN or infinite values, first in base_model",
        ),
        (lambda f: edit(f, lambda _: {}), "hold no weights"),
        (lambda f: pickled(f, b"cos\nsystem\n(S'touch /tmp/x'\ntR."), "cannot be read"),
        (lambda f: pickled(f, [1, 2]), "something else than named tensors"),
        (lambda f: cut(f, 300), "cannot be read"),
        (lambda f: cut(f, "adapter_model-00001-of-00002.safetensors"), "of which 1 of 2 parts are"),
        (lambda f: said(f, "[1]"), "holds a JSON list"),
        (lambda f: said(f, "{nope"), "unreadable adapter_config"),
        (lambda f: setting(f, use_telepathy=True), r"not know: use_telepathy.*newer peft"),
        (lambda f: setting(f, peft_type="NONESUCH"), r"not read here \(NONESUCH\).*LORA"),
        (lambda f: setting(f, peft_type=None), r"not read here \(None\)"),
        (lambda f: setting(f, r="four"), "does not fit"),
        (lambda f: setting(f, rank_pattern={"(": 2}), "does not fit"),
        (lambda f: setting(f, target_modules=["nothing"]), "does not fit"),
    ],
)
def test_a_damaged_adapter_is_one_line(trained, damage, error):
    folder, base, _ = trained
    damage(folder)
    with pytest.raises(ModelError, match=error) as raised:
        load(str(folder))
    assert raised.value.exit_code == 2
    assert "\n" not in str(raised.value)
    with pytest.raises(ModelError, match=error):
        attach(load(base), resolve(str(folder)))


@pytest.mark.parametrize(
    "settings",
    [
        {"peft_type": ["LORA"]},
        {"modules_to_save": 5, "target_modules": 5},
        {"auto_mapping": "no", "layer_replication": "no"},
        {"trainable_token_indices": 5},
        {"trainable_token_indices": {"embed_tokens": 5}},
        {"init_lora_weights": []},
        {"rank_pattern": 5},
        {"base_model_name_or_path": {"a": 1}},
        {"bias": 5},
        {"lora_alpha": None},
    ],
)
def test_settings_of_other_types_are_one_line(trained, settings):
    folder, *_ = trained
    setting(folder, **settings)
    with pytest.raises(ModelError) as error:
        load(str(folder))
    assert "\n" not in str(error.value)


def test_settings_of_a_newer_peft_that_turn_nothing_on_are_noted(trained):
    folder, _, wanted = trained
    setting(folder, telepathy_size=16, telepathy_config=None, use_telepathy=False)
    found = load(str(folder))
    assert found.notes[0].endswith("does not know were left out: telepathy_size")
    torch.testing.assert_close(made.logits(found.model), wanted, **CLOSE)
