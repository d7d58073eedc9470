import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from layerwise.seeds import derive, draw, numpy_generator, rng_untouched, torch_generator


def test_derived_seeds_are_the_same_in_another_process():
    code = "from layerwise.seeds import derive; print(derive(7, 'lora_A', 'layers.0'))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(said.stdout) == derive(7, "lora_A", "layers.0")


def test_derived_seeds_differ_by_seed_and_purpose():
    seeds = {derive(s, *p) for s in range(20) for p in [(), ("a",), ("b",), ("a", "b"), ("ab",)]}
    assert len(seeds) == 100
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_generators_depend_on_their_purpose_alone():
    torch.rand(3)
    first = torch.rand(4, generator=torch_generator(0, "A"))
    torch.rand(5)
    assert torch.equal(first, torch.rand(4, generator=torch_generator(0, "A")))
    assert not torch.equal(first, torch.rand(4, generator=torch_generator(0, "B")))
    assert numpy_generator(0, "A").random() == numpy_generator(0, "A").random()
    assert numpy_generator(0, "A").random() != numpy_generator(1, "A").random()


def test_rng_is_as_it_was_after_a_block():
    before = torch.get_rng_state()
    with rng_untouched(3):
        first = torch.rand(2)
    assert torch.equal(torch.get_rng_state(), before)
    with rng_untouched(3):
        assert torch.equal(torch.rand(2), first)


def fail(_drawn):
    raise RuntimeError("planted")


def test_rng_is_as_it_was_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="planted"), rng_untouched(0):
        fail(torch.rand(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_deriving_touches_no_global_state():
    python, numpy = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    derive(0, "x")
    numpy_generator(0, "x").random()
    assert random.getstate() == python
    assert np.array_equal(np.random.get_state()[1], numpy)  # noqa: NPY002


def test_of_numbers_drawn_more_contain_fewer():
    few, more = draw(20, 5, 0, "a"), draw(20, 12, 0, "a")
    assert set(few) < set(more) < set(range(20))
    assert len(few) == 5
    assert (few, more) == (sorted(few), sorted(more))
    assert draw(3, 9, 0, "a") == [0, 1, 2]
    assert few not in (draw(20, 5, 1, "a"), draw(20, 5, 0, "b"))
