"""A leaderboard on a terminal."""

import pytest

from layerwise.report.old import measure_table


def test_verdict_and_arms_the_best_first(planted_measure, printed):
    text = printed(measure_table(planted_measure(notes=("planted",))))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    names = [line.split()[0] for line in lines if line.split()[:1]]
    order = ["all", "top", "recommended", "low-rank", "eva", "random-0"]
    assert [name for name in names if name in order] == order
    for words in (
        "Rival placements of org/model",
        "on reviews.csv (400 examples, causal-lm)",
        "4 blocks at rank 8: 1,000 parameters, 40 steps, 3 paired seeds",
        "The recommended placement is better than a random one.",
        "- note: planted",
    ):
        assert words in lines, words


@pytest.mark.parametrize("width", [40, 70, 120])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_it_fits_any_terminal(planted_measure, printed, width, encoding):
    text = printed(measure_table(planted_measure()), width=width, encoding=encoding)
    assert max(map(len, text.splitlines())) <= width
    assert "top" in text
