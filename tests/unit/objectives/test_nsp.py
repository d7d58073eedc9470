from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from layerwise.errors import BadInputError, DataError
from layerwise.objectives import OBJECTIVES
from layerwise.objectives.nsp import halves
from support.examples import batches, words

NSP = OBJECTIVES["nsp"]
TEXTS = tuple(f"w{2 * i} w{2 * i + 1}" for i in range(20))


def make(tokenizer, texts=TEXTS, **options):
    return batches("nsp", tokenizer, texts, **options)


@pytest.fixture
def tokenizer(tiny_text):
    return tiny_text.tokenizer(frame="bert")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("One. Two.", ("One.", "Two.")),
        ("One. Two is longer. Three.", ("One. Two is longer.", "Three.")),
        ('He said "no!" She left.', ('He said "no!"', "She left.")),
        ("no sentence ends here at", ("no sentence", "ends here at")),
        ("a title\nthen text", ("a title", "then text")),
        ("  two   words  ", ("two", "words")),
        ("one", None),
        ("", None),
    ],
)  # fmt: skip
def test_halves(text, parts):
    assert halves(text) == parts


@given(st.text(alphabet="ab. !\n", max_size=40))
def test_halves_are_the_text_but_for_the_gap(text):
    parts = halves(text)
    if parts is None:
        assert len(text.split()) <= 1
    else:
        assert " ".join(parts).split() == text.split()
        assert all(part.strip() for part in parts)


def pairs(tokenizer, batch_set):
    """index: (first text, second text, class), read back from the tensors."""
    found = {}
    for batch in batch_set.batches:
        for row, index in enumerate(batch.index.tolist()):
            ids, kind = batch.inputs["input_ids"][row], batch.inputs["token_type_ids"][row]
            real = batch.inputs["attention_mask"][row].bool()
            first, second = (
                tokenizer.decode(ids[real & (kind == k)], skip_special_tokens=True) for k in (0, 1)
            )
            found[index] = (first, second, int(batch.classes[row]))
    return found


def test_pairs_are_framed_as_the_tokenizer_frames_them(tokenizer):
    data = make(tokenizer)
    for batch in data.batches:
        for row in range(len(batch)):
            size = int(batch.inputs["attention_mask"][row].sum())
            ids = batch.inputs["input_ids"][row, :size].tolist()
            first, second = tokenizer.decode(ids[1:2]), tokenizer.decode(ids[3:4])
            whole = tokenizer(first, second, return_token_type_ids=True)
            assert ids == whole["input_ids"]
            kinds = batch.inputs["token_type_ids"][row, :size].tolist()
            assert kinds == whole["token_type_ids"] == [0, 0, 0, 1, 1]


def test_class_0_goes_on_and_class_1_is_another_text_s_second_half(tokenizer):
    for index, (first, second, label) in pairs(tokenizer, make(tokenizer)).items():
        own = TEXTS[index].split()
        assert first == own[0]
        assert (second == own[1]) == (label == 0)
        assert second in {text.split()[1] for text in TEXTS}


@pytest.mark.slow
def test_half_of_the_pairs_are_true(tokenizer):
    texts = TEXTS * 100
    labels = [label for *_, label in pairs(tokenizer, make(tokenizer, texts)).values()]
    # 2000 draws: five standard deviations are 0.056.
    assert sum(labels) / len(labels) == pytest.approx(0.5, abs=0.056)


@pytest.mark.slow
def test_partners_come_from_all_the_others_alike(tokenizer):
    texts = TEXTS[:3]
    seen = {(0, 1): 0, (0, 2): 0, (1, 0): 0, (1, 2): 0, (2, 0): 0, (2, 1): 0}
    seconds = {text.split()[1]: i for i, text in enumerate(texts)}
    for seed in range(600):
        for index, (_, second, label) in pairs(
            tokenizer, make(tokenizer, texts, seed=seed)
        ).items():
            if label:
                seen[index, seconds[second]] += 1
    # Each of 600 draws with chance 1/4: five standard deviations are 53.
    assert all(count == pytest.approx(150, abs=53) for count in seen.values())


def test_what_is_too_long_is_cut_where_the_two_do_not_meet(tokenizer):
    texts = (words(20), "w40 w41")
    for seed in range(10):
        found = make(tokenizer, texts, seed=seed, max_length=9)
        first, second, label = pairs(tokenizer, found)[0]
        if label == 0:
            assert (first, second) == ("w8 w9 w10", "w11 w12 w13")
        else:
            assert (first, second) == ("w6 w7 w8 w9 w10", "w41")
        assert found.truncated == 1 + pairs(tokenizer, found)[1][2]


def test_every_row_fits(tokenizer):
    texts = [words(2 + 7 * i) for i in range(8)]
    for limit in (5, 6, 9, 20):
        for batch in make(tokenizer, texts, max_length=limit).batches:
            assert batch.inputs["input_ids"].shape[1] <= limit
            assert (batch.inputs["token_type_ids"].sum(1) >= 2).all()


def test_texts_of_one_word_are_dropped(tokenizer):
    found = make(tokenizer, ("w1 w2", "w3", "w4 w5"))
    assert (found.dropped, sorted(pairs(tokenizer, found))) == (1, [0, 2])
    with pytest.raises(DataError, match=r"nsp needs other texts.*'1'; expected at least 2"):
        make(tokenizer, ("w1 w2", "w3"))


def test_no_room_for_two_texts(tokenizer):
    with pytest.raises(BadInputError, match=r"no room for two texts: '4'; expected at least 5"):
        make(tokenizer, max_length=4)


@pytest.mark.parametrize("name", ["pretraining", "next_sentence", "mobilebert"])
def test_losses_are_the_head_s_own(tiny_text, tokenizer, name):
    model = tiny_text.model(name)
    for batch in make(tokenizer).batches:
        output = model(**batch.inputs)
        logits = output.logits if name == "next_sentence" else output.seq_relationship_logits
        torch.testing.assert_close(
            NSP.losses(model, batch), cross_entropy(logits, batch.classes, reduction="none")
        )


def test_a_batch_without_classes(tiny_text, tokenizer):
    (batch,) = make(tokenizer, TEXTS[:3]).batches
    with pytest.raises(ValueError, match="needs a batch with classes"):
        NSP.losses(tiny_text.model("pretraining"), replace(batch, classes=None))
