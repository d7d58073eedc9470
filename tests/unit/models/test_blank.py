"""A model from its configuration alone."""

import json

import pytest
import torch

from layerwise.errors import BadInputError, ModelError, UnknownNameError
from layerwise.files import sha256
from layerwise.models.head_kind import has_next_sentence_head
from layerwise.models.heads import class_ids
from layerwise.models.load import from_config, load, load_skeleton

CONFIG = {
    "model_type": "bert", "architectures": ["BertForPreTraining"], "vocab_size": 64,
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
    "intermediate_size": 48, "max_position_embeddings": 32,
}  # fmt: skip


@pytest.fixture
def written(tiny_text, tmp_path):
    """A function that writes a configuration, with a tokenizer in the folder `words` below it."""

    def write(words=".", **changes):
        content = {k: v for k, v in {**CONFIG, **changes}.items() if v is not None}
        (tmp_path / "own.json").write_text(json.dumps(content))
        if words is not None:
            tiny_text.tokenizer(frame="bert").save_pretrained(tmp_path / words)
        return tmp_path / "own.json"

    return write


def test_a_model_with_random_weights_whose_heads_are_its_own(written):
    file = written()
    loaded = from_config(file, seed=2, device="cpu")
    assert (loaded.kind, loaded.source, loaded.revision) == ("masked", str(file), None)
    assert has_next_sentence_head(loaded.model)
    assert [(s.name, len(s.blocks)) for s in loaded.stacks] == [("bert.encoder.layer", 3)]
    assert loaded.notes == (f"random weights from {file}, seed 2",)
    assert loaded.files["own.json"] == sha256(file)
    assert loaded.files["tokenizer.json"] == sha256(file.parent / "tokenizer.json")
    assert not loaded.model.training
    assert loaded.model.dtype == torch.float32


def test_the_seed_alone_fixes_the_weights(written):
    file = str(written())
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again, other = (
        list(from_config(file, seed=s, device="cpu").model.parameters()) for s in (0, 0, 1)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize(
    ("name", "kind", "changes"),
    [
        ("BertForMaskedLM", "masked", {}),
        ("BertModel", "encoder", {}),
        ("LlamaForCausalLM", "causal", {"model_type": "llama", "pad_token_id": 0}),
        ("T5ForConditionalGeneration", "seq2seq", {"model_type": "t5", "num_layers": 2}),
    ],
)
def test_architectures(written, name, kind, changes):
    file = written(architectures=[name], **changes)
    loaded = from_config(file, device="cpu")
    assert (type(loaded.model).__name__, loaded.kind) == (name, kind)
    skeleton = load_skeleton(str(file))
    assert (skeleton.kind, skeleton.stacks) == (kind, loaded.stacks)
    assert {p.device.type for p in skeleton.model.parameters()} == {"meta"}


def test_one_that_was_saved_is_an_ordinary_model(written, tmp_path):
    loaded = from_config(written(words="words", tokenizer="words"), device="cpu")
    loaded.model.save_pretrained(tmp_path / "saved")
    loaded.tokenizer.save_pretrained(tmp_path / "saved")
    again = load(str(tmp_path / "saved"), device="cpu")
    assert type(again.model) is type(loaded.model)
    assert again.notes == ()
    assert not hasattr(again.model.config, "tokenizer")


def test_with_a_head_for_classes(written):
    loaded = from_config(written(), device="cpu", labels=("neg", "pos"))
    assert loaded.kind == "classifier"
    assert class_ids(loaded.model) == {"neg": 0, "pos": 1}
    with pytest.raises(BadInputError, match="labels of a classification"):
        from_config(written(), labels=("neg", "neg"))


def test_dtypes_and_devices(written):
    file = written()
    assert from_config(file, device="cpu", dtype="bfloat16").model.dtype == torch.bfloat16
    with pytest.raises(UnknownNameError, match="unknown dtype"):
        from_config(file, dtype="float23")
    with pytest.raises(UnknownNameError, match="unknown device"):
        from_config(file, device="gpu")


# Where the tokenizer is.


def test_a_folder_below_the_file_s(written):
    assert from_config(written(words="words", tokenizer="words"), device="cpu").tokenizer
    assert from_config(written(words="words"), tokenizer="words", device="cpu").tokenizer


def test_the_argument_goes_before_the_key(written):
    file = written(words="words", tokenizer="nowhere/./at/all")
    assert from_config(file, tokenizer="words", device="cpu").tokenizer


def test_a_folder_anywhere(written, tiny_text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    tiny_text.tokenizer().save_pretrained(folder)
    assert from_config(written(words=None), tokenizer=str(folder), device="cpu").tokenizer


@pytest.mark.real_model
def test_a_gguf_model_s(written, smollm2):
    folder, name = smollm2
    file = written(words=None, tokenizer=str(folder / name), vocab_size=49152)
    assert len(from_config(file, device="cpu").tokenizer) == 49152


def test_no_tokenizer(written):
    file = written(words=None)
    with pytest.raises(ModelError, match=r"no tokenizer beside.*\"tokenizer\": \"FOLDER or MODEL"):
        from_config(file)
    with pytest.raises(ModelError, match="no such model file or folder"):
        from_config(file, tokenizer="./nowhere")
    with pytest.raises(ModelError, match=r"folder without config\.json"):
        from_config(file, tokenizer=str(file.parent))


def test_more_tokens_than_embeddings(written):
    file = written(vocab_size=60)
    with pytest.raises(
        ModelError, match=r"of 61 tokens with a model that embeds 60.*\"vocab_size\": 61 in own"
    ):
        from_config(file)


# Files that are no configuration of a model.


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": None}, "configuration of no type"),
        ({"model_type": "nonesuch"}, "unknown model type: 'nonesuch'"),
        ({"architectures": None}, "configuration without an architecture"),
        ({"architectures": []}, "configuration without an architecture"),
        ({"architectures": "BertModel"}, "configuration without an architecture"),
        ({"architectures": ["BertForNothing"]}, "unknown architecture: 'BertForNothing'"),
        ({"hidden_size": 30}, "cannot be read"),
        ({"hidden_size": "x"}, "cannot be read"),
        ({"architectures": ["LlamaForCausalLM"]}, "of another model type: 'LlamaForCausalLM'"),
    ],
)
def test_bad_configurations(written, changes, said):
    file = written(**changes)
    with pytest.raises(ModelError, match=said):
        from_config(file)
    with pytest.raises(ModelError, match=said):
        load_skeleton(str(file))


@pytest.mark.parametrize(
    ("text", "said"),
    [("{nope", r"unreadable configuration file \(JSONDecodeError\)"), ("[]", "holds a JSON list")],
)
def test_files_that_are_not_one(tmp_path, text, said):
    (tmp_path / "own.json").write_text(text)
    with pytest.raises(ModelError, match=said):
        from_config(tmp_path / "own.json")


def test_no_file(tmp_path):
    with pytest.raises(ModelError, match=r"no such configuration file.*expected a transformers"):
        from_config(tmp_path / "none.json")
    with pytest.raises(ModelError, match="unreadable configuration file"):
        from_config(tmp_path)
