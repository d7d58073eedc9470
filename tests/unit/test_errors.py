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

CLASSES = [v for name, v in vars(errors).items() if name.endswith("Error")]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            BadInputError("column", value="x", expected="one of text, label", hint="--text-column"),
            "column: 'x'; expected one of text, label; try: --text-column",
        ),
        (LayerwiseError("out of memory"), "out of memory"),
        (BadInputError("layers", value=0), "layers: '0'"),
        (
            UnknownNameError("policy", value="unifrom", known=["uniform"]),
            "unknown policy: 'unifrom'; expected one of uniform; try: did you mean 'uniform'?",
        ),
        (
            UnknownNameError("policy", value="zzz", known=["uniform", "gain"]),
            "unknown policy: 'zzz'; expected one of uniform, gain",
        ),
        (
            UnknownNameError("policy", value="gian", known=["gain"], hint="see --help"),
            "unknown policy: 'gian'; expected one of gain; try: see --help",
        ),
        (
            UnknownNameError("column", value="a", known=[]),
            "unknown column: 'a'; expected nothing: none exist",
        ),
    ],
)
def test_a_message_says_what_the_value_what_was_expected_and_what_to_type(error, message):
    assert str(error) == message


@pytest.mark.parametrize("cls", CLASSES)
def test_exit_codes(cls):
    failed = {LayerwiseError, LeaseError, VerificationError, NonFiniteError, OutOfMemoryError}
    assert issubclass(cls, LayerwiseError)
    assert cls.exit_code == (1 if cls in failed else 2)


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
