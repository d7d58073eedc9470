"""The head that a model gets: the one whose weights are there, or one for given classes."""

import json
import re

import pytest
import torch
import transformers as tf
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from layerwise.errors import BadInputError, ModelError
from layerwise.models.head_kind import family_of, has_next_sentence_head
from layerwise.models.heads import class_ids, head_modules
from layerwise.models.load import load, load_skeleton
from layerwise.models.stack import find_stacks

# PEFT reads an attribute that transformers is renaming.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
LABELS = ("neg", "pos")


def drop(folder, *parts):
    """Take the weights whose names hold one of `parts` out of `folder`."""
    weights = load_file(folder / "model.safetensors")
    kept = {name: w for name, w in weights.items() if not any(part in name for part in parts)}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("bert", tf.BertForPreTraining),
        ("bert", tf.BertForNextSentencePrediction),
        ("fnet", tf.FNetForPreTraining),
    ],
)
def test_a_next_sentence_head_is_kept_where_its_weights_are(saved, name, made):
    folder = str(saved(name, kind=made))
    loaded = load(folder, device="cpu")
    assert type(loaded.model) is type(load_skeleton(folder).model) is made
    assert has_next_sentence_head(loaded.model)
    assert loaded.kind == ("masked" if "PreTraining" in made.__name__ else "encoder")
    assert not any("head" in note for note in loaded.notes)


def test_without_its_weights_the_masked_lm_head_is_kept(saved):
    folder = saved("bert", kind=tf.BertForPreTraining)
    drop(folder, "seq_relationship")
    loaded = load(str(folder), device="cpu")
    assert type(loaded.model) is tf.BertForMaskedLM
    assert not has_next_sentence_head(loaded.model)
    assert loaded.notes == (
        "the BertForPreTraining head has no weights in the checkpoint and was left out",
    )


def test_without_either_head_the_body_is_kept(saved):
    folder = saved("bert", kind=tf.BertForPreTraining)
    drop(folder, "cls.")
    loaded = load(str(folder), device="cpu")
    assert (type(loaded.model), loaded.kind) == (tf.BertModel, "encoder")
    assert len(loaded.notes) == 2


def test_other_models_do_not_tell_what_follows(saved):
    assert not has_next_sentence_head(load(str(saved("bert")), device="cpu").model)


# A head for classes.


