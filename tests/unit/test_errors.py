import json

import pytest

from layerwise import errors
from layerwise.errors import (
    BadInputError,
    LayerwiseError,
    LeaseError,
    NonFiniteError,
    OutOfMemoryError,
    UnknownNameError,
    VerificationError,
    is_bug,
    one_line,
)
from layerwise.files import canonical_json

CLASSES = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]


def test_message_says_what_value_expected_and_what_to_type():
    error = BadInputError(
        "column", value="txt", expected="one of text, label", hint="--text-column"
    )
    assert str(error) == "column: 'txt'; expected one of text, label; try: --text-column"


def test_message_without_parts_is_what_alone():
    assert str(LayerwiseError("out of memory")) == "out of memory"


def test_a_value_that_is_false_is_still_shown():
    assert str(BadInputError("layers", value=0)) == "layers: '0'"


@pytest.mark.parametrize("cls", CLASSES)
def test_exit_codes(cls):
    failed = {LayerwiseError, LeaseError, VerificationError, NonFiniteError, OutOfMemoryError}
    assert cls.exit_code == (1 if cls in failed else 2)


def test_every_error_is_a_layerwise_error():
    assert all(issubclass(cls, LayerwiseError) for cls in CLASSES)


def test_every_error_class_is_listed():
    defined = {n for n, v in vars(errors).items() if isinstance(v, type) and n.endswith("Error")}
    assert defined == {cls.__name__ for cls in CLASSES}


@pytest.mark.parametrize(
    ("value", "offer"), [("unifrom", "try: did you mean 'uniform'?"), ("zzz", None)]
)
def test_unknown_name_offers_the_nearest(value, offer):
    message = str(UnknownNameError("policy", value=value, known=["uniform", "gain"]))
    start = f"unknown policy: '{value}'; expected one of uniform, gain"
    assert message == (f"{start}; {offer}" if offer else start)


def test_unknown_name_keeps_its_own_hint():
    message = str(UnknownNameError("policy", value="gian", known=["gain"], hint="see --help"))
    assert message.endswith("; try: see --help")


def test_unknown_name_where_none_exist():
    assert "expected nothing: none exist" in str(UnknownNameError("column", value="a", known=[]))


@pytest.mark.parametrize("nasty", ["a\nb", "a\r\nb", "a\tb", "a\x1b[2Jb", "a\u202eb", "a\x00b"])
def test_messages_are_one_printable_line(nasty):
    message = str(BadInputError(nasty, value=nasty, expected=nasty, hint=nasty))
    assert message.isprintable()


def test_one_line_is_cut_to_its_limit():
    assert one_line("x" * 50, limit=10) == "x" * 9 + "…"
    assert one_line("x" * 10, limit=10) == "x" * 10


def fault(work):
    with pytest.raises(Exception, match=r".") as caught:
        work()
    return caught.value


def test_a_fault_of_our_own_code_is_told_from_a_library_s():
    """By whose frame raised: what a library cannot make of a file is not a bug of ours."""
    ours = fault(lambda: one_line("x", limit="many"))
    assert isinstance(ours, TypeError)
    assert is_bug(ours)
    theirs = fault(lambda: json.JSONDecoder().decode(3))
    assert isinstance(theirs, TypeError)
    assert not is_bug(theirs)
    assert not is_bug(fault(lambda: canonical_json({"a": float("nan")})))
