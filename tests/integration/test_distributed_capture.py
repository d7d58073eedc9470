"""Two processes under torchrun measure what one does."""

import numpy as np
import pytest

from support.launch import torchrun
from support.processes.capture import measured

MEASURED = {"forward_seconds", "backward_seconds", "outside_seconds", "activation_bytes"}


NAMES = ["llama", "bert"]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A folder with what both processes measured of every model."""
    folder = tmp_path_factory.mktemp("two")
    torchrun("capture", 2, folder, *NAMES)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_two_processes_equal_one(two, name):
    one = measured(name)
    first, second = (dict(np.load(two / f"{name}{rank}.npz")) for rank in range(2))
    assert one.keys() == first.keys() == second.keys()
    for array in one.keys() - MEASURED:
        scale = np.abs(np.nan_to_num(one[array])).max()
        np.testing.assert_allclose(
            first[array], one[array], rtol=1e-6, atol=1e-6 * scale, err_msg=array
        )
        np.testing.assert_array_equal(first[array], second[array], err_msg=array)
