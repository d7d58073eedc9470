"""From what a user names to a model that can be measured, or one line that says why not."""

import json
import logging
import shutil

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file
from transformers.utils import logging as hf_logging

from layerwise.errors import BadInputError, ModelError, StackError, UnknownNameError
from layerwise.files import sha256
from layerwise.models.load import load, load_skeleton, wrap_model


def change(folder, edit):
    """Apply `edit` to the weights saved in `folder`."""
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_folder(saved, families):
    folder = saved()
    loaded = load(str(folder), device="cpu")
    assert (loaded.kind, loaded.source, loaded.revision, loaded.base) == (
        "causal", str(folder), None, None,
    )  # fmt: skip
    assert [(s.name, len(s.blocks)) for s in loaded.stacks] == [("model.layers", 3)]
    assert not loaded.model.training
    assert loaded.notes == ()
    expected = families.build("llama").state_dict()
    for name, weight in loaded.model.state_dict().items():
        torch.testing.assert_close(weight, expected[name])


def test_files_that_were_read_are_hashed(saved):
    folder = saved()
    (folder / "README.md").write_text("not read")
    loaded = load(str(folder), device="cpu")
    assert set(loaded.files) - {"special_tokens_map.json"} == {  # transformers 4 writes that too.
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert all(sha256(folder / name) == digest for name, digest in loaded.files.items())


def test_pickled_weights_count_only_where_there_are_no_others(saved):
    folder = saved()
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    assert "pytorch_model.bin" not in load(str(folder), device="cpu").files
    (folder / "model.safetensors").unlink()
    assert "pytorch_model.bin" in load(str(folder), device="cpu").files


@pytest.mark.parametrize(
    ("name", "made", "kind", "architecture"),
    [
        ("gpt2", None, "causal", "GPT2LMHeadModel"),
        ("bert", None, "masked", "BertForMaskedLM"),
        ("bert", tf.BertModel, "encoder", "BertModel"),
        ("bert", tf.BertForPreTraining, "masked", "BertForPreTraining"),
        ("bert", tf.BertForSequenceClassification, "encoder", "BertModel"),
        ("bert", tf.BertLMHeadModel, "causal", "BertLMHeadModel"),
        ("t5", None, "seq2seq", "T5ForConditionalGeneration"),
        ("t5", tf.T5EncoderModel, "encoder", "T5EncoderModel"),
        ("bart", None, "seq2seq", "BartForConditionalGeneration"),
        ("llama", tf.LlamaModel, "encoder", "LlamaModel"),
    ],
)
def test_kinds(saved, name, made, kind, architecture):
    extra = {"is_decoder": True} if made is tf.BertLMHeadModel else {}
    folder = str(saved(name, kind=made, **extra))
    loaded = load(folder, device="cpu")
    assert (loaded.kind, type(loaded.model).__name__) == (kind, architecture)
    skeleton = load_skeleton(folder)
    assert (skeleton.kind, skeleton.stacks) == (loaded.kind, loaded.stacks)


def claim(folder):
    """Say in the configuration that a masked language model is there."""
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["BertForMaskedLM"]
    (folder / "config.json").write_text(json.dumps(config))


def drop_pooler(folder):
    change(folder, lambda w: [w.pop(key) for key in list(w) if key.startswith("pooler")])


@pytest.mark.parametrize(
    ("made", "edit", "said"),
    [
        (tf.BertForSequenceClassification, None, "head of BertForSequenceClassification was left"),
        (tf.BertModel, claim, "the BertForMaskedLM head has no weights in the checkpoint"),
        (tf.BertModel, drop_pooler, "the pooler has no weights in the checkpoint"),
    ],
)
def test_what_is_not_whole_is_left_out_and_said(saved, caplog, made, edit, said):
    folder = saved("bert", kind=made)
    if edit:
        edit(folder)
    with caplog.at_level(logging.WARNING):
        loaded = load(str(folder), device="cpu")
    assert loaded.kind == "encoder"
    assert any(said in note for note in loaded.notes)
    assert said in caplog.text


@pytest.mark.parametrize(("name", "made"), [("llama", tf.LlamaModel), ("bert", None)])
def test_missing_weights_of_a_block_are_an_error(saved, name, made):
    folder = saved(name, kind=made)
    change(folder, lambda w: w.pop(next(key for key in w if ".1." in key)))
    with pytest.raises(ModelError, match="checkpoint without the weights"):
        load(str(folder), device="cpu")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_name_the_tensor(saved, value):
    folder, name = saved(), "model.layers.1.mlp.up_proj.weight"
    change(folder, lambda w: w[name].__setitem__((0, 0), value))
    with pytest.raises(ModelError, match=f"NaN or infinite values, first in {name}"):
        load(str(folder), device="cpu")


def test_large_finite_weights_are_finite(saved):
    folder = saved()
    change(folder, lambda w: w["lm_head.weight"].fill_(3e38))
    load(str(folder), device="cpu")


def test_dtypes(saved):
    folder = str(saved())
    for name, dtype in (("auto", torch.float32), ("bfloat16", torch.bfloat16)):
        assert load(folder, device="cpu", dtype=name).model.dtype == dtype
    with pytest.raises(UnknownNameError, match=r"unknown dtype.*'float23'.*did you mean 'float32'"):
        load(folder, dtype="float23")


def test_half_precision_checkpoints_are_float32_on_a_cpu(saved):
    folder = saved(dtype="float16")
    change(folder, lambda w: w.update({k: v.half() for k, v in w.items()}))
    assert load(str(folder), device="cpu").model.dtype == torch.float32


def test_devices(saved, monkeypatch):
    folder = str(saved())
    assert load(folder, device="auto").model.device.type in {"cpu", "cuda"}
    with pytest.raises(UnknownNameError, match=r"unknown device: 'gpu'"):
        load(folder, device="gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("cuda", "mps"):
        with pytest.raises(ModelError, match=rf"device that is not there: '{name}'.*--device cpu"):
            load(folder, device=name)


def test_sdpa_where_there_is_one_else_eager_and_said(saved):
    assert load(str(saved("llama")), device="cpu").model.config._attn_implementation == "sdpa"
    loaded = load(str(saved("codegen")), device="cpu")
    assert loaded.model.config._attn_implementation == "eager"
    assert any("eager" in note for note in loaded.notes)


def test_the_pad_token_is_borrowed_and_said(saved, tiny_text):
    folder = saved(frame=None)
    tiny_text.tokenizer(without=("pad_token",)).save_pretrained(folder)
    loaded = load(str(folder), device="cpu")
    assert loaded.tokenizer.pad_token == loaded.tokenizer.eos_token
    assert loaded.notes == ("the tokenizer has no padding token; </s> pads",)


def test_without_a_token_that_can_pad(saved, tiny_text):
    folder = saved(frame=None)
    without = ("pad_token", "eos_token", "unk_token")
    tiny_text.tokenizer(without=without).save_pretrained(folder)
    with pytest.raises(ModelError, match="tokenizer without a token that can pad"):
        load(str(folder), device="cpu")


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_without_a_tokenizer(saved, name):
    with pytest.raises(ModelError, match="model without a tokenizer"):
        load(str(saved(name, frame=None)), device="cpu")


def test_progress_bars_and_verbosity_are_as_before(saved, capfd):
    before = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    load(str(saved()), device="cpu")
    with pytest.raises(ModelError, match="no such model"):
        load("./nowhere")
    assert (hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()) == before
    assert (
        "%|" not in capfd.readouterr().err.rpartition("Writing model shards")[2].partition("\n")[2]
    )


def test_a_skeleton_holds_no_weights(saved):
    folder = saved()
    (folder / "model.safetensors").unlink()
    skeleton = load_skeleton(str(folder))
    assert {p.device.type for p in skeleton.model.parameters()} == {"meta"}
    assert skeleton.tokenizer is None
    assert skeleton.stacks[0].name == "model.layers"


# What is not a model.


@pytest.mark.parametrize(
    ("said", "source"),
    [
        *(("no such model file or folder", s) for s in ("./nowhere", "/no/such/place", "a b")),
        *(("no such model file or folder", s) for s in ("nowhere.gguf", "a/b/c")),
        *(("model not found on the hub, nor in", s) for s in ("nobody/nothing", "nothing")),
        ("model not found on the hub, nor in the local cache", "nobody/nothing@v1.0"),
    ],
)
def test_what_is_not_there(source, said):
    with pytest.raises(ModelError, match=said) as error:
        load(source)
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)


@pytest.fixture
def cached(saved, tmp_path, monkeypatch):
    """A function that puts a saved model into a hub cache; gives its commit."""

    def put(repository, **options):
        commit = "0123456789abcdef0123456789abcdef01234567"
        folder = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        for ref in ("main", "v1"):
            (folder / "refs" / ref).write_text(commit)
        (folder / "snapshots").mkdir()
        shutil.move(saved(**options), folder / "snapshots" / commit)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        return commit

    return put


@pytest.mark.parametrize("source", ["someone/tiny", "someone/tiny@v1"])
def test_a_hub_id_in_the_cache(cached, source):
    commit = cached("someone/tiny")
    loaded = load(source, device="cpu")
    assert (loaded.source, loaded.revision) == ("someone/tiny", commit)
    assert "model.safetensors" in loaded.files
    assert load_skeleton(source).stacks == loaded.stacks


def test_a_revision_that_is_not_in_the_cache(cached):
    cached("someone/tiny")
    with pytest.raises(ModelError, match=r"not found on the hub.*'someone/tiny@v2'"):
        load("someone/tiny@v2", device="cpu")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{nope", "cannot be read"),
        ("{}", "cannot be read"),
        ('{"model_type": "nonesuch"}', "does not recognize this architecture"),
        ('{"model_type": "llama", "hidden_size": "x"}', "cannot be read"),
        ('{"model_type": "llama", "architectures": "Llama"}', "architectures"),
        ('{"model_type": "llama", "architectures": [3]}', "architectures"),
        ('{"model_type": "llama", "architectures": {"a": 1}}', "architectures"),
    ],
)
def test_bad_configurations(tmp_path, text, said):
    (tmp_path / "config.json").write_text(text)
    for make in (load, load_skeleton):
        with pytest.raises(ModelError, match=said):
            make(str(tmp_path))


