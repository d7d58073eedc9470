"""From a pass to a card: every column in its place, what was done recorded, absences explained."""

import json

import numpy as np
import pytest

from layerwise.capture import capture, plan
from layerwise.card.make import make_card
from layerwise.card.record import LayerCard
from layerwise.errors import BadInputError, SchemaError, UnknownNameError
from layerwise.signals import COSTS, SIGNALS, select


def ready(tiny, name, *, n=6, dropped=0):
    """An objective whose batches are the tiny ones, whatever the text."""
    base = "masked-lm" if name == "bert" else "causal-lm"
    said = {"truncated": 2, "dropped": dropped, "tokens": 99, "notes": ("joined plainly",)}
    return tiny.objective_on(tiny.batch(name, n=n), base=base, **said)


def made(tiny, name, *signals, **options):
    wanted = select(signals or None)
    return make_card(
        tiny.build(name), tiny.text(6), ready(tiny, name), plan(rank=4, **options), signals=wanted
    )


def test_columns_are_the_signals_of_the_pass(tiny):
    card = made(tiny, "llama")
    stats = capture(
        tiny.build("llama"), ready(tiny, "llama"), [tiny.batch("llama", n=6)], plan(rank=4)
    )
    for signal in (*SIGNALS.values(), COSTS["activation_bytes"]):
        for key, values in signal.values(stats).items():
            np.testing.assert_allclose(card.column(key), values, err_msg=key)
    np.testing.assert_array_equal(card.arrays["gram"], stats.gram)
    np.testing.assert_array_equal(card.arrays["losses"], stats.losses)


def test_a_row_counts_its_adapters_and_its_own_parameters(tiny):
    card = made(tiny, "llama")
    loaded = tiny.build("llama")
    for row in card.layers:
        block = loaded.model.get_submodule(row.name)
        assert row.parameters == sum(p.numel() for p in block.parameters())
        sizes = [loaded.model.get_submodule(m) for m in row.modules]
        assert row.adapter_parameters == sum(4 * (m.in_features + m.out_features) for m in sizes)


def test_what_was_read_and_left_out_is_in_the_card(tiny):
    card = make_card(tiny.build("llama"), tiny.text(8), ready(tiny, "llama", dropped=2), plan())
    assert (card.data.examples, card.data.dropped, card.data.truncated) == (6, 2, 2)
    assert card.data.tokens == 99
    assert "joined plainly" in card.capture.notes


def test_a_signal_without_meaning_is_absent_with_its_reason(tiny):
    card = made(tiny, "mamba")
    assert "attention" in card.absent["attention_entropy"]
    plain = card.to_plain()
    assert all("attention_entropy" not in row for row in plain["layers"])


@pytest.mark.parametrize("signal", SIGNALS)
def test_only_the_wanted_signals_are_measured(tiny, signal):
    card = made(tiny, "llama", signal)
    for name in SIGNALS:
        assert np.isfinite(card.column(name)).all() == (name == signal), name
    assert np.isfinite(card.column("forward_seconds")).all()
    assert all(layer.modules for layer in card.layers)  # Such a card can be placed, too.


def test_rank_stability_needs_smaller_ranks_to_compare(tiny):
    base = ready(tiny, "llama")
    one = make_card(tiny.build("llama"), tiny.text(6), base, plan(rank=1))
    eight = make_card(tiny.build("llama"), tiny.text(6), base, plan(rank=8))
    assert one.agreement.rank_stability is None
    assert -1 <= eight.agreement.rank_stability <= 1


@pytest.mark.parametrize("name", ["llama", "t5", "mamba", "bert"])
def test_a_saved_card_is_the_same_when_loaded(tiny, name, tmp_path):
    card = made(tiny, name)
    card.save(tmp_path)
    again = LayerCard.load(tmp_path)
    assert again == card
    assert again.arrays.keys() == card.arrays.keys()
    for key, array in card.arrays.items():
        np.testing.assert_array_equal(again.arrays[key], array)
    assert LayerCard.load(tmp_path / "card.json") == card


def test_a_card_in_json_has_no_null_and_no_nan(tiny):
    text = json.dumps(made(tiny, "mamba").to_plain(), allow_nan=False)
    assert "null" not in text


def test_a_column_that_no_signal_has_is_refused(tiny):
    with pytest.raises(UnknownNameError, match=r"'residual_nrm'.*did you mean 'residual_norm'"):
        made(tiny, "llama").column("residual_nrm")


def test_the_same_pass_twice_is_the_same_card_but_for_time(tiny):
    a, b = made(tiny, "llama"), made(tiny, "llama")
    assert a.data == b.data
    for name in (*SIGNALS, "residual_norm_low", "attention_entropy_error", "activation_bytes"):
        np.testing.assert_array_equal(a.column(name), b.column(name))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"schema": "layerwise/card/9"}', r"another schema.*card/9.*layerwise/card/2"),
        ('{"schema": "layerwise/car', "unreadable record"),
        *(({"layers": layers}, "malformed record") for layers in (None, 3, ["a"], [{}])),
        ({"agreement": None}, r"malformed record.*agreement"),
    ],
)
def test_a_file_that_is_no_card_is_refused(tiny, tmp_path, content, said):
    if isinstance(content, dict):
        plain = made(tiny, "llama", "coherence").to_plain() | content
        content = json.dumps({k: v for k, v in plain.items() if k != "agreement" or v})
    (tmp_path / "card.json").write_text(content)
    with pytest.raises(SchemaError, match=said):
        LayerCard.load(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "flipped", "another's"])
def test_damaged_arrays_are_refused(tiny, tmp_path, damage):
    made(tiny, "llama").save(tmp_path)
    arrays = tmp_path / "arrays.safetensors"
    whole = bytearray(arrays.read_bytes())
    if damage == "flipped":
        whole[-1] ^= 1
    arrays.write_bytes(whole[:99] if damage == "cut" else whole)
    if damage == "another's":
        arrays.write_bytes(made(tiny, "gpt2").files()["arrays.safetensors"])
    with pytest.raises(SchemaError, match="damaged arrays"):
        LayerCard.load(tmp_path)


def test_a_card_whose_arrays_are_gone_still_loads(tiny, tmp_path):
    card = made(tiny, "llama")
    card.save(tmp_path)
    (tmp_path / "arrays.safetensors").unlink()
    assert LayerCard.load(tmp_path) == card
    assert not LayerCard.load(tmp_path).arrays


@pytest.mark.parametrize("name", ["gpt2", "opt", "bert", "bart"])
def test_texts_beyond_the_models_positions_are_refused(tiny, name):

    def of_length(longest):
        base = "masked-lm" if name == "bert" else "causal-lm"
        return tiny.objective_on(tiny.batch(name, longest=longest), base=base)

    energy = select(["activation_energy"])
    make_card(tiny.build(name), tiny.text(4), of_length(64), plan(), signals=energy)
    with pytest.raises(BadInputError, match=r"positions: '65'.*at most 64.*--max-length 64"):
        make_card(tiny.build(name), tiny.text(4), of_length(65), plan(), signals=energy)


@pytest.mark.parametrize("name", ["llama", "t5", "mamba"])
def test_models_that_compute_their_positions_take_any_length(tiny, name):
    objective = tiny.objective_on(tiny.batch(name, n=2, longest=80))
    energy = select(["activation_energy"])
    card = make_card(tiny.build(name), tiny.text(2), objective, plan(), signals=energy)
    assert np.isfinite(card.column("activation_energy")).all()
