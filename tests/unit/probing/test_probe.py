"""Probing a model: the split, what is refused, planted readability, and what stays untouched."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import layerwise as lw
from layerwise.data.text import Example, TextData
from layerwise.errors import BadInputError, DataError, NonFiniteError
from layerwise.probing.mean_states import ReadoutSettings
from layerwise.probing.probe import make_probing
from layerwise.probing.record import ProbeSettings

QUICK = ProbeSettings(hidden=16, epochs=10, batch_size=16)


def labelled(labels, *, seed=0):
    """A text for each label, its words drawn from w0-w9 or w10-w19 by whether the label is `b`."""
    generator = np.random.default_rng(seed)
    examples = tuple(
        Example(
            " ".join(f"w{w}" for w in generator.integers(10, size=8) + 10 * (label == "b")),
            label=label,
        )
        for label in labels
    )
    return TextData("made", "0" * 64, examples, {"text": "text", "label": "label"}, len(examples))


HALVES = ["a", "b"] * 40


@pytest.fixture(scope="module")
def probing(tuning):
    return make_probing(tuning.loaded("llama"), labelled(HALVES), settings=QUICK)


def test_what_the_words_tell_is_read_at_every_depth(probing):
    assert [depth.index for depth in probing.depths] == [0, 1]
    assert [depth.relative for depth in probing.depths] == [0.5, 1.0]
    assert all(depth.linear.accuracy > 0.85 for depth in probing.depths)
    assert all(depth.mlp.accuracy > 0.85 for depth in probing.depths)


def test_classes_are_split_each_for_itself(tuning):
    labels = ["a"] * 30 + ["b"] * 10 + ["c"] * 2
    found = make_probing(tuning.loaded("llama"), labelled(labels), settings=QUICK)
    counted = [(c.name, c.train, c.test) for c in found.classes]
    assert counted == [("a", 24, 6), ("b", 8, 2), ("c", 1, 1)]
    assert found.majority == pytest.approx(6 / 9)


def test_the_same_seed_gives_the_same_record_whatever_the_batches(tuning, probing):
    readout = ReadoutSettings(batch_size=5)
    again = make_probing(tuning.loaded("llama"), labelled(HALVES), settings=QUICK, readout=readout)
    assert [d.linear for d in again.depths] == [d.linear for d in probing.depths]
    other = replace(QUICK, seed=1)
    found = make_probing(tuning.loaded("llama"), labelled(HALVES), settings=other)
    assert found.depths != probing.depths


def test_the_model_is_left_as_it_was(tuning):
    loaded = tuning.loaded("llama")
    with tuning.untouched(loaded):
        make_probing(loaded, labelled(HALVES[:20]), settings=QUICK)


@pytest.mark.parametrize("name", ["bert", "t5", "mamba"])
def test_other_architectures(tuning, name):
    found = make_probing(tuning.loaded(name), labelled(HALVES[:40]), settings=QUICK)
    assert len(found.depths) == 2


def test_copies_are_left_out(tuning):
    data = labelled(HALVES)
    twice = replace(data, examples=(*data.examples, *data.examples[:7]))
    found = make_probing(tuning.loaded("llama"), twice, settings=QUICK)
    assert "7 copies of other examples were left out" in found.notes
    assert found.data.texts == 80


def test_what_cannot_be_probed(tuning):
    loaded = tuning.loaded("llama")
    with pytest.raises(BadInputError, match="needs two classes or more: 'a'"):
        make_probing(loaded, labelled(["a"] * 20))
    with pytest.raises(DataError, match="classes with a single example, 1 of 3: 'c'"):
        make_probing(loaded, labelled([*HALVES, "c"]))
    with pytest.raises(BadInputError, match=r"value of test_share: '1\.0'; .*below 1"):
        lw.probe(loaded, labelled(HALVES), test_share=1.0)
    with pytest.raises(BadInputError, match=r"value of epochs: '0'; .*1 or more"):
        lw.probe(loaded, labelled(HALVES), epochs=0)


def test_a_state_that_is_not_finite_names_its_block(tuning):
    loaded = tuning.loaded("llama")
    with torch.no_grad():
        loaded.model.model.layers[1].mlp.down_proj.weight.mul_(1e30).mul_(1e30)
    with pytest.raises(NonFiniteError, match=r"block 1 of model\.layers"):
        make_probing(loaded, labelled(HALVES), settings=QUICK)


def test_frame_has_a_line_a_depth_and_probe(probing):
    frame = probing.frame()
    assert list(frame.columns) == [
        "index", "relative", "probe", "accuracy", "low", "high", "train",
    ]  # fmt: skip
    assert len(frame) == 4
    row = frame.query("index == 1 and probe == 'mlp'").iloc[0]
    assert row.accuracy == probing.depths[1].mlp.accuracy
