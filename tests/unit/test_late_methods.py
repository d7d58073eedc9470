import pytest

from layerwise import late_methods


def test_a_name_calls_what_it_was_bound_to(monkeypatch):
    monkeypatch.setattr(late_methods, "_bound", {})
    late_methods.bind("double", lambda x, *, plus=0: 2 * x + plus)
    assert late_methods.call("double", 3, plus=1) == 7
    late_methods.bind("double", lambda x: x)
    assert late_methods.call("double", 3) == 3


def test_an_unbound_name_is_a_key_error(monkeypatch):
    monkeypatch.setattr(late_methods, "_bound", {})
    with pytest.raises(KeyError, match="double"):
        late_methods.call("double", 3)
