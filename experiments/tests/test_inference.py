"""Adapters that are not merged: what each module adds to a forward."""

import pytest
import torch

import layerwise as lw
from laboratory.inference import InferencePoint, inference_cost, line
from layerwise.errors import BadInputError
from layerwise.objectives import resolve


def test_the_line_of_points_on_a_line_is_found():
    found = line([InferencePoint(k, 4 * k, 0.5 + 0.25 * 4 * k) for k in (0, 1, 5)])
    assert (found.base_seconds, found.module_seconds) == pytest.approx((0.5, 0.25))
    assert found.explained == pytest.approx(1.0)


def test_points_beside_the_line_are_told():
    points = [InferencePoint(k, k, s) for k, s in enumerate((1.0, 3.0, 1.0, 3.0))]
    assert line(points).explained < 0.5
    assert line([InferencePoint(0, 0, 1.0), InferencePoint(1, 1, 1.0)]).explained == 1.0


@pytest.mark.parametrize("blocks", [[2], [2, 2]])
def test_one_number_makes_no_line(blocks):
    with pytest.raises(BadInputError, match="numbers of adapted blocks to draw a line through"):
        line([InferencePoint(k, k, 1.0) for k in blocks])


def test_every_number_is_taken_once_a_round_and_the_model_is_as_before(deep):
    loaded, data = deep.loaded(), deep.data()
    card = lw.card(loaded, data, examples=None, max_length=16, batch_size=4)
    objective = resolve("auto", loaded=loaded, data=data)
    batch = objective.batches_for(loaded, data, batch_size=4, max_length=16, seed=0).batches[0]
    before, heard = deep.weights(loaded), []

    def clock():
        adapted = [n for n, _ in loaded.model.named_modules() if n.endswith("lora_B")]
        heard.append(len(adapted))
        return float(len(adapted) * len(heard))

    found = inference_cost(loaded, card, batch, blocks=[6, 0, 1], rounds=3, clock=clock)
    modules = len(card.layers[0].modules)
    assert [(p.blocks, p.modules) for p in found.points] == [(k, k * modules) for k in (0, 1, 6)]
    assert heard == [n for k in (0, 1, 6) for n in [k * modules] * 2] * 3
    # Each forward lies between two ticks: the clock moved by how many adapters there are.
    assert [p.seconds for p in found.points] == [0.0, modules, 6 * modules]
    assert found.module_seconds == pytest.approx(1.0)
    assert deep.same(before, deep.weights(loaded))
    assert not torch.is_inference_mode_enabled()
