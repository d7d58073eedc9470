"""Models that take pictures, the whole way, against their own processor called by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import layerwise as lw
from layerwise.cli import main
from layerwise.data.text import read
from layerwise.errors import BadInputError, LayerwiseError
from layerwise.models.load import load, wrap_model
from layerwise.models.reading import no_processor
from layerwise.objectives import OBJECTIVES, resolve
from layerwise.objectives.forward import accepted
from support import pictures

pytestmark = [
    pytest.mark.slow,
    # transformers' own processor of PaliGemma makes an array of a tensor.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
]


def asked(words, count):
    parts = [{"type": "image"}] * count + [{"type": "text", "text": words}]
    return {"role": "user", "content": parts if count else words}


def told(words):
    return {"role": "assistant", "content": words}


def row(*turns, shows=()):
    return {"messages": list(turns), "images": [pictures.drawn(seed) for seed in shows] or None}


ROWS = [
    row(asked("what?", 1), told("a cat"), shows=[0]),
    row(asked("which?", 2), told("the one"), asked("why?", 0), told("it is near"), shows=[1, 2]),
    row(asked("none?", 0), told("no, none at all")),
    row(asked("this?", 1), told("dog"), shows=[3]),
]


@pytest.fixture(scope="module", params=list(pictures.EVERY))
def seeing(request, tmp_path_factory):
    return load(str(pictures.save(request.param, tmp_path_factory.mktemp(request.param))))


def batches(loaded, data, **options):
    asked = {"batch_size": 4, "max_length": 400, "seed": 0, **options}
    return OBJECTIVES["sft"].batches_for(loaded, data, **asked)


def by_hand(loaded, row):
    """The mean loss of the answers' tokens, from a chat that is rendered and read by itself."""
    processor = loaded.processor()
    turns = row["messages"]
    texts = [
        processor.tokenizer.apply_chat_template(turns[:end], tokenize=False,
                                                add_generation_prompt=opens)
        for end, opens in [(i + o, not o) for i, turn in enumerate(turns)
                           if turn["role"] == "assistant" for o in (0, 1)]
    ]  # fmt: skip
    images = [row["images"]] if row["images"] else None
    how = {"add_special_tokens": False, "return_tensors": "pt"}
    read = [
        processor(text=[text], images=images, **how)
        if images
        else processor.tokenizer([text], **how)
        for text in texts
    ]
    whole = read[-1]
    labels = torch.full_like(whole["input_ids"], -100)
    is_prefixed = "labels" in whole  # PaliGemma's, which ends each text with a line's end.
    ends = [each["input_ids"].shape[1] - is_prefixed for each in read]
    for before, after in zip(ends[::2], ends[1::2], strict=True):
        labels[:, before:after] = whole["input_ids"][:, before:after]
    if is_prefixed:
        del whole["labels"]
        whole["token_type_ids"][:] = 1  # From the first answer on, a token sees those before it.
        whole["token_type_ids"][:, : ends[0]] = 0
    with torch.no_grad():
        logits = loaded.model(**whole).logits
    return float(cross_entropy(logits[0, :-1], labels[0, 1:]))


def test_losses_are_those_of_the_model_and_processor_by_hand(seeing):
    data = read(ROWS)
    (batch,) = batches(seeing, data).batches
    losses = OBJECTIVES["sft"].losses(seeing.model, batch).tolist()
    found = [losses[batch.index.tolist().index(i)] for i in range(len(ROWS))]
    assert found == pytest.approx([by_hand(seeing, row) for row in ROWS], rel=1e-5)


def test_answers_alone_count_and_rows_do_not_depend_on_their_batch(seeing):
    data = read(ROWS)
    made = batches(seeing, data)
    (batch,) = made.batches
    for i, ids, counted in zip(
        batch.index, batch.inputs["input_ids"], batch.token_mask, strict=True
    ):
        said = "".join(t["content"] + "<eos>" for t in ROWS[i]["messages"] if t["role"] != "user")
        assert seeing.tokenizer.decode(ids[counted]) == said
    alone = {int(b.index): OBJECTIVES["sft"].losses(seeing.model, b).tolist()[0]
             for b in batches(seeing, data, batch_size=1).batches}  # fmt: skip
    together = OBJECTIVES["sft"].losses(seeing.model, batch).tolist()
    for place, loss in zip(batch.index.tolist(), together, strict=True):
        assert alone[place] == pytest.approx(loss, rel=1e-5)


