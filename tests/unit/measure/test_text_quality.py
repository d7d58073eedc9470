"""Generated text against what was wanted."""

import sys

import pytest

from layerwise.errors import BadInputError
from layerwise.measure.text_quality import TEXT_QUALITIES

SAME = ["the cat sat on the mat", "a dog barked at night"]
OTHER = ["nothing like it whatsoever here", "quite another thing said"]


@pytest.mark.parametrize("name", list(TEXT_QUALITIES))
def test_the_same_text_is_best_and_other_text_is_worse(name):
    best = TEXT_QUALITIES[name](SAME, SAME)
    assert best == pytest.approx(100.0 if name in {"bleu", "chrf"} else 1.0)
    assert TEXT_QUALITIES[name](OTHER, SAME) < best / 2


def test_exact_match_looks_past_blanks_at_the_ends_alone():
    assert TEXT_QUALITIES["exact-match"](["a b ", "A b"], ["a b", "a b"]) == 0.5


def test_rouge_is_the_longest_common_subsequence():
    # LCS "the sat" of 3 and 4 words: precision 2/3, recall 2/4.
    found = TEXT_QUALITIES["rouge"](["the dog sat"], ["the cat sat down"])
    assert found == pytest.approx(2 * (2 / 3) * (1 / 2) / (2 / 3 + 1 / 2))


def test_a_package_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(BadInputError, match=r"not installed: 'sacrebleu'.*layerwise\[evidence\]"):
        TEXT_QUALITIES["bleu"](SAME, SAME)