@pytest.mark.parametrize("name", ["bert", "roberta", "modernbert", "llama", "gpt2", "opt"])
def test_a_head_is_added_by_the_seed_alone_and_said(saved, name):
    folder = str(saved(name))
    plain = load(folder, device="cpu").model.base_model.state_dict()
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    loaded = load(folder, device="cpu", labels=LABELS, seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert loaded.kind == "classifier"
    assert class_ids(loaded.model) == {"neg": 0, "pos": 1}
    assert loaded.model.config.pad_token_id == loaded.tokenizer.pad_token_id
    (note,) = loaded.notes
    assert note.startswith("a classification head for neg, pos was added, random from seed 3: ")
    for key, weight in loaded.model.base_model.state_dict().items():
        if key in plain and "pooler" not in key:
            torch.testing.assert_close(weight, plain[key])
    again, other = (load(folder, device="cpu", labels=LABELS, seed=s) for s in (3, 4))
    same, differs = (
        {
            key
            for key, weight in model.model.state_dict().items()
            if not torch.equal(weight, loaded.model.state_dict()[key])
        }
        for model in (again, other)
    )
    assert not same
    assert differs
    assert all(key in note for key in differs)


def test_every_new_parameter_is_named(saved):
    loaded = load(str(saved("bert")), device="cpu", labels=LABELS)
    (note,) = loaded.notes
    listed = note.partition(": ")[2]
    assert listed.split(", ") == [
        "bert.pooler.dense.bias", "bert.pooler.dense.weight", "classifier.bias",
        "classifier.weight",
    ]  # fmt: skip


NAMED = {"id2label": {0: "pos", 1: "neg"}, "label2id": {"pos": 0, "neg": 1}}


@pytest.mark.parametrize(
    ("options", "labels", "ids", "note"),
    [
        (NAMED, ("neg", "pos"), {"pos": 0, "neg": 1}, None),
        ({"num_labels": 3}, ("0", "1", "2"), {"0": 0, "1": 1, "2": 2}, None),
        ({"num_labels": 3}, ("2", "1", "0"), {"0": 0, "1": 1, "2": 2}, None),
        (NAMED, ("0", "1"), {"pos": 0, "neg": 1}, "labels are the numbers.*0 is pos, 1 is neg"),
        (NAMED, ("neg",), {"pos": 0, "neg": 1}, "no label is pos"),
        ({"num_labels": 2}, ("b", "a"), {"b": 0, "a": 1},
         "no names: 0 is taken for b, 1 is taken for a"),
        (NAMED, ("Neg", "POS"), {"POS": 0, "Neg": 1}, "otherwise in the data: POS is pos, Neg is"),
        ({"num_labels": 2}, ("LABEL_1", "LABEL_0"), {"LABEL_0": 0, "LABEL_1": 1},
         "otherwise in the data: LABEL_0 is 0, LABEL_1 is 1"),
        ({"num_labels": 1}, ("score",), {"score": 0}, None),
    ],
)  # fmt: skip
def test_a_head_for_these_classes_is_kept_in_its_order_and_says_what_it_assumes(
    saved, options, labels, ids, note
):
    folder = saved("bert", kind=tf.BertForSequenceClassification, **options)
    loaded = load(str(folder), device="cpu", labels=labels)
    assert class_ids(loaded.model) == ids
    kept = load_file(folder / "model.safetensors")["classifier.weight"]
    assert torch.equal(loaded.model.classifier.weight, kept)
    assert (
        [bool(re.search(note, told)) for told in loaded.notes] == [True]
        if note
        else (loaded.notes == ())
    )


@pytest.mark.parametrize("labels", [("bad", "good"), ("neg", "pos", "odd"), ("1", "2")])
@pytest.mark.parametrize(
    "name", ["BertForSequenceClassification", "RobertaForSequenceClassification"]
)
def test_a_head_for_other_classes_is_replaced_and_said(saved, labels, name):
    family = name.partition("For")[0].lower()
    folder = saved(family, kind=getattr(tf, name), **NAMED)
    first, again = (load(str(folder), device="cpu", labels=labels, seed=1) for _ in range(2))
    assert class_ids(first.model) == {label: i for i, label in enumerate(labels)}
    assert first.notes[0].endswith("; it replaces the checkpoint's, which is for pos, neg")
    weights = load_file(folder / "model.safetensors")
    changed = {
        key
        for key, value in first.model.state_dict().items()
        if value.shape != weights[key].shape or not torch.equal(value, weights[key])
    }
    last = "classifier" if family == "bert" else "classifier.out_proj"
    assert changed - {f"{last}.bias"} == {f"{last}.weight"}
    for one, two in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_body_without_all_its_weights_gets_no_head(saved):
    folder = saved("bert")
    drop(folder, "layer.1.")
    with pytest.raises(ModelError, match="checkpoint without the weights bert"):
        load(str(folder), device="cpu", labels=LABELS)


@pytest.mark.parametrize("name", ["t5", "bart", "mamba"])
def test_architectures_that_classification_is_not_for(saved, name):
    with pytest.raises(ModelError, match=f"classification is not for: '{name}'; expected an enc"):
        load(str(saved(name)), device="cpu", labels=LABELS)


@pytest.mark.parametrize("labels", [(), ("a", "a"), ("a", "b", "a")])
def test_labels_that_are_no_choice(saved, labels):
    with pytest.raises(BadInputError, match=r"labels of a classification.*two, all different"):
        load(str(saved("bert")), device="cpu", labels=labels)


def test_a_skeleton_with_a_head_for_classes(saved):
    skeleton = load_skeleton(str(saved("bert")), labels=LABELS)
    assert skeleton.kind == "classifier"
    assert skeleton.stacks[0].name == "bert.encoder.layer"
    assert {p.device.type for p in skeleton.model.parameters()} == {"meta"}


def test_a_classifier_that_was_saved_is_the_same(saved, tmp_path):
    loaded = load(str(saved("llama")), device="cpu", labels=LABELS, seed=5)
    loaded.model.save_pretrained(tmp_path / "again")
    loaded.tokenizer.save_pretrained(tmp_path / "again")
    again = load(str(tmp_path / "again"), device="cpu", labels=("pos", "neg"))
    assert again.notes == ()
    assert class_ids(again.model) == class_ids(loaded.model)
    for one, two in zip(loaded.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, two)


def test_the_classes_of_other_models_are_none(saved):
    assert class_ids(load(str(saved("bert")), device="cpu").model) == {}


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("bert", ("bert.pooler", "classifier")),
        ("roberta", ("classifier",)),
        ("distilbert", ("pre_classifier", "classifier")),
        ("gpt2", ("score",)),
        ("llama", ("score",)),
    ],
)
def test_the_modules_of_a_head(saved, name, heads):
    folder = str(saved(name))
    assert head_modules(load_skeleton(folder, labels=LABELS).model) == heads
    assert head_modules(load_skeleton(folder).model) == ()


