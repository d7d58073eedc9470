import pytest
import torch

from layerwise.objectives.barlow_twins import cross_correlation_loss


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(50, 4, generator=generator), torch.randn(50, 4, generator=generator)


def test_views_that_agree_in_coordinates_that_do_not_cost_nothing():
    # The columns of a Hadamard matrix are centred, of one length and at right angles.
    rows = torch.tensor([[1, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1]]) * 3.0
    assert cross_correlation_loss(rows, rows).item() == pytest.approx(0, abs=1e-9)
    # Opposite views: each diagonal entry is -1.
    assert cross_correlation_loss(rows, -rows).item() == pytest.approx(3 * 4, rel=1e-5)
    # Views of one coordinate taken for another: the diagonal is 0, three entries off it are 1.
    swapped = cross_correlation_loss(rows, rows.roll(1, dims=1)).item()
    assert swapped == pytest.approx(3 + 3 * 5e-3, rel=1e-5)


def test_scale_and_place_of_a_coordinate_do_not_matter(pair):
    first, second = pair
    moved = first * torch.tensor([2.0, 5.0, 0.5, 1.0]) + torch.tensor([3.0, -1.0, 0.0, 7.0])
    torch.testing.assert_close(
        cross_correlation_loss(moved, second),
        cross_correlation_loss(first, second),
        rtol=1e-4, atol=0,
    )  # fmt: skip


def test_a_coordinate_that_never_changes_is_finite(pair):
    first, second = (view.clone() for view in pair)
    first[:, 0] = second[:, 0] = 1.0
    first.requires_grad_()
    loss = cross_correlation_loss(first, second)
    loss.backward()
    assert loss.isfinite()
    assert first.grad.isfinite().all()
