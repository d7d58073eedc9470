import math
import operator
import re
from importlib.resources import files

import pytest
from transformers import AutoTokenizer

from layerwise.data import probes

DIGITS = [
    *("zero", "one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
]
NAMED = dict(zip(DIGITS, range(13), strict=True)) | {"twenty": 20, "forty-two": 42}
NUMBER = r"(-?\d+(?:\.\d+)?|" + "|".join(sorted(NAMED, key=len, reverse=True)) + ")"

#: What each form of words says, as a function of its numbers that must be true.
FORMS = {
    r"N plus N equals N": lambda a, b, c: a + b == c,
    r"N plus N plus N equals N": lambda a, b, c, d: a + b + c == d,
    r"N minus N equals N": lambda a, b, c: a - b == c,
    r"N times N equals N": lambda a, b, c: a * b == c,
    r"N times N times N equals N": lambda a, b, c, d: a * b * c == d,
    r"N divided by N equals N": lambda a, b, c: a / b == c,
    r"the sum of N and N is N": lambda a, b, c: a + b == c,
    r"the difference between N and N is N": lambda a, b, c: a - b == c,
    r"the product of N and N is N": lambda a, b, c: a * b == c,
    r"half of N is N": lambda a, b: a / 2 == b,
    r"a third of N is N": lambda a, b: a / 3 == b,
    r"a quarter of N is N": lambda a, b: a / 4 == b,
    r"twice N is N": lambda a, b: 2 * a == b,
    r"N times N is N": lambda a, b, c: a * b == c,
    r"the square of N is N": lambda a, b: a**2 == b,
    r"the cube of N is N": lambda a, b: a**3 == b,
    r"the square root of N is N": lambda a, b: math.sqrt(a) == b,
    r"N percent of N is N": lambda a, b, c: a * b / 100 == c,
    r"the remainder of N divided by N is N": lambda a, b, c: a % b == c,
    r"N is greater than N": operator.gt,
    r"N is less than N": operator.lt,
}
PATTERNS = {re.compile(form.replace("N", NUMBER) + r"\."): truth for form, truth in FORMS.items()}


def sections():
    kinds, kind = {}, None
    for line in files("layerwise.data").joinpath("probes.txt").read_text().splitlines():
        if line.startswith("#"):
            kind = kinds.setdefault(line[2:], [])
        elif line:
            kind.append(line)
    return kinds


def is_true(line):
    for pattern, truth in PATTERNS.items():
        if found := pattern.fullmatch(line.lower()):
            return truth(*(NAMED[n] if n in NAMED else float(n) for n in found.groups()))
    return None


def test_290_plain_sentences_each_once_and_of_every_kind():
    kinds = sections()
    assert set(kinds) == {"arithmetic", "comparison", "family", "space", "part and whole", "cause"}
    assert min(map(len, kinds.values())) >= 40
    assert tuple(line for lines in kinds.values() for line in lines) == probes()
    assert len({line.lower().rsplit(" ", 1)[0] for line in probes()}) == len(probes()) == 290
    for line in probes():
        assert re.fullmatch(r"[A-Z0-9-](?:[A-Za-z0-9,.'-]| (?! ))*\.", line), line


@pytest.mark.parametrize("line", sections()["arithmetic"])
def test_sums_are_right(line):
    assert is_true(line) is True


def test_compared_numbers_are_right():
    found = [is_true(line) for line in sections()["comparison"] if re.search(r"\d", line)]
    assert len(found) >= 10
    assert all(found)
    assert is_true("2 plus 2 equals 5.") is False


@pytest.mark.real_model
def test_short_for_real_tokenizers(smollm2_tokenizer, minilm):
    for tokenizer in (smollm2_tokenizer, AutoTokenizer.from_pretrained(minilm)):
        lengths = [len(ids) for ids in tokenizer(list(probes()))["input_ids"]]
        assert 3 <= min(lengths) <= max(lengths) < 64