def test_remote_code_is_refused_unless_asked_for(tmp_path):
    code = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    config = {"model_type": "nonesuch", "auto_map": code}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text("raise SystemExit('this must not run')")
    with pytest.raises(ModelError, match=r"brings its own code.*--trust-remote-code"):
        load(str(tmp_path))


@pytest.mark.parametrize("damage", [200, 4, 0, "none", "a pickle that would run"])
def test_damaged_weights(saved, damage):
    folder = saved()
    weights = folder / "model.safetensors"
    if isinstance(damage, int):
        with weights.open("r+b") as stream:
            stream.truncate(damage)
    else:
        weights.unlink()
    if damage == "a pickle that would run":
        (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch /tmp/x'\ntR.")
    with pytest.raises(ModelError, match="cannot be read"):
        load(str(folder), device="cpu")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (".", None, r"folder without config\.json"),
        ("weights.txt", b"hello" * 100, "not a GGUF file"),
        ("weights.gguf", b"hello" * 100, "not a GGUF file"),
        ("cut.gguf", b"GGUF", "cannot be read.*whole files"),
        ("cut.gguf", b"GGUF\3\0\0\0", "cannot be read.*whole files"),
        ("cut.gguf", b"GGUF" + bytes(64), "cannot be read.*whole files"),
    ],
)
def test_files_that_are_not_a_model(tmp_path, name, content, said):
    if content:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=said):
        load(str(tmp_path / name))


