"""What a better model is, by name."""

import importlib.util
import json
from dataclasses import replace

import pytest
import torch

from layerwise.data.text import Example, TextData
from layerwise.errors import BadInputError, UnknownNameError
from layerwise.measure import quality
from layerwise.measure.quality import harness_quality, known_qualities, named_quality
from layerwise.measure.text_qualities import TextQuality
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
    heard = {}
    monkeypatch.setitem(
        quality.TEXT_QUALITIES,
        "exact-match",
        TextQuality(lambda said, wanted: heard.update(said=said, wanted=wanted) or 0.0),
    )
    loaded = tuning.loaded()
    judged("exact-match", loaded, asked, tuning)
    wanted_of_each = [text for (text,) in heard["wanted"]]
    assert sorted(wanted_of_each) == sorted(example.text for example in asked.examples)
    left = list(asked.examples)
    for wanted, said in zip(wanted_of_each, heard["said"], strict=True):
        example = next(e for e in left if e.text == wanted)  # Prompts are told by their answers.
        left.remove(example)
        ids = loaded.tokenizer(example.prompt)["input_ids"]
        with torch.no_grad():
            token = int(loaded.model(torch.tensor([ids])).logits[0, -1].argmax())
        next_word = loaded.tokenizer.decode([token], skip_special_tokens=True)
        assert said.split()[:1] == next_word.split()


def test_answers_of_one_prompt_are_references_of_one_text(tuning, monkeypatch):
    heard = {}
    monkeypatch.setitem(
        quality.TEXT_QUALITIES,
        "exact-match",
        TextQuality(lambda said, wanted: heard.update(said=said, wanted=wanted) or 0.0),
    )
    told = [("w1 w2", "w3"), ("w4 w5", "w6"), ("w1 w2", "w7 w8"), ("w1 w2", "w9")]
    examples = tuple(Example(answer, prompt=prompt) for prompt, answer in told)
    columns = {"text": "text", "prompt": "q"}
    data = TextData("made", "0" * 64, examples, columns, len(examples))
    judged("exact-match", tuning.loaded(), data, tuning)
    assert sorted(map(sorted, heard["wanted"])) == [["w3", "w7 w8", "w9"], ["w6"]]
    assert len(heard["said"]) == 2


@pytest.mark.parametrize("model", ["llama", "t5", "mamba"])
def test_what_is_said_does_not_depend_on_the_batch(tuning, asked, monkeypatch, model):
    """Prompts of other lengths pad nothing, which not every model could be blind to."""
    mixed = [
        replace(example, prompt=" ".join([example.prompt] * (1 + n % 3)))
        for n, example in enumerate(asked.examples)
    ]
    data, said = replace(asked, examples=tuple(mixed)), []
    monkeypatch.setitem(
        quality.TEXT_QUALITIES,
        "exact-match",
        TextQuality(
            lambda found, wanted: said.append(sorted(zip(found, wanted, strict=True))) or 0.0
        ),
    )
    for size in (1, 3, 8):
        loaded = tuning.loaded(model)
        loss = resolve("sft", loaded=loaded, data=data)
        found = named_quality("exact-match", loss, tuning.settings(batch_size=size))
        found.measure(loaded, data)
    first, *others = said[1::2]  # Between them, what is installed was tried.
    assert len(first) == len(asked.examples)
    assert others == [first, first]


@pytest.mark.parametrize("name", ["exact-match", "bleu", "chrf++", "ter", "rouge"])
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


# --- Tasks of lm-evaluation-harness; on a task of our own where it is installed ---------------

INSTALLED = importlib.util.find_spec("lm_eval") is not None
TASK = """
task: toy_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{q}}}}"
doc_to_target: "{{{{label}}}}"
doc_to_choice: "{{{{choices}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
"""


@pytest.mark.skipif(INSTALLED, reason="lm_eval is installed")
def test_a_harness_that_is_not_installed_is_named():
    with pytest.raises(BadInputError, match=r"not installed: 'lm_eval'.*layerwise\[harness\]"):
        harness_quality("hellaswag", batch_size=2, limit=2)


@pytest.mark.slow  # Importing the harness takes most of a minute.
@pytest.mark.skipif(not INSTALLED, reason="lm_eval is not installed")
@pytest.mark.filterwarnings("ignore")  # The harness's own and its libraries'.
def test_a_task_s_figures_are_qualities(tuning, tmp_path):
    from lm_eval.tasks import TaskManager

    lines = ({"q": f"w{i}", "choices": ["w1", "w2"], "label": i % 2} for i in range(6))
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "toy.yaml").write_text(TASK.format(file=tmp_path / "d.jsonl"))
    how = {"batch_size": 2, "limit": 4, "tasks": TaskManager(include_path=str(tmp_path))}
    for name, told in (("toy_choice", "acc"), ("toy_choice/acc_norm", "acc_norm")):
        quality = harness_quality(name, **how)
        assert quality.name == f"harness:toy_choice/{told}"
        assert quality.higher_is_better
        assert quality.measure(tuning.loaded(), tuning.data(1)) in {0.0, 0.25, 0.5, 0.75, 1.0}
    with pytest.raises(UnknownNameError, match="unknown figure of task toy_choice: 'f1'"):
        harness_quality("toy_choice/f1", **how)
    with pytest.raises(UnknownNameError, match="did you mean 'toy_choice'"):
        harness_quality("toy_chioce", **how)
    (tmp_path / "d.jsonl").unlink()
    with pytest.raises(BadInputError, match="task of lm-evaluation-harness that cannot be loaded"):
        harness_quality("toy_choice", **(how | {"tasks": TaskManager(include_path=str(tmp_path))}))
