"""Names become file names, so only those that are one everywhere are taken."""

import pytest

from layerwise.errors import BadInputError
from layerwise.study.record import LONGEST, is_safe, safe_name, slug

OTHERS = ("", ".", "..", "../up", "/etc/passwd", "a/b", "a\\b", ".hidden", "-option", "a\0b")


@pytest.mark.parametrize("name", ["a", "SmolLM2-135M", "gpt_2.v1", "0", "_x", "a" * LONGEST])
def test_safe_names_are_taken_as_they_are(name):
    assert safe_name(name, what="model") == name


@pytest.mark.parametrize(
    "name", [*OTHERS, "a\nb", "a b", "é", "a" * (LONGEST + 1), "a" * 300, None, 3, ["a"]]
)
def test_others_are_refused(name):
    assert not is_safe(name)
    with pytest.raises(BadInputError, match="name of a model that cannot be a file name"):
        safe_name(name, what="model")


def test_a_slug_is_safe_and_short():
    assert slug("bert", "masked lm", "s0", longest=40) == "bert-masked_lm-s0"
    assert slug("a" * 50, "b", longest=10) == "a" * 10
    assert slug("a", "b..", longest=4) == "a-b"
