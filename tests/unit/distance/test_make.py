"""A model, text and objectives in; a `Distance` out."""

import gc
import logging
from dataclasses import replace

import pytest

from layerwise.data.text import Example
from layerwise.distance import run
from layerwise.distance.batches import SharedBatch
from layerwise.distance.choose import choose
from layerwise.distance.make import make_distance
from layerwise.distance.record import METRICS
from layerwise.errors import BadInputError, DataError, NonFiniteError, UnknownNameError
from layerwise.objectives import OBJECTIVES
from layerwise.objectives.forward import accepted, body

pytestmark = pytest.mark.slow  # Short runs, many of them.

CAUSAL = OBJECTIVES["causal-lm"]


def made(tuning, model="llama", *, objectives=None, data=None, loaded=None, **options):
    subject, texts = loaded or tuning.loaded(model), data or tuning.data(20)
    chosen = objectives or choose(subject, texts)
    return make_distance(subject, texts, chosen, **({"batch_size": 5, "max_length": 16} | options))


def numbers(distance):
    return distance.frame().set_index(["objective", "part"])


def custom(name, change):
    """An objective whose losses are what `change` makes of the sums of the hidden states."""

    def losses(model, batch):
        inner = body(model)
        states = inner(**batch.inputs, **accepted(inner, use_cache=False)).last_hidden_state
        return change(states.sum(dim=1))

    return replace(CAUSAL, name=name, losses=losses)


@pytest.fixture(scope="module")
def causal(tuning):
    return made(tuning)


def test_the_reference_is_at_exactly_zero_from_itself(causal):
    reference = causal[causal.reference]
    assert causal.objectives[0] is reference
    for part in (reference, *reference.halves):
        assert [getattr(part, metric) for metric in METRICS] == [0.0] * 6
        assert part.mean_norm > 0
    for other in causal.objectives[1:]:
        assert all(getattr(other, metric) > 0 for metric in METRICS)


def test_the_same_gradients_under_another_name_are_at_zero(tuning):
    twice = made(tuning, objectives=[CAUSAL, replace(CAUSAL, name="again")])
    found = twice["again"]
    assert found.procrustes == pytest.approx(0, abs=1e-6)
    assert [getattr(found, m) for m in METRICS[1:]] == pytest.approx([0] * 5, abs=1e-12)
    opposite = custom("opposite", lambda sums: -sums[:, 0] - sums.square().sum(1))
    along = custom("along", lambda sums: sums[:, 0] + sums.square().sum(1))
    found = made(tuning, objectives=[along, opposite])["opposite"]
    assert found.procrustes == pytest.approx(0, abs=1e-6)  # A reflection is a rotation too.
    assert (found.cosine, found.pearson) == pytest.approx((2, 2))
    assert found.fisher == pytest.approx(0, abs=1e-12)


def test_what_the_record_says_of_itself(causal):
    settings = causal.settings
    assert (settings.batch_size, settings.batches, settings.width) == (5, 4, 16)
    assert settings.shared == (("simcse", "barlow-twins"),)
    assert settings.forwards == 4 * 3
    assert settings.dtype == "float32"
    assert settings.seconds > 0
    assert settings.peak_memory_bytes > 0
    assert causal.data.examples == 20
    assert causal.data.objective == "causal-lm"
    assert causal.data.tokens == sum(6 + i % 8 for i in range(20))  # And one that begins a text.
    assert set(causal.agreement) == set(METRICS)
    assert {o.rows for o in causal.objectives} == {20}
    assert all([h.rows for h in o.halves] == [10, 10] for o in causal.objectives)
    assert "the model has no dropout: 0.1 was put on its input embeddings" in causal.notes


def test_the_seed_fixes_all_numbers(tuning, causal):
    assert numbers(made(tuning)).equals(numbers(causal))
    other = numbers(made(tuning, seed=1))
    assert not other.equals(numbers(causal))


def test_batches_in_one_window_or_in_many_are_the_same(tuning, causal, monkeypatch):
    monkeypatch.setattr(run, "WINDOW", 1)
    found = numbers(made(tuning))
    assert found.to_numpy() == pytest.approx(numbers(causal).to_numpy(), rel=1e-9)


def test_other_objectives_change_nothing(tuning, causal):
    fewer = made(tuning, objectives=[CAUSAL, OBJECTIVES["causal-span"]])
    assert fewer["causal-span"] == causal["causal-span"]
    assert fewer.agreement == {}
    assert fewer.settings.shared == ()