def name_classes(folder, *names):
    """Write the names of the classes into the configuration beside an adapter's head."""
    named = {"id2label": dict(enumerate(names))}
    (folder / "config.json").write_text(json.dumps(named))


def test_an_adapter_with_a_head_of_its_own(saved, tmp_path):
    base = saved("bert")
    loaded = load(str(base), device="cpu", labels=LABELS)
    wrapped = get_peft_model(
        loaded.model,
        LoraConfig(task_type="SEQ_CLS", target_modules=["query"], r=2, modules_to_save=["pooler"]),
    )
    torch.manual_seed(1)
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.5)
    wrapped.save_pretrained(tmp_path / "adapter")
    name_classes(tmp_path / "adapter", *LABELS)
    inputs = torch.arange(6)[None]
    with torch.no_grad():
        expected = wrapped.eval()(inputs).logits
        again = load(str(tmp_path / "adapter"), device="cpu", labels=LABELS, seed=9)
        torch.testing.assert_close(again.model(inputs).logits, expected)
    names = [name for name, _ in again.model.named_modules()]
    assert not [name for name in names if "lora" in name or "modules_to_save" in name]
    assert again.notes == (
        "the adapter was merged into 3 modules",
        "the adapter brings its own bert.pooler, classifier",
    )


def test_such_an_adapter_without_its_head(saved, tmp_path):
    loaded = load(str(saved("bert")), device="cpu", labels=LABELS)
    config = LoraConfig(task_type="SEQ_CLS", target_modules=["query"], r=2)
    get_peft_model(loaded.model, config).save_pretrained(tmp_path / "adapter")
    again = load(str(tmp_path / "adapter"), device="cpu")
    assert (type(again.model), again.kind) == (tf.BertForMaskedLM, "masked")
    assert again.notes == (
        "the adapter's own classifier has no place in this model and was left out",
        "the adapter was merged into 3 modules",
    )


@pytest.fixture
def headed(saved, tmp_path):
    """The folder of an adapter with a head for two classes without names, its base, its logits."""
    base = saved("bert")
    loaded = load(str(base), device="cpu", labels=("0", "1"))
    config = LoraConfig(task_type="SEQ_CLS", target_modules=["query"], r=2)
    wrapped = get_peft_model(loaded.model, config)
    torch.manual_seed(1)
    torch.nn.init.normal_(wrapped.get_base_model().classifier.modules_to_save.default.weight)
    wrapped.save_pretrained(tmp_path / "adapter")
    with torch.no_grad():
        return tmp_path / "adapter", base, wrapped.eval()(torch.arange(6)[None]).logits


