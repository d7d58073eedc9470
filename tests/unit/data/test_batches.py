from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from layerwise.data import Example
from layerwise.data.batches import (
    IGNORED,
    Row,
    assemble,
    by_length,
    causal_batch,
    class_batch,
    input_tensors,
    padded,
    prompted_rows,
    specials,
    text_rows,
    tokenise,
)
from layerwise.errors import BadInputError, DataError, ModelError
from support.examples import of, words


def texts(*lengths):
    return of(*(Example(words(length, start=i)) for i, length in enumerate(lengths)))


@pytest.mark.parametrize(
    ("times", "frame", "parts"),
    [
        (1, "plain", ([], [])),
        (1, "causal", (["<s>"], [])),
        (1, "t5", ([], ["</s>"])),
        (1, "bert", (["<cls>"], ["<sep>"])),
        (2, "plain", ([], [], [])),
        (2, "bert", (["<cls>"], ["<sep>"], ["<sep>"])),
    ],
)
def test_specials_are_read_off_the_tokenizer(tiny_text, times, frame, parts):
    tokenizer = tiny_text.tokenizer(frame=frame)
    found = specials(tokenizer, ["", "w1 w2 w1"], times=times)
    assert tuple(map(tokenizer.convert_ids_to_tokens, found)) == parts


def test_tokenise_adds_and_cuts_nothing(tiny_text):
    tokenizer = tiny_text.tokenizer(frame="bert")
    tokenizer.model_max_length = 4
    assert list(map(len, tokenise(tokenizer, ["", words(3), words(30)]))) == [0, 3, 30]


def test_tokens_are_rows_as_they_are(tiny_text):
    data = of(Example("", ids=(5, 6, 7), counted=(False, True, True)), Example("", ids=(8, 9)))
    rows = text_rows(tiny_text.tokenizer(frame="bert"), data, max_length=2, least=2)
    assert [(row.ids, tuple(row.counted)) for row in rows.rows] == [
        ((5, 6), (False, True)), ((8, 9), (True, True)),
    ]  # fmt: skip
    assert rows.truncated == 1
    for odd in (10_000, -1):
        message = f"example 1 are not this tokenizer's: '{odd}'; expected 0 to"
        with pytest.raises(DataError, match=message):
            text_rows(tiny_text.tokenizer(), of(Example("", ids=(5, odd))), max_length=2)


def test_truncation_keeps_the_special_tokens(tiny_text):
    tokenizer = tiny_text.tokenizer(frame="bert")
    rows = text_rows(tokenizer, texts(3, 9), max_length=6)
    shown = [tokenizer.decode(row.ids) for row in rows.rows]
    assert shown == ["<cls> w0 w1 w2 <sep>", "<cls> w1 w2 w3 w4 <sep>"]
    assert rows.truncated == 1


LONG, SHORT = (Example("w1 w2", prompt=words(n)) for n in (8, 2))


@pytest.mark.parametrize(
    ("maker", "data", "all_of_it", "index", "truncated", "cause"),
    [
        (partial(text_rows, least=2), texts(1, 0, 2), texts(1, 1), 2, 0, "is a single token"),
        (prompted_rows, of(LONG, SHORT), of(LONG), 1, 1, "than the length limit.*--max-length N"),
    ],
)
def test_rows_with_nothing_to_predict_are_dropped(
    tiny_text, maker, data, all_of_it, index, truncated, cause
):
    rows = maker(tiny_text.tokenizer(), data, max_length=8)
    assert ([row.index for row in rows.rows], rows.truncated) == ([index], truncated)
    with pytest.raises(DataError, match=rf"nothing is left to predict .*{cause}"):
        maker(tiny_text.tokenizer(), all_of_it, max_length=8)


@pytest.mark.parametrize("maker", [text_rows, prompted_rows])
def test_no_room_beside_the_special_tokens(tiny_text, maker):
    with pytest.raises(BadInputError, match=r"leaves no room for text: '2'; expected at least 3"):
        maker(tiny_text.tokenizer(frame="bert"), texts(3), max_length=2)


pairs = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=8)


