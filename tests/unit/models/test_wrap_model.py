"""Models in hand, as if they had been loaded."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from layerwise.errors import BadInputError, ModelError
from layerwise.models.load import load, wrap_model


@pytest.fixture(scope="module")
def folder(tiny_text, tmp_path_factory):
    path = tmp_path_factory.mktemp("given")
    tiny_text.model("llama").save_pretrained(path)
    tiny_text.tokenizer(frame="causal").save_pretrained(path)
    return path


def test_it_is_what_loading_gives_but_the_very_model(folder):
    model = AutoModelForCausalLM.from_pretrained(folder).train()
    found, loaded = wrap_model(model), load(str(folder))
    assert found.model is model
    assert not model.training
    assert (found.kind, found.stacks, found.source) == (loaded.kind, loaded.stacks, str(folder))
    assert found.tokenizer.get_vocab() == loaded.tokenizer.get_vocab()


def test_a_tokenizer_that_is_given_is_taken(folder, tiny_text):
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
