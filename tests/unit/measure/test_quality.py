"""What a better model is, by name."""

from dataclasses import replace

import pytest
import torch

from layerwise.data.text import Example, TextData
from layerwise.errors import BadInputError, UnknownNameError
from layerwise.measure.quality import known_qualities, named_quality
from layerwise.objectives import resolve


@pytest.fixture(scope="module")
def asked():
    """Prompts and answers."""
    examples = tuple(
        Example(f"w{i % 5} w{i % 3}", prompt=f"w{i} w{i + 1} w{i + 2}") for i in range(9)
    )
    return TextData("made", "0" * 64, examples, {"text": "text", "prompt": "q"}, len(examples))


def judged(name, loaded, data, tuning, objective="auto"):
    loss = resolve(objective, loaded=loaded, data=data)
    quality = named_quality(name, loss, tuning.settings())
    return quality.measure(loaded, data)


def test_accuracy_is_of_the_tokens_that_the_loss_counts(tuning):
    loaded, data = tuning.loaded(), tuning.data(6)
    right = total = 0
    for example in data.examples:
        ids = torch.tensor([loaded.tokenizer(example.text)["input_ids"][:16]])
        with torch.no_grad():
            guessed = loaded.model(ids).logits.argmax(-1)[0, :-1]
        right += int((guessed == ids[0, 1:]).sum())
        total += ids.shape[1] - 1
    assert judged("accuracy", loaded, data, tuning) == pytest.approx(right / total)


def test_accuracy_of_a_model_that_always_says_one_word(tuning):
    loaded, word = tuning.loaded(), "w7"
    (token,) = loaded.tokenizer(word, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        loaded.model.lm_head.weight.zero_()
        loaded.model.lm_head.bias = torch.nn.Parameter(torch.zeros(61))
        loaded.model.lm_head.bias[token] = 9.0
    told = (Example(f"{word} {word} {word}"),)
    data = replace(tuning.data(1), examples=told)
    assert judged("accuracy", loaded, data, tuning) > 0.5


def test_accuracy_has_no_meaning_for_a_loss_without_predictions(tuning):
    with pytest.raises(BadInputError, match="accuracy under simcse, which predicts no class"):
        judged("accuracy", tuning.loaded("bert"), tuning.data(8), tuning, "simcse")


def test_generated_answers_are_those_of_greedy_decoding(tuning, asked, monkeypatch):
    from layerwise.measure import quality

    heard = {}
    monkeypatch.setitem(
        quality.TEXT_QUALITIES._members,
        "exact-match",
        lambda said, wanted: heard.update(said=list(said), wanted=list(wanted)) or 0.0,
    )
    loaded = tuning.loaded()
    judged("exact-match", loaded, asked, tuning)
    assert sorted(heard["wanted"]) == sorted(example.text for example in asked.examples)
    left = list(asked.examples)
    for wanted, said in zip(heard["wanted"], heard["said"], strict=True):
        example = next(e for e in left if e.text == wanted)  # Prompts are told by their answers.
        left.remove(example)
        ids = loaded.tokenizer(example.prompt)["input_ids"]
        with torch.no_grad():
            token = int(loaded.model(torch.tensor([ids])).logits[0, -1].argmax())
        next_word = loaded.tokenizer.decode([token], skip_special_tokens=True)
        assert said.split()[:1] == next_word.split()


@pytest.mark.parametrize("name", ["exact-match", "bleu", "chrf", "rouge"])
@pytest.mark.parametrize("model", ["llama", "t5"])
def test_text_qualities_take_a_model_with_and_without_an_encoder(tuning, asked, name, model):
    objective = "sft"
    assert judged(name, tuning.loaded(model), asked, tuning, objective) >= 0.0


def test_what_has_no_prompts_generates_nothing_and_the_loss_needs_no_quality_of_its_own(tuning):
    loaded, data = tuning.loaded(), tuning.data(4)
    loss = resolve("auto", loaded=loaded, data=data)
    assert named_quality("loss", loss, tuning.settings()) is None
    assert known_qualities()[:2] == ("loss", "accuracy")
    with pytest.raises(BadInputError, match="bleu of generated text under causal-lm"):
        named_quality("bleu", loss, tuning.settings())
    with pytest.raises(UnknownNameError, match="unknown quality: 'blue'"):
        named_quality("blue", loss, tuning.settings())
