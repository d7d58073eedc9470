"""Which objectives are compared, and what is said where they cannot be."""

from dataclasses import replace

import pytest

from layerwise.distance.choose import choose
from layerwise.errors import BadInputError, UnknownNameError


def names(tuning, model, **options):
    return [o.name for o in choose(tuning.loaded(model), tuning.data(4), **options)]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("llama", ["causal-lm", "causal-span", "simcse", "barlow-twins"]),
        ("mamba", ["causal-lm", "causal-span", "simcse", "barlow-twins"]),
        ("bert", ["masked-lm", "span-denoise", "simcse", "barlow-twins"]),
        ("pretraining", ["masked-lm", "span-denoise", "nsp", "simcse", "barlow-twins"]),
    ],
)
def test_all_that_the_model_can_do_the_reference_first(tuning, model, expected):
    assert names(tuning, model) == expected


def test_those_named_in_their_order_with_the_reference_added_once(tuning):
    assert names(tuning, "bert", objectives=["simcse", "span-denoise", "simcse"]) == [
        "masked-lm", "simcse", "span-denoise",
    ]  # fmt: skip
    asked = {"objectives": ["masked-lm", "simcse"], "reference": "simcse"}
    assert names(tuning, "bert", **asked) == ["simcse", "masked-lm"]


def test_every_objective_that_cannot_be_done_is_named_at_once(tuning):
    message = (
        "objectives that bert cannot do on this data: 'nsp, causal-lm'; expected some of "
        "masked-lm, span-denoise, simcse, barlow-twins; try: --objectives masked-lm,"
    )
    with pytest.raises(BadInputError, match=message):
        names(tuning, "bert", objectives=["nsp", "simcse"], reference="causal-lm")


@pytest.mark.parametrize("where", [{"objectives": ["simsce"]}, {"reference": "simsce"}])
def test_unknown_names(tuning, where):
    with pytest.raises(UnknownNameError, match=r"did you mean 'simcse'\?"):
        names(tuning, "llama", **where)


def test_a_model_without_a_language_head_needs_a_reference(tuning):
    message = "no usual reference objective for encoder, of kind encoder; .*--reference simcse"
    with pytest.raises(BadInputError, match=message):
        names(tuning, "encoder")
    assert names(tuning, "encoder", reference="simcse") == ["simcse", "barlow-twins"]


@pytest.mark.parametrize(
    ("model", "options", "expected"),
    [
        ("t5", {}, "a model and data for two objectives or more"),
        ("llama", {"objectives": ["causal-lm"]}, "some of causal-span, simcse, barlow-twins"),
    ],
)
def test_one_objective_has_nothing_to_be_compared_with(tuning, model, options, expected):
    with pytest.raises(BadInputError, match=f"nothing to compare .*'causal-lm'.*{expected}"):
        names(tuning, model, **options)


def test_data_decides_too(tuning):
    data = replace(tuning.data(4), columns={"text": "text", "prompt": "question"})
    with pytest.raises(BadInputError, match=r"no usual reference objective.*one of sft"):
        choose(tuning.loaded("llama"), data)
    with pytest.raises(BadInputError, match=r"cannot do on this data: 'simcse'.*some of sft"):
        choose(tuning.loaded("llama"), data, objectives=["simcse"])


def test_a_classifier_has_no_objective_without_labels(tuning):
    with pytest.raises(BadInputError, match=r"of kind classifier; expected another model or data$"):
        names(tuning, "bert_classifier")
    with pytest.raises(BadInputError, match=r"'simcse'; expected another model or data$"):
        names(tuning, "bert_classifier", objectives=["simcse"])
