"""The analysis of the published runs, straight from the definitions: loops, numpy and scipy."""

import csv
from importlib.resources import files
from itertools import product

import numpy as np
import pytest
from scipy import stats

DEPTHS = [0.10, 0.25, 0.40, 0.60, 0.75, 0.90, 1.00]
FIVE = ["standard", "uniform", "lora", "frozen-norm", "frozen-lower"]


def read(name):
    with files("layerwise.analysis").joinpath("atlas", name).open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def named(row):
    return {"mlm": "masked-lm"}.get(row["objective"], row["objective"])


@pytest.fixture(scope="module")
def profiles():
    return {
        (r["model"], named(r), r["condition"], r["metric"]): [float(r[f"d{d:.2f}"]) for d in DEPTHS]
        for r in read("profiles.csv")
    }


@pytest.fixture(scope="module")
def slopes(profiles):
    return {key: stats.linregress(DEPTHS, values).slope for key, values in profiles.items()}


@pytest.fixture(scope="module")
def means(slopes):
    """Slopes averaged over the five conditions, by model, objective and metric."""
    found = {}
    for (model, objective, condition, metric), slope in slopes.items():
        if condition in FIVE:
            found.setdefault((model, objective, metric), []).append(slope)
    assert {len(part) for part in found.values()} == {5}
    return {key: np.mean(part) for key, part in found.items()}


@pytest.fixture(scope="module")
def distances():
    return {
        (r["model"], named(r), metric): float(r[metric])
        for r in read("distances.csv")
        for metric in ("procrustes", "cosine")
    }


def test_every_slope(atlas_analysis, slopes):
    found = {(r.model, r.objective, r.condition, r.metric): r.slope for r in atlas_analysis.slopes}
    assert found == {key: pytest.approx(slope, abs=1e-12) for key, slope in slopes.items()}


def test_every_sign(atlas_analysis, slopes):
    for share in atlas_analysis.shares:
        conditions = FIVE if share.conditions == "five-standard" else [share.conditions]
        own = [s for k, s in slopes.items() if k[2] in conditions and k[3] == share.metric]
        counts = [sum(np.sign(own) == sign) for sign in (1, -1, 0)]
        assert [share.runs, share.positive, share.negative, share.zero] == [len(own), *counts]


def test_every_disagreement(atlas_analysis, slopes):
    differ = {
        key[:3]
        for key, slope in slopes.items()
        if key[3] == "cka" and slope * slopes[(*key[:3], "procrustes")] < 0
    }
    assert {(r.model, r.objective, r.condition) for r in atlas_analysis.disagreements} == differ
    assert len(atlas_analysis.disagreements) == len(differ)


def test_every_ratio(atlas_analysis, slopes):
    found = {(r.model, r.objective, r.metric): r for r in atlas_analysis.equal_step}
    equal = {(m, o, t): s for (m, o, c, t), s in slopes.items() if c == "equal-step"}
    assert set(found) == set(equal)
    for (model, objective, metric), slope in equal.items():
        standard = slopes[model, objective, "standard", metric]
        row = found[model, objective, metric]
        assert (row.equal_step, row.standard) == pytest.approx((slope, standard))
        assert row.ratio == pytest.approx(slope / standard)


def test_every_sign_count(atlas_analysis, slopes):
    blocks = {row["model"]: row["block"] for row in read("models.csv")}
    token = {"masked-lm", "span-denoise", "causal-lm", "causal-span"}
    for count in atlas_analysis.sign_counts:
        own = [
            slope
            for (model, objective, condition, metric), slope in slopes.items()
            if condition == "equal-step"
            and metric == count.metric
            and count.block in (None, blocks[model])
            and (count.family is None or (objective in token) == (count.family != "contrastive"))
        ]
        assert count.pairs == len(own)
        assert count.positive == sum(slope > 0 for slope in own)
        assert count.negative == sum(slope < 0 for slope in own)


def test_every_width(atlas_analysis, profiles):
    for row in atlas_analysis.widths:
        own = [
            p for (m, _, c, t), p in profiles.items() if m == row.model and c in FIVE and t == "cka"
        ]
        normalised = [[value / sum(profile) for value in profile] for profile in own]
        assert row.runs == len(own)
        assert row.shares == pytest.approx(np.mean(normalised, axis=0))


def test_every_correlation(atlas_analysis, means, distances):
    assert len(atlas_analysis.concordance) == 9 * 2 * 2
    for row in atlas_analysis.concordance:
        objectives = [o for m, o, t in means if m == row.model and t == row.metric]
        far = [
            distances[row.model, o, row.distance]
            for o in objectives
            if (row.model, o, row.distance) in distances
        ]
        own = [
            means[row.model, o, row.metric]
            for o in objectives
            if (row.model, o, row.distance) in distances
        ]
        assert row.objectives == len(own)
        assert row.rho == pytest.approx(stats.spearmanr(far, own).statistic)


