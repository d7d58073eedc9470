import pytest
import torch

from layerwise.objectives.simcse import contrast


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, 6, generator=generator), torch.randn(4, 6, generator=generator)


def test_temperature_divides_the_cosines(pair):
    cold, warm = (contrast(*pair, temperature=t) for t in (0.05, 1e6))
    assert not torch.allclose(cold, warm)
    torch.testing.assert_close(warm, torch.full((8,), torch.log(torch.tensor(4.0)).item()))


def test_the_loss_is_not_rounded_under_autocast(pair):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = contrast(*pair)
    assert torch.equal(found, contrast(*pair))
