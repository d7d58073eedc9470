import pytest
from torch import nn

from layerwise.data import Example, TextData, read
from layerwise.errors import BadInputError, UnknownNameError
from layerwise.models.load import LoadedModel
from layerwise.objectives import labels_for
from layerwise.objectives import resolve as resolve_for


def data(*roles, labels=("b", "a")):
    columns = {role: f"my {role}" for role in roles}
    examples = tuple(Example("text", label=label) for label in labels)
    return TextData("test", "", examples, columns, len(examples))


def resolve(name, *, kind, data, model=None):
    loaded = LoadedModel(
        model=model or nn.Module(), tokenizer=None, source="test", kind=kind, stacks=()
    )
    return resolve_for(name, loaded=loaded, data=data)


@pytest.mark.parametrize(
    ("kind", "roles", "name"),
    [
        ("causal", ["text"], "causal-lm"),
        ("causal", ["text", "prompt"], "sft"),
        ("causal", ["messages"], "sft"),
        ("seq2seq", ["text"], "causal-lm"),
        ("seq2seq", ["text", "prompt"], "sft"),
        ("masked", ["text"], "masked-lm"),
        ("encoder", ["text"], "simcse"),
        ("classifier", ["text", "label"], "classification"),
    ],
)
def test_auto(kind, roles, name):
    assert resolve("auto", kind=kind, data=data(*roles)).name == name


ASK, TELL = {"role": "user", "content": "Oslo?"}, {"role": "assistant", "content": "Norway"}
OTHER = {"role": "assistant", "content": "Mars"}


@pytest.mark.parametrize("row", [
    {"chosen": [ASK, TELL], "rejected": [ASK, OTHER]},
    {"chosen": "Human: Oslo? Assistant: Norway", "rejected": "Human: Oslo? Assistant: Mars"},
    {"prompt": "Oslo?", "chosen": "Norway", "rejected": "Mars"},
])  # fmt: skip
def test_auto_leaves_the_question_of_a_preference_out_of_the_loss(row):
    found = read([row])
    assert resolve("auto", kind="causal", data=found).name == "sft"
    (example,) = found.examples
    assert example.text == "Norway"
    assert "Oslo?" in str(example.messages or example.prompt)
    with pytest.raises(BadInputError, match="prompts and chats have no meaning for causal-lm"):
        resolve("causal-lm", kind="causal", data=found)


@pytest.mark.parametrize(
    ("name", "kind", "roles", "fitting"),
    [
        ("masked-lm", "causal", [], "causal-lm, sft, causal-span, simcse, barlow-twins"),
        ("span-denoise", "causal", [], "causal-lm, sft, causal-span, simcse, barlow-twins"),
        ("causal-lm", "masked", [], "masked-lm, span-denoise, simcse, barlow-twins"),
        ("causal-span", "seq2seq", [], "causal-lm, sft"),
        ("sft", "encoder", ["prompt"], "simcse, barlow-twins"),
        ("nsp", "causal", [], "causal-lm, sft, causal-span, simcse, barlow-twins"),
        ("simcse", "seq2seq", [], "causal-lm, sft"),
        ("barlow-twins", "seq2seq", [], "causal-lm, sft"),
        ("simcse", "classifier", [], "classification"),
        ("classification", "masked", ["label"], "masked-lm, span-denoise, simcse, barlow-twins"),
    ],
)
def test_a_wrong_pair_names_what_would_do(name, kind, roles, fitting):
    with pytest.raises(
        BadInputError, match=f"kind {kind}: '{name}'; expected one of {fitting}; try"
    ):
        resolve(name, kind=kind, data=data("text", *roles))


@pytest.mark.parametrize(
    ("name", "kind", "fitting"),
    [
        ("bert", "masked", "masked-lm, span-denoise, simcse, barlow-twins"),
        ("encoder", "encoder", "simcse, barlow-twins"),
    ],
)
def test_nsp_needs_a_pretrained_head(tiny_text, name, kind, fitting):
    with pytest.raises(
        BadInputError,
        match=f"without a pretrained next-sentence head: 'nsp'; expected one of {fitting}; try",
    ):
        resolve("nsp", kind=kind, data=data("text"), model=tiny_text.model(name))


@pytest.mark.parametrize("name", ["pretraining", "mobilebert", "next_sentence"])
def test_nsp_with_one(tiny_text, name):
    model, kind = tiny_text.model(name), tiny_text.kind(name)
    assert resolve("nsp", kind=kind, data=data("text"), model=model).name == "nsp"


LABEL, PROMPT = ["text", "label"], ["text", "prompt"]


@pytest.mark.parametrize(
    ("name", "kind", "roles", "message"),
    [
        ("mlm", "masked", ["text"], r"unknown objective: 'mlm'.*masked-lm"),
        ("auto", "causal", LABEL, r"or a model loaded with labels=\["),
        ("causal-lm", "causal", LABEL, r"label column has no meaning.*drop --label-column"),
        ("masked-lm", "masked", LABEL, r"label column has no meaning.*drop --label-column"),
        ("simcse", "encoder", LABEL, r"label column has no meaning.*drop --label-column"),
        ("classification", "classifier", ["text"], r"needs a label column.*--label-column"),
        ("auto", "classifier", ["text"], r"classification needs a label column.*--label-column"),
        ("sft", "causal", ["text"], r"sft needs a prompt column or chats.*--prompt-column"),
        ("causal-lm", "causal", PROMPT, "no meaning for causal-lm: .*--objective sft"),
        ("causal-lm", "causal", ["messages"], "prompts and chats have no meaning for causal-lm"),
        ("masked-lm", "masked", PROMPT, "no meaning for masked-lm: .*and no --prompt-column"),
        ("masked-lm", "masked", ["messages"], "prompts and chats have no meaning for masked-lm"),
        ("auto", "seq2seq", ["messages"], "chats have no meaning for an encoder-decoder"),
    ],
)
def test_columns_that_do_not_fit_are_refused(name, kind, roles, message):
    with pytest.raises(BadInputError, match=message):
        resolve(name, kind=kind, data=data(*roles))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["b", "a", "b"], ("a", "b")),
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["10", "9", "x"], ("10", "9", "x")),
    ],
)
@pytest.mark.parametrize("name", ["auto", "classification"])
def test_labels_that_a_model_is_loaded_for(name, labels, names):
    assert labels_for(name, data("text", "label", labels=labels)) == names


@pytest.mark.parametrize(("name", "roles"), [("auto", ["text"]), ("simcse", ["text", "label"])])
def test_no_labels_are_asked_for(name, roles):
    assert labels_for(name, data(*roles)) is None


def test_one_class_is_none():
    with pytest.raises(BadInputError, match=r"two classes or more: 'a'; expected a column"):
        labels_for("auto", data("text", "label", labels=["a", "a"]))


def test_labels_for_an_unknown_objective():
    with pytest.raises(UnknownNameError, match="unknown objective: 'mlm'"):
        labels_for("mlm", data("text"))