def test_an_example_that_one_cannot_use_is_left_out_for_all(tuning, caplog):
    data = tuning.data(20)
    data = replace(data, examples=(*data.examples, Example("w7"), Example("w9")))
    with caplog.at_level(logging.WARNING, logger="layerwise"):
        found = made(tuning, "pretraining", data=data)
    note = "2 examples were left out for all objectives: nsp can make nothing of 2"
    assert note in found.notes
    assert note in caplog.text
    assert {o.rows for o in found.objectives} == {20}
    assert (found.data.examples, found.data.dropped) == (20, 2)


def test_nothing_that_all_can_use(tuning):
    data = replace(tuning.data(20), examples=tuple(Example(f"w{i}") for i in range(20)))
    message = r"can use: '0 of 20 \(nsp can make nothing of 20.*\)'; expected some in each half"
    with pytest.raises(DataError, match=message):
        made(tuning, "pretraining", data=data)


def test_few_rows_for_the_width_are_noted(tuning, causal):
    note = "12 examples for 16 coordinates: Procrustes distances come out smaller"
    assert any(n.startswith(note) for n in made(tuning, data=tuning.data(12)).notes)
    assert any("20 examples for 16 coordinates" in n for n in causal.notes)
    assert not any("coordinates" in n for n in made(tuning, data=tuning.data(32)).notes)


def test_cut_examples_are_counted(tuning):
    found = made(tuning, max_length=8)
    assert found.data.truncated == sum(5 + i % 8 > 7 for i in range(20))


def test_the_model_is_left_as_it_was_also_when_an_objective_fails(tuning):
    loaded = tuning.loaded("gpt2")
    with tuning.untouched(loaded):
        made(tuning, loaded=loaded)

    def fails(model, batch):
        raise RuntimeError("planted")

    failing = replace(OBJECTIVES["simcse"], name="fails", losses=fails)
    with pytest.raises(RuntimeError, match="planted"), tuning.untouched(loaded):
        made(tuning, loaded=loaded, objectives=[CAUSAL, failing])


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (lambda x: 0 * x.sum(1), BadInputError, "gradient of zero: 'odd, example "),
        (lambda x: float("nan") * x.sum(1), NonFiniteError, "not finite: 'odd, example "),
        (lambda x: x[:, 0] + 2 * x[:, 1], BadInputError, "without variance, under odd"),
        (lambda x: x.sum(1).square(), BadInputError, "same in all coordinates, under odd"),
    ],
)
def test_gradients_that_cannot_be_compared_name_their_objective(tuning, change, kind, message):
    with pytest.raises(kind, match=message):
        made(tuning, objectives=[CAUSAL, custom("odd", change)])


def test_progress_hears_of_each_batch_and_way_of_running(tuning):
    heard = []

    def progress(items, title, total):
        heard.append((title, total))
        for count, item in enumerate(items, start=1):
            heard.append(count)
            yield item

    made(tuning, progress=progress)
    assert heard == [("comparing gradients", 8), *range(1, 9)]


def test_no_more_than_two_windows_of_batches_are_there_at_a_time(tuning, monkeypatch):
    monkeypatch.setattr(run, "WINDOW", 10)
    gc.collect()
    gc.freeze()  # What is there already need not be looked through.
    alive = []

    def progress(items, _title, _total):
        for item in items:
            alive.append(sum(isinstance(o, SharedBatch) for o in gc.get_objects()))
            yield item

    found = made(tuning, data=tuning.data(60), progress=progress)
    assert found.settings.batches == 12
    assert max(alive) <= 4


def test_the_largest_array_does_not_depend_on_the_number_of_examples(tuning, monkeypatch):
    monkeypatch.setattr(run, "WINDOW", 10)
    sizes = []
    update = run.ObjectiveMoments.update

    def heard(self, rows, *, reference):
        sizes.append(max(own.size for own in rows.values()))
        return update(self, rows, reference=reference)

    monkeypatch.setattr(run.ObjectiveMoments, "update", heard)
    for count in (20, 60):
        made(tuning, data=tuning.data(count))
    assert len(sizes) == 2 * 2 + 6 * 2
    assert set(sizes) == {5 * 16}


def test_frame_has_a_line_an_objective_and_part(causal):
    frame = causal.frame()
    assert list(frame.columns[:3]) == ["objective", "part", "rows"]
    assert len(frame) == 4 * 3
    found = frame.query("objective == 'simcse' and part == 'second'").iloc[0]
    assert found.procrustes == causal["simcse"].halves[1].procrustes


def test_objectives_by_name_and_as_it_prints(causal):
    assert causal["simcse"].name == "simcse"
    with pytest.raises(UnknownNameError, match=r"unknown objective: 'simsce'.*'simcse'"):
        causal["simsce"]
    assert str(causal).startswith("Objective distances: llama")
