import pytest

from layerwise.errors import UnknownNameError
from layerwise.registry import Registry


@pytest.fixture
def policies():
    made = Registry("policy")
    made.add("uniform", 1)
    made.add("gain", 2)
    return made


def test_members_come_back_by_name_in_order(policies):
    assert policies["gain"] == 2
    assert list(policies) == ["uniform", "gain"]
    assert list(policies.items()) == [("uniform", 1), ("gain", 2)]
    assert len(policies) == 2


def test_membership(policies):
    assert "gain" in policies
    assert "top" not in policies


def test_unknown_name_lists_and_offers(policies):
    with pytest.raises(UnknownNameError, match=r"unknown policy: 'gian'.*did you mean 'gain'\?"):
        policies["gian"]


def test_a_name_is_taken_once(policies):
    with pytest.raises(ValueError, match="policy 'gain' is registered twice"):
        policies.add("gain", 3)


def test_register_decorates_and_returns_what_it_decorates(policies):
    @policies.register("top")
    def top():
        return "top"

    assert policies["top"] is top
    assert top() == "top"
