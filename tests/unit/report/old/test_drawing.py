import pytest

from layerwise.report.old.drawing import Places, block_axis, depth_axis, log_axis, short, unlabelled


def axis(x):
    return x.to_dict()["axis"]


def test_a_second_stack_counts_from_0_again():
    places = Places(((0, 0), (1, 1), (3, 0), (4, 1)))
    assert places.width == 5
    assert axis(block_axis("x", places))["values"] == [0, 1, 3, 4]
    assert "datum.value >= 3 ? datum.value - 3" in axis(block_axis("x", places))["labelExpr"]


def test_what_is_in_no_block_has_a_place_and_a_name():
    places = Places(((0, 0), (1, 1)), rest=3)
    made = axis(block_axis("x", places))
    assert places.width == 4
    assert made["values"] == [0, 1, 3]
    assert made["labelExpr"].startswith("datum.value == 3 ? 'rest' : ")


def test_depths_are_named_above_and_only_there():
    made = axis(depth_axis("x", Places(((0, 0), (1, 1))), {0: "40 %", 1: "100 %"}))
    assert made["orient"] == "top"
    assert made["values"] == [0, 1]
    assert made["labelExpr"] == "datum.value == 0 ? '40 %' : datum.value == 1 ? '100 %' : ''"


def test_an_axis_without_labels_keeps_its_scale():
    x = block_axis("x", Places(((0, 0), (1, 1))))
    bare = unlabelled(x).to_dict()
    assert bare["axis"] is None
    assert bare["scale"] == x.to_dict()["scale"]


def test_no_block_is_an_axis_too():
    assert Places(()).width == 1


@pytest.mark.parametrize(
    ("low", "high", "domain"), [(6e-5, 5.3e-4, [5e-5, 1e-3]), (1e-4, 1e-4, [1e-4, 1e-4])]
)
def test_log_axes_end_at_round_numbers(low, high, domain):
    assert log_axis(low, high)[0] == domain


def test_numbers_are_cut_to_six_digits():
    assert short(0.123456789) == 0.123457
