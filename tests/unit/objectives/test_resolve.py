import pytest

from layerwise.data import Example, TextData
from layerwise.errors import BadInputError, UnknownNameError
from layerwise.objectives import resolve


def data(*roles):
    columns = {role: f"my {role}" for role in roles}
    return TextData("test", "", (Example("a"),), columns, 1)


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
    ],
)
def test_auto(kind, roles, name):
    assert resolve("auto", kind=kind, data=data(*roles)).name == name


def test_by_name():
    assert resolve("simcse", kind="causal", data=data("text")).name == "simcse"


def test_unknown_objective():
    with pytest.raises(UnknownNameError, match=r"unknown objective: 'mlm'.*masked-lm"):
        resolve("mlm", kind="masked", data=data("text"))


@pytest.mark.parametrize(
    ("name", "kind", "fitting"),
    [
        ("masked-lm", "causal", "causal-lm, sft, simcse"),
        ("causal-lm", "masked", "masked-lm, simcse"),
        ("sft", "encoder", "simcse"),
        ("simcse", "seq2seq", "causal-lm, sft"),
    ],
)
def test_a_wrong_pair_names_what_would_do(name, kind, fitting):
    with pytest.raises(
        BadInputError, match=f"kind {kind}: '{name}'; expected one of {fitting}; try"
    ):
        resolve(name, kind=kind, data=data("text", "prompt"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("auto", "causal"), ("causal-lm", "causal"), ("masked-lm", "masked"), ("simcse", "encoder")],
)
def test_a_label_column_has_no_meaning(name, kind):
    with pytest.raises(BadInputError, match=r"label column has no meaning.*drop --label-column"):
        resolve(name, kind=kind, data=data("text", "label"))


def test_sft_without_a_prompt():
    with pytest.raises(BadInputError, match=r"sft needs a prompt column or chats.*--prompt-column"):
        resolve("sft", kind="causal", data=data("text"))


@pytest.mark.parametrize("roles", [["text", "prompt"], ["messages"]])
@pytest.mark.parametrize(("name", "kind"), [("causal-lm", "causal"), ("masked-lm", "masked")])
def test_a_prompt_that_would_not_be_read(name, kind, roles):
    with pytest.raises(BadInputError, match=f"prompts and chats have no meaning for {name}"):
        resolve(name, kind=kind, data=data(*roles))


def test_a_chat_for_an_encoder_decoder():
    with pytest.raises(BadInputError, match="chats have no meaning for an encoder-decoder"):
        resolve("auto", kind="seq2seq", data=data("messages"))
