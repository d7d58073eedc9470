import sys
from types import SimpleNamespace

import pytest

from layerwise.errors import UnknownNameError
from layerwise.registry import Registry, later


@pytest.fixture
def policies():
    made = Registry("policy")
    made.add(1, name="uniform")
    made.add(2, name="gain")
    return made


def test_members_come_back_by_name_in_order(policies):
    assert policies["gain"] == 2
    assert list(policies) == ["uniform", "gain"]
    assert list(policies.items()) == [("uniform", 1), ("gain", 2)]
    assert list(policies.values()) == [1, 2]
    assert (len(policies), "gain" in policies, "top" in policies) == (2, True, False)


def test_unknown_name_lists_and_offers(policies):
    with pytest.raises(UnknownNameError, match=r"unknown policy: 'gian'.*did you mean 'gain'\?"):
        policies["gian"]


def test_a_name_is_taken_once(policies):
    with pytest.raises(ValueError, match="policy 'gain' is registered twice"):
        policies.add(3, name="gain")


def test_register_decorates_and_returns_what_it_decorates(policies):
    @policies.register("top")
    def top():
        return "top"

    assert policies["top"] is top
    assert top() == "top"


def test_a_row_is_known_by_its_own_name(policies):
    row = SimpleNamespace(name="late")
    assert policies.add(row) is row
    assert policies["late"] is row


def test_what_is_removed_is_unknown(policies):
    assert policies.remove("gain") == 2
    assert list(policies) == ["uniform"]
    with pytest.raises(UnknownNameError, match="unknown policy: 'gain'"):
        policies.remove("gain")


def test_a_later_function_is_imported_when_it_is_called():
    function = later("colorsys", "rgb_to_hsv")
    sys.modules.pop("colorsys", None)
    assert function(1.0, 0.0, 0.0) == (0.0, 1.0, 1.0)
    assert "colorsys" in sys.modules
