"""Sums of gradients: any way of adding rows up gives what all rows at once give."""

import numpy as np
import pytest

from layerwise.distance.moments import GradientMoments, ObjectiveMoments
from support.profiles import procrustes


@pytest.fixture(scope="module")
def rows():
    """Rows of three objectives on the same examples, far from zero in the mean."""
    random = np.random.default_rng(0)
    shared = random.standard_normal((60, 7))
    made = {
        "a": shared + 100.0,
        "b": 0.5 * shared + random.standard_normal((60, 7)),
        "c": random.standard_normal((60, 7)) * [0, 1, 2, 3, 4, 5, 6],
    }
    return {name: own.astype(np.float32) for name, own in made.items()}


def some(rows, which):
    return {name: own[which] for name, own in rows.items()}


def numbers(moments):
    """Everything in `moments`, as one list."""
    found = []
    for own in moments.rows.values():
        found += [own.count, own.norms, own.nonzero, *own.mean, *own.deviation, *own.mean_square]
    return found + [moments.cross[name].result() for name in sorted(moments.cross)]


def test_all_at_once_is_the_definition(rows):
    moments = ObjectiveMoments().update(rows, reference="a")
    for name, own in rows.items():
        wide, found = own.astype(np.float64), moments.rows[name]
        assert found.mean == pytest.approx(wide.mean(0), rel=1e-12, abs=1e-14)
        assert found.deviation == pytest.approx(wide.std(0), rel=1e-9, abs=1e-14)
        assert found.mean_square == pytest.approx((wide**2).mean(0), rel=1e-12)
        assert found.norms / 60 == pytest.approx(np.sqrt((wide**2).sum(1)).mean(), rel=1e-12)
    assert moments.rows["c"].nonzero == 60 * 6
    assert set(moments.cross) == {"b", "c"}
    for name in ("b", "c"):
        expected = procrustes(rows["a"].astype(np.float64), rows[name].astype(np.float64))
        assert moments.cross[name].result() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("size", [1, 7, 59])
def test_streaming_equals_one_shot(rows, size):
    streamed = ObjectiveMoments()
    for start in range(0, 60, size):
        streamed = streamed.update(some(rows, slice(start, start + size)), reference="a")
    expected = numbers(ObjectiveMoments().update(rows, reference="a"))
    assert numbers(streamed) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_merging_is_associative_and_has_a_zero(rows):
    parts = [
        ObjectiveMoments().update(some(rows, slice(a, b)), reference="a")
        for a, b in ((0, 5), (5, 31), (31, 60))
    ]
    left = parts[0].merge(parts[1]).merge(parts[2])
    right = parts[0].merge(parts[1].merge(parts[2]))
    assert numbers(left) == pytest.approx(numbers(right), rel=1e-12, abs=1e-14)
    expected = numbers(ObjectiveMoments().update(rows, reference="a"))
    assert numbers(left) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    for same in (ObjectiveMoments().merge(left), left.merge(ObjectiveMoments())):
        assert numbers(same) == numbers(left)


def test_no_rows_change_nothing(rows):
    one = GradientMoments.zero(7).update(rows["b"])
    assert one.update(rows["b"][:0]) is one
    assert GradientMoments.zero(7).merge(one) is one
    assert GradientMoments.zero(7).update(rows["b"][:0]).count == 0


def test_the_size_does_not_depend_on_the_rows(rows):
    def size(moments):
        arrays = [a for m in moments.rows.values() for a in (m.mean, m.scatter)]
        arrays += [a for c in moments.cross.values() for a in (*c.means, c.cross)]
        return sum(a.nbytes for a in arrays)

    few, many = ObjectiveMoments().update(some(rows, slice(2)), reference="a"), ObjectiveMoments()
    for _ in range(20):
        many = many.update(rows, reference="a")
    assert many.rows["a"].count == 1200
    assert size(many) == size(few)
