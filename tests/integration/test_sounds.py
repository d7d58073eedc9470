"""Models that take sounds, the whole way, against their own processor called by hand."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import layerwise as lw
from layerwise.data.text import read
from layerwise.errors import LayerwiseError
from layerwise.models.load import load
from layerwise.objectives import OBJECTIVES
from support import pictures, sounds

pytestmark = pytest.mark.slow


def asked(words, count):
    parts = [{"type": "audio"}] * count + [{"type": "text", "text": words}]
    return {"role": "user", "content": parts if count else words}


def told(words):
    return {"role": "assistant", "content": words}


def row(*turns, heard=()):
    held = [{"array": sounds.tone(i), "sampling_rate": sounds.RATE} for i in heard]
    return {"messages": list(turns), "audios": held or None}


ROWS = [
    row(asked("what?", 1), told("a bell"), heard=[0]),
    row(asked("which?", 2), told("the one"), asked("why?", 0), told("it is near"), heard=[1, 2]),
    row(asked("none?", 0), told("no, none at all")),
]


@pytest.fixture(scope="module", params=list(sounds.EVERY))
def hearing(request, tmp_path_factory):
    return load(str(sounds.save(request.param, tmp_path_factory.mktemp(request.param))))


def batches(loaded, data, **options):
    asked = {"batch_size": 4, "max_length": 400, "seed": 0, **options}
    return OBJECTIVES["sft"].batches_for(loaded, data, **asked)


def by_hand(loaded, row):
    """The mean loss of the answers' tokens, from a chat that is rendered and read by itself."""
    processor, turns = loaded.processor(), row["messages"]
    texts = [
        processor.tokenizer.apply_chat_template(turns[:end], tokenize=False,
                                                add_generation_prompt=opens)
        for end, opens in [(i + o, not o) for i, turn in enumerate(turns)
                           if turn["role"] == "assistant" for o in (0, 1)]
    ]  # fmt: skip
    heard = [held["array"] for held in row["audios"] or ()]
    how = {"add_special_tokens": False, "return_tensors": "pt"}
    sound = {"audio": heard, "sampling_rate": sounds.RATE} if heard else {}
    read = [processor(text=[text], **sound, **how) for text in texts]
    whole = read[-1]
    labels = torch.full_like(whole["input_ids"], -100)
    ends = [each["input_ids"].shape[1] for each in read]
    for before, after in zip(ends[::2], ends[1::2], strict=True):
        labels[:, before:after] = whole["input_ids"][:, before:after]
    with torch.no_grad():
        logits = loaded.model(**whole).logits
    return float(cross_entropy(logits[0, :-1], labels[0, 1:]))


def test_losses_are_those_of_the_model_and_processor_by_hand(hearing):
    (batch,) = batches(hearing, read(ROWS)).batches
    losses = OBJECTIVES["sft"].losses(hearing.model, batch).tolist()
    found = [losses[batch.index.tolist().index(i)] for i in range(len(ROWS))]
    assert found == pytest.approx([by_hand(hearing, row) for row in ROWS], rel=1e-5)


def test_what_is_resampled_is_counted(hearing):
    slow = {"array": sounds.tone(0)[::2], "sampling_rate": sounds.RATE // 2}
    made = batches(hearing, read([*ROWS, {**ROWS[0], "audios": [slow]}]))
    assert made.notes == ("sounds resampled to 16,000 samples a second: 1",)
    assert batches(hearing, read(ROWS)).notes == ()


def test_answers_alone_count_and_rows_do_not_depend_on_their_batch(hearing):
    (batch,) = batches(hearing, read(ROWS)).batches
    ids = batch.inputs["input_ids"]
    for i, own, counted in zip(batch.index, ids, batch.token_mask, strict=True):
        said = "".join(t["content"] + "<eos>" for t in ROWS[i]["messages"] if t["role"] != "user")
        assert hearing.tokenizer.decode(own[counted]) == said
    alone = {int(b.index): OBJECTIVES["sft"].losses(hearing.model, b).tolist()[0]
             for b in batches(hearing, read(ROWS), batch_size=1).batches}  # fmt: skip
    together = OBJECTIVES["sft"].losses(hearing.model, batch).tolist()
    for place, loss in zip(batch.index.tolist(), together, strict=True):
        assert alone[place] == pytest.approx(loss, rel=1e-5)


def test_the_whole_way_from_a_card_to_a_profile(hearing, tmp_path):
    data = read(ROWS)
    card = lw.card(hearing, data, max_length=400, examples=None)
    assert len({layer.stack for layer in card.layers}) == 1  # No text runs through the tower.
    others = [
        {
            **r,
            "audios": [{"array": sounds.tone(9), "sampling_rate": sounds.RATE}]
            * len(r["audios"] or [])
            or None,
        }
        for r in ROWS
    ]
    again = lw.card(hearing, read(others), max_length=400)
    norms = [[layer.residual_norm for layer in each.layers] for each in (card, again)]
    assert not np.allclose(*norms, rtol=1e-4)
    placed = lw.place(card, layers=2)
    tuned = lw.tune(hearing.source, data, placement=placed, steps=2, batch_size=2, max_length=400,
                    out=tmp_path / "tuned")  # fmt: skip
    assert tuned is not None
    profile = lw.profile(hearing.source, tmp_path / "tuned")
    assert profile.audit is not None


def test_models_and_objectives_that_hear_nothing_say_so(hearing, tmp_path):
    plain = load(str(pictures.save("llava", tmp_path)))
    with pytest.raises(
        LayerwiseError, match="sounds for a model that takes none: 'LlavaProcessor'"
    ):
        batches(plain, read(ROWS))
    shown = {"messages": [{"role": "user", "content": "<image>what?"}, told("a")],
             "images": [pictures.drawn(0)]}  # fmt: skip
    with pytest.raises(LayerwiseError, match="pictures for a model that takes none: 'Qwen2Audio"):
        batches(hearing, read([shown]))
    with pytest.raises(LayerwiseError, match="sounds have no meaning for causal-lm: 'audios'"):
        lw.card(hearing, read(ROWS), objective="causal-lm")