def test_a_family_without_stacks(saved):
    with pytest.raises(StackError, match="no usable stack"):
        load(str(saved("xlm")), device="cpu")


# Models in hand.


def test_a_model_in_hand_is_what_loading_gives_but_the_very_model(saved):
    folder = saved()
    model = tf.AutoModelForCausalLM.from_pretrained(folder).train()
    found, loaded = wrap_model(model), load(str(folder))
    assert found.model is model
    assert not model.training
    assert (found.kind, found.stacks, found.source) == (loaded.kind, loaded.stacks, str(folder))
    assert found.tokenizer.get_vocab() == loaded.tokenizer.get_vocab()


def test_a_tokenizer_that_is_given_is_taken(tiny_text):
    words = tiny_text.tokenizer()
    found = wrap_model(tiny_text.model("bert"), words)
    assert found.tokenizer is words
    assert (found.kind, found.source) == ("masked", "BertForMaskedLM")


@pytest.mark.parametrize("what", [3, "name", torch.nn.Linear(2, 2)])
def test_what_is_no_model_is_refused(what):
    with pytest.raises(BadInputError, match=r"no model: .*PreTrainedModel, or a PeftModel of one"):
        wrap_model(what)


def test_a_model_without_a_name_needs_a_tokenizer(tiny_text):
    with pytest.raises(
        BadInputError, match=r"without a name to find its tokenizer by.*tokenizer=\.\.\."
    ):
        wrap_model(tiny_text.model("llama"))


def test_a_name_that_leads_nowhere_is_said(tiny_text):
    model = tiny_text.model("llama")
    model.name_or_path = "./absent"
    with pytest.raises(ModelError, match="absent"):
        wrap_model(model)


def test_a_model_in_hand_embeds_every_token_of_its_tokenizer(tiny_text):
    model, words = tiny_text.model("llama"), tiny_text.tokenizer(frame="causal")
    words.add_tokens([f"new{n}" for n in range(model.config.vocab_size)])
    with pytest.raises(ModelError, match=r"tokenizer of \d+ tokens with a model that embeds"):
        wrap_model(model, words)
