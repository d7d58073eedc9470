"""Every accumulator: streaming equals one-shot, merging is associative, order does not matter."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from layerwise.capture.accumulators import Accumulator, FeatureMoments, GramRows, KeyedTable, Sum

N, D = 40, 6


def features(n=N, d=D, *, shift=0.0):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(n, d, generator=generator) * torch.arange(1, d + 1) + shift


def add_moments(sums, rows, keys):
    sums.update(rows)


def add_sum(sums, rows, keys):
    sums.update(rows.sum(0))


def add_gram(sums, rows, keys):
    sums.update(rows, key=keys)


def add_table(sums, rows, keys):
    sums.update({"norm": rows.norm(dim=1).numpy(), "rows": rows.numpy()}, key=keys)


MEMBERS = {
    "moments": (FeatureMoments, add_moments),
    "sum": (Sum, add_sum),
    "gram rows": (GramRows, add_gram),
    "table": (KeyedTable, add_table),
}


@pytest.fixture(params=MEMBERS)
def member(request):
    return MEMBERS[request.param]


def filled(member, rows, keys=None):
    kind, add = member
    sums = kind.zero()
    add(sums, rows, np.arange(len(rows)) if keys is None else keys)
    return sums


def parts(member, cuts):
    rows = features()
    edges = [0, *cuts, len(rows)]
    return [filled(member, rows[a:b], np.arange(a, b)) for a, b in pairwise(edges)]


def same(a, b):
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_allclose(a[name], b[name], rtol=1e-6)
    else:
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6 * np.abs(b).max())


def test_it_is_an_accumulator(member):
    assert isinstance(member[0].zero(), Accumulator)


@pytest.mark.parametrize("cuts", [[20], [1], [3, 5, 7], [2, 20, 38]])
def test_streaming_equals_one_shot(member, cuts):
    kind, add = member
    rows, streamed = features(), kind.zero()
    edges = [0, *cuts, len(rows)]
    for a, b in pairwise(edges):
        add(streamed, rows[a:b], np.arange(a, b))
    same(streamed.result(), filled(member, rows).result())


@pytest.mark.parametrize("cuts", [[2, 30], [3, 5], [20, 38]])
def test_merge_is_associative_and_equals_one_shot(member, cuts):
    a, b, c = parts(member, cuts)
    left = a.merge(b).merge(c).result()
    a, b, c = parts(member, cuts)
    right = a.merge(b.merge(c)).result()
    same(left, right)
    same(left, filled(member, features()).result())


def test_merging_in_another_order_changes_nothing(member):
    a, b, c = parts(member, [7, 22])
    same(c.merge(a).merge(b).result(), filled(member, features()).result())


def test_zero_is_neutral(member):
    kind, _ = member
    whole = filled(member, features()).result()
    same(kind.zero().merge(filled(member, features())).result(), whole)
    same(filled(member, features()).merge(kind.zero()).result(), whole)


def test_merging_leaves_its_parts_as_they_were(member):
    a, b = parts(member, [11])
    before = a.result()
    before = before.copy() if not isinstance(before, dict) else dict(before)
    a.merge(b)
    same(a.result(), before)


@pytest.mark.parametrize("n", [3, 5, 6, 7, 40])
def test_eigenvalues_are_those_of_the_covariance_from_either_side(n):
    rows = features(n)
    sums = FeatureMoments.zero()
    for row in rows:
        sums.update(row[None])
    full = np.linalg.eigvalsh(np.cov(rows.double().numpy().T, bias=True))[::-1]
    found = np.sort(sums.result())[::-1]
    k = min(n - 1, D)
    np.testing.assert_allclose(found[:k], full[:k], rtol=1e-5)
    assert np.abs(found[k:]).max(initial=0) < 1e-4 * full[0]


def test_a_mean_that_is_nearly_all_of_the_energy_does_not_cancel():
    rows = features(shift=3000.0)
    expected = np.linalg.eigvalsh(np.cov(rows.double().numpy().T, bias=True))
    np.testing.assert_allclose(
        filled((FeatureMoments, add_moments), rows).result(), expected, rtol=1e-4
    )
    streamed = FeatureMoments.zero()
    for chunk in rows.split(9):
        streamed.update(chunk)
    np.testing.assert_allclose(streamed.result(), expected, rtol=1e-4)


def test_fewer_rows_than_features_are_decomposed_on_the_side_of_the_rows():
    assert filled((FeatureMoments, add_moments), features(5, 64)).result().shape == (5,)
    assert filled((FeatureMoments, add_moments), features(80, 64)).result().shape == (64,)


def test_scaled_products_are_the_same_in_parts_and_in_any_order():
    rows = features().double()
    rows[:, 0] = 0.0
    whole = GramRows.zero()
    whole.update(rows, key=np.arange(N))
    parts = [GramRows.zero(), GramRows.zero()]
    parts[1].update(rows[10:], key=np.arange(10, N))
    parts[0].update(rows[:10], key=np.arange(10))
    merged = parts[1].merge(parts[0]).scaled()
    kept = rows[:, 1:].float().double().numpy()
    expected = kept @ (kept / np.sqrt(np.square(kept).mean(axis=0))).T
    np.testing.assert_allclose(whole.scaled(), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(merged, whole.scaled(), rtol=1e-12)
    assert GramRows.zero().scaled().shape == (0, 0)