def test_every_sign_test(atlas_analysis):
    for test in atlas_analysis.sign_tests:
        rhos = [
            row.rho
            for row in atlas_analysis.concordance
            if (row.distance, row.metric) == (test.distance, test.metric)
        ]
        positive, decided = sum(r > 0 for r in rhos), sum(r != 0 for r in rhos)
        tail = stats.binom.cdf(min(positive, decided - positive), decided, 0.5)
        assert test.positive == positive
        assert test.p_value == pytest.approx(min(1.0, 2 * tail))


def pooled_pairs(means, distances, distance, metric):
    keys = [(m, o) for m, o, t in means if t == metric and (m, o, distance) in distances]
    at = np.array([distances[*key, distance] for key in keys])
    return keys, at, np.array([means[*key, metric] for key in keys])


def test_every_pooled_correlation(atlas_analysis, means, distances):
    assert len(atlas_analysis.pooled) == 8
    for row in atlas_analysis.pooled:
        _, at, own = pooled_pairs(means, distances, row.distance, row.metric)
        kept = (at > 0) | row.references
        expected = stats.spearmanr(at[kept], own[kept])
        assert row.points == kept.sum()
        assert (row.rho, row.p_value) == pytest.approx((expected.statistic, expected.pvalue))


@pytest.mark.parametrize(
    ("distance", "metric"), list(product(("procrustes", "cosine"), ("procrustes", "cka")))
)
def test_every_residual(atlas_analysis, means, distances, distance, metric):
    keys, at, own = pooled_pairs(means, distances, distance, metric)
    points = [p for p in atlas_analysis.points if (p.distance, p.metric) == (distance, metric)]
    for name, flag, kept in (
        ("residual", "anomaly", at > 0),
        ("residual_with", "anomaly_with", at >= 0),
    ):
        design = np.column_stack([np.ones_like(at), at])
        (intercept, gradient), squares, *_ = np.linalg.lstsq(design[kept], own[kept])
        deviation = np.sqrt(squares[0] / (kept.sum() - 2))
        found = (own - design @ [intercept, gradient]) / deviation
        residuals = {key: r for key, r, k in zip(keys, found, kept, strict=True) if k}
        told = {(p.model, p.objective): getattr(p, name) for p in points}
        assert {key: value for key, value in told.items() if value is not None} == {
            key: pytest.approx(residual) for key, residual in residuals.items()
        }
        assert {(p.model, p.objective) for p in points if getattr(p, flag)} == {
            key for key, residual in residuals.items() if abs(residual) > 1.5
        }


def test_the_anomalies_that_the_paper_names(atlas_analysis):
    """Without references, as it must have been: its largest by Procrustes, in this order."""
    found = {
        (p.model, p.objective): round(p.residual, 2)
        for p in atlas_analysis.points
        if p.anomaly and (p.distance, p.metric) == ("procrustes", "procrustes")
    }
    assert found == {
        ("rwkv-4-169m", "simcse"): 2.72,
        ("bert-base-uncased", "nsp"): 1.94,
        ("bert-base-uncased", "span-denoise"): -1.77,
        ("roberta-base", "span-denoise"): -1.63,
    }


def test_intervals_over_seeds_by_leaving_seeds_out_one_by_one(planted_runs):
    """Student's t of pseudo-values, by scipy, where they are even enough not to be skewed."""
    seeds, conditions = range(8), ("standard", "equal-step")
    runs = planted_runs.study(seeds=seeds, conditions=conditions, noise=0.05, metrics=("cka",))
    made = planted_runs.analysed(runs)
    slopes = {(r.model, r.objective, r.condition, r.seed): r.slope for r in made.slopes}
    for row in made.equal_step:
        equal, standard = (
            np.array([slopes[row.model, row.objective, c, s] for s in seeds])
            for c in ("equal-step", "standard")
        )
        whole = equal.mean() / standard.mean()
        pseudo = [
            8 * whole - 7 * np.delete(equal, s).mean() / np.delete(standard, s).mean()
            for s in seeds
        ]
        for ends, values, middle in (
            ((row.low, row.high), equal, equal.mean()),
            ((row.ratio_low, row.ratio_high), np.array(pseudo), whole),
        ):
            half = stats.t.ppf(0.975, 7) * values.std(ddof=1) / np.sqrt(8)
            assert ends[0] <= middle - half + 1e-9
            assert ends[1] >= middle + half - 1e-9
            assert ends[1] - ends[0] <= 4 * half
            assert min(middle - ends[0], ends[1] - middle) == pytest.approx(half)
