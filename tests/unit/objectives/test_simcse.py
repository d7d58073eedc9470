import pytest
import torch
from torch.nn.functional import cosine_similarity

from layerwise.objectives.simcse import contrast


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, 6, generator=generator), torch.randn(4, 6, generator=generator)


def test_losses_are_the_two_ways_of_infonce(pair):
    rows, expected = [*pair[0], *pair[1]], []
    for i in range(8):
        others = rows[4:] if i < 4 else rows[:4]
        scores = torch.stack([cosine_similarity(rows[i], other, dim=0) for other in others]) / 0.05
        expected.append(scores.logsumexp(0) - scores[i % 4])
    torch.testing.assert_close(contrast(*pair), torch.stack(expected))


def test_temperature_divides_the_cosines(pair):
    cold, warm = (contrast(*pair, temperature=t) for t in (0.05, 1e6))
    assert not torch.allclose(cold, warm)
    torch.testing.assert_close(warm, torch.full((8,), torch.log(torch.tensor(4.0)).item()))


def test_the_loss_is_not_rounded_under_autocast(pair):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = contrast(*pair)
    assert torch.equal(found, contrast(*pair))