@pytest.mark.parametrize("named", [(), ("LABEL_0", "LABEL_1"), ("0", "1")])
def test_an_adapters_classes_without_names_are_those_of_a_checkpoint_without(headed, named):
    folder, base, logits = headed
    config = json.loads((base / "config.json").read_text()) | THREE  # Another head's.
    (base / "config.json").write_text(json.dumps(config))
    if named:
        name_classes(folder, *named)
    told = "no names: 0 is taken for neg, 1 is taken for pos; id2label in config.json names them"
    for labels, note in (
        (LABELS, told),
        (("1", "0"), ""),
        (("LABEL_1", "LABEL_0"), "LABEL_0 is 0"),
    ):
        loaded = load(str(folder), labels=labels)
        assert class_ids(loaded.model) == {name: i for i, name in enumerate(sorted(labels))}
        assert note in loaded.notes[-1]
        assert sum("classes" in n for n in loaded.notes) == bool(note)
        with torch.no_grad():
            torch.testing.assert_close(loaded.model(torch.arange(6)[None]).logits, logits)
    with pytest.raises(BadInputError, match=r"for other classes: 'a, b, c'; expected 0, 1"):
        load(str(folder), labels=("a", "b", "c"))


def test_an_adapter_of_a_score_is_not_for_classes(saved, tmp_path):
    loaded = load(str(saved("bert")), device="cpu", labels=("stars",))
    config = LoraConfig(task_type="SEQ_CLS", target_modules=["query"], r=2)
    get_peft_model(loaded.model, config).save_pretrained(tmp_path)
    assert load(str(tmp_path), labels=("stars",)).model.config.num_labels == 1
    with pytest.raises(BadInputError, match=r"a head for a score: labels that are classes: '0, 1'"):
        load(str(tmp_path), labels=("0", "1"))


@pytest.mark.parametrize("where", ["adapter", "base"])
def test_classes_keep_the_order_that_their_head_names_them_in(headed, where):
    folder, base, logits = headed
    if where == "adapter":
        name_classes(folder, "pos", "neg")
    else:
        config = json.loads((base / "config.json").read_text())
        config["id2label"] = {"0": "pos", "1": "neg"}
        (base / "config.json").write_text(json.dumps(config))
    loaded = load(str(folder), labels=LABELS)
    assert class_ids(loaded.model) == {"pos": 0, "neg": 1}
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(torch.arange(6)[None]).logits, logits)
    with pytest.raises(BadInputError, match="adapter with a head for other classes"):
        load(str(folder), labels=("good", "bad"))


def test_a_sample_need_not_show_every_class(saved):
    folder = str(saved("bert", kind=tf.BertForSequenceClassification, **THREE))
    loaded = load(folder, labels=("odd", "neg"))
    assert class_ids(loaded.model) == {"neg": 0, "pos": 1, "odd": 2}
    assert loaded.notes == ("no label is pos",)


THREE = {
    "id2label": {0: "neg", 1: "pos", 2: "odd"}, "label2id": {"neg": 0, "pos": 1, "odd": 2},
}  # fmt: skip


def test_configurations_without_class_names(saved):
    folder = saved("bert", kind=tf.BertForSequenceClassification)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({k: v for k, v in config.items() if k not in {"id2label", "label2id"}})
    )
    assert load(str(folder), device="cpu", labels=("0", "1")).notes == ()


# The family that a model is counted in, whatever its head.

FAMILIES = {
    **dict.fromkeys(("llama", "gpt_neox", "codegen", "qwen3_moe"), "decoder"),
    "mamba": "ssm",
    "mamba2": "ssm",
    "rwkv": "rnn",
    "bert": "encoder",
    "modernbert": "encoder",
    "t5": "encoder-decoder",
    "bart": "encoder-decoder",
}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_family_follows_from_how_text_is_read(tiny, name):
    loaded = tiny.build(name)
    assert family_of(loaded.model, loaded.stacks) == FAMILIES[name]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("encoder", "encoder"), ("bert_classifier", "encoder"), ("llama_classifier", "decoder")],
)
def test_the_head_does_not_matter(tiny_text, name, expected):
    model = tiny_text.model(name)
    assert family_of(model, find_stacks(model)) == expected