def test_no_answer_is_seen_before_it_is_told(seeing):
    (batch,) = batches(seeing, read(ROWS)).batches
    ids = batch.inputs["input_ids"].clone()
    ends = [int(counted.nonzero()[-1]) for counted in batch.token_mask]
    ids[range(len(ends)), ends] = 0
    shown = accepted(seeing.model, use_cache=False, **batch.shown())
    with torch.no_grad():
        told, other = (
            seeing.model(**{**batch.inputs, "input_ids": each}, **shown).logits
            for each in (batch.inputs["input_ids"], ids)
        )
    for row, end in enumerate(ends):
        assert torch.allclose(told[row, :end], other[row, :end], atol=1e-6)
        assert not torch.allclose(told[row, end], other[row, end], atol=1e-3)


def test_a_card_is_of_what_the_pictures_show_and_of_blocks_that_read_text(seeing):
    data = read(ROWS)
    card = lw.card(seeing, data, max_length=400, examples=None)
    own = {layer.stack: layer for layer in card.layers}
    assert len(own) == 1  # No text runs through the tower.
    others = [{**r, "images": [pictures.drawn(9)] * len(r["images"] or []) or None} for r in ROWS]
    norms = [
        [layer.residual_norm for layer in lw.card(seeing, read(rows), max_length=400).layers]
        for rows in (ROWS, others)
    ]
    assert [layer.residual_norm for layer in card.layers] == norms[0]
    assert not np.allclose(norms[0], norms[1], rtol=1e-4)


def test_rows_whose_pictures_do_not_fit_are_left_out_and_counted(seeing):
    data = read(ROWS)
    longest = max(batches(seeing, data).needs)
    made = batches(seeing, data, max_length=longest - 1)
    assert (made.dropped, made.truncated) == (1, 0)
    assert made.notes == ("examples with pictures that are longer than the limit, left out: 1",)


def test_what_is_for_text_alone_refuses_pictures(seeing):
    data = read(ROWS)
    with pytest.raises(BadInputError, match="pictures have no meaning for causal-lm"):
        resolve("causal-lm", loaded=seeing, data=data)
    with pytest.raises(BadInputError, match="packing of rows with pictures"):
        lw.tune(seeing, data, packing=True, steps=1, batch_size=2, max_length=400)
    text = wrap_model(seeing.model, seeing.tokenizer)
    with pytest.raises(LayerwiseError, match="model without a processor of such"):
        batches(replace(text, find_processor=no_processor), data)


def test_pictures_go_the_whole_way_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pictures.save("llava", "llava")
    lines = []
    for i in range(12):
        pictures.drawn(i).save(f"{i}.png")
        lines.append(f'{{"image": "{i}.png", "question": "what is {i}?", "answer": "it is {i}"}}')
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    short = ("--format", "quiet", "--max-length", "80")
    assert main(["card", "llava", "rows.jsonl", "--out", "card", *short]) == 0
    assert main(["place", "card", "-k", "2", "--out", "card", "--format", "quiet"]) == 0
    tune = ["tune", "llava", "rows.jsonl", "--steps", "3", "--batch-size", "4", *short]
    assert main([*tune, "--placement", "card/placement.json", "--out", "lora"]) == 0
    assert main([*tune, "--out", "whole"]) == 0
    assert main(["profile", "llava", "lora", "--out", "moved", "--format", "quiet"]) == 0
    assert lw.Profile.load("moved").audit is not None
    # The whole model takes pictures again.
    assert main(["card", "whole", "rows.jsonl", "--out", "again", *short]) == 0
    capsys.readouterr()
    assert main(["card", "demo", "rows.jsonl", "--out", "none"]) == 2
    assert "model without a processor of such" in capsys.readouterr().err