@given(pairs=pairs, limit=st.integers(3, 20), frame=st.sampled_from(["plain", "causal", "bert"]))
def test_prompt_and_padding_are_in_no_loss_and_no_statistic(tiny_text, pairs, limit, frame):
    tokenizer = tiny_text.tokenizer(frame=frame)
    data = of(*(Example(words(a, start=25), prompt=words(p)) for p, a in pairs))
    before, after = {"plain": (0, 0), "causal": (1, 0), "bert": (1, 1)}[frame]
    ends = [(before + p, min(before + p + a + after, limit)) for p, a in pairs]
    if not any(end > max(start, 1) for start, end in ends):
        with pytest.raises(DataError, match="nothing is left to predict"):
            prompted_rows(tokenizer, data, max_length=limit)
        return
    rows = prompted_rows(tokenizer, data, max_length=limit)
    batch = causal_batch(rows.rows, pad=0)
    ids, mask = batch.inputs["input_ids"], batch.token_mask
    assert batch.index.tolist() == [i for i, (a, b) in enumerate(ends) if b > max(a, 1)]
    for row, index in enumerate(batch.index):
        prompt, length = ends[index]
        assert int(batch.inputs["attention_mask"][row].sum()) == length
        expected = torch.zeros(ids.shape[1], dtype=torch.bool)
        expected[prompt:length] = True
        assert torch.equal(mask[row], expected)
        # Position t is to predict token t + 1, where that token counts.
        counted = torch.cat([expected[1:], torch.tensor([False])])
        assert torch.equal(batch.labels[row] != IGNORED, counted)
        assert torch.equal(batch.labels[row][counted], ids[row].roll(-1)[counted])


def test_padding_id_is_immaterial(tiny_text):
    rows = text_rows(tiny_text.tokenizer(), texts(3, 5), max_length=8).rows
    assert torch.equal(causal_batch(rows, pad=None).labels, causal_batch(rows, pad=7).labels)
    assert causal_batch(rows, pad=7).inputs["input_ids"][0].tolist()[-2:] == [7, 7]


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=20), size=st.integers(1, 6))
def test_batches_by_length_are_a_partition_longest_first(lengths, size):
    rows = [Row(i, [0] * n, [True] * n) for i, n in enumerate(lengths)]
    groups = by_length(rows, batch_size=size)
    assert sorted(row.index for group in groups for row in group) == list(range(len(lengths)))
    assert [len(group) for group in groups[:-1]] == [size] * (len(groups) - 1)
    order = [len(row.ids) for group in groups for row in group]
    assert order == sorted(order, reverse=True)


def test_assemble_counts(tiny_text):
    tokenizer = tiny_text.tokenizer()
    rows = text_rows(tokenizer, texts(3, 12, 1), max_length=8, least=2)
    groups = by_length(rows.rows, batch_size=1)
    found = assemble(rows, groups, of=3, collate=lambda group: causal_batch(group, pad=0))
    assert (found.truncated, found.dropped, found.tokens) == (1, 1, 8 + 3)
    assert [batch.index.tolist() for batch in found.batches] == [[1], [0]]
    assert sum(int(batch.token_mask.sum()) for batch in found.batches) == found.tokens


def test_padded():
    assert padded([[1, 2], [3]], fill=9, dtype=torch.long).tolist() == [[1, 2], [3, 9]]


def test_a_moved_batch_is_all_there(tiny_text):
    batch = causal_batch(text_rows(tiny_text.tokenizer(), texts(3, 5), max_length=8).rows, pad=0)
    whole = replace(batch, decoder_mask=batch.token_mask, pooled=batch.index)
    moved = whole.to("meta")
    assert len(moved) == 2
    tensors = [*moved.inputs.values(), moved.labels, moved.token_mask, moved.index]
    for tensor in (*tensors, moved.decoder_mask, moved.pooled):
        assert tensor.device.type == "meta"
    assert (batch.to("meta").decoder_mask, batch.to("meta").pooled) == (None, None)
    less = whole.without_last()
    assert [len(t) for t in (less.labels, less.pooled, less.inputs["input_ids"])] == [1, 1, 1]


def test_a_tokenizer_that_knows_no_pairs():
    class Joining:
        """As a tokenizer that reads two texts as one word."""

        def __call__(self, first, second=None, **_):
            if isinstance(first, list):
                return {"input_ids": [[len(text)] for text in first]}
            return {"input_ids": [len(first + second)]}

    with pytest.raises(ModelError, match=r"joins two texts to other tokens.*'Joining'"):
        specials(Joining(), ["abc"], times=2)


def test_rows_of_two_texts_say_which_token_is_of_which():
    rows = [
        Row(0, [5, 6, 7], [True] * 3, segments=[0, 1, 1], label=1),
        Row(1, [8, 9], [True] * 2, segments=[0, 1], label=0),
    ]
    assert input_tensors(rows, pad=0)["token_type_ids"].tolist() == [[0, 1, 1], [0, 1, 0]]
    batch = class_batch(rows, pad=0)
    assert batch.classes.tolist() == [1, 0]
    assert batch.labels is None
    assert batch.to("cpu").classes.tolist() == [1, 0]
