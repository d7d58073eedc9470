import pytest

from layerwise import verbs


def test_a_verb_does_what_it_was_bound_to(monkeypatch):
    monkeypatch.setattr(verbs, "_bound", {})
    verbs.bind("double", lambda x, *, plus=0: 2 * x + plus)
    assert verbs.call("double", 3, plus=1) == 7
    verbs.bind("double", lambda x: x)
    assert verbs.call("double", 3) == 3


def test_an_unbound_verb_is_a_key_error(monkeypatch):
    monkeypatch.setattr(verbs, "_bound", {})
    with pytest.raises(KeyError, match="double"):
        verbs.call("double", 3)
