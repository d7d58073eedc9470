"""Typed errors, each one line: what, the value, what was expected, what to type.

Every error that a user can cause is a `LayerwiseError`. Its `exit_code` is what the command line
returns: 2 for usage or bad input, 1 for work that began and failed.
"""

import difflib
import traceback
from collections.abc import Iterable


def one_line(text: object, *, limit: int = 300) -> str:
    """`text` with control characters and line breaks flattened, cut to `limit` characters."""
    flat = " ".join(str(text).split())
    safe = "".join(c if c.isprintable() else "�" for c in flat)
    return safe if len(safe) <= limit else safe[: limit - 1] + "…"


def is_bug(error: Exception) -> bool:
    """Return whether `error` is a fault of this package's own code, and not of what it reads.

    Libraries raise `AssertionError`, `AttributeError` and `TypeError` on files that are not what
    they say; our code, which looks at a file's values before it uses them, only where it is wrong.
    """
    if not isinstance(error, AssertionError | AttributeError | TypeError):
        return False
    *_, (last, _) = traceback.walk_tb(error.__traceback__)
    return str(last.f_globals.get("__name__")).startswith("layerwise.")


class LayerwiseError(Exception):
    """Anything layerwise refuses or cannot finish.

    Args:
        what: The thing at fault, in the user's words (``"column"``, ``"GGUF file"``).
        value: The offending value, shown as given.
        expected: What would have been right.
        hint: What to type, or where to look.
    """

    exit_code = 1

    def __init__(
        self, what: str, *, value: object = None, expected: str = "", hint: str = ""
    ) -> None:
        self.what, self.value, self.expected, self.hint = what, value, expected, hint
        super().__init__(self.message)

    @property
    def message(self) -> str:
        """The whole error as one line."""
        parts = [self.what if self.value is None else f"{self.what}: {one_line(self.value)!r}"]
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.hint:
            parts.append(f"try: {self.hint}")
        return one_line("; ".join(parts), limit=1200)


class BadInputError(LayerwiseError):
    """A value that the user gave cannot be used."""

    exit_code = 2


class UnknownNameError(BadInputError):
    """A name that is not among the known ones; the message offers the nearest.

    Args:
        what: The kind of thing named (``"policy"``, ``"signal"``, ``"column"``).
        value: The name as given.
        known: The names that would have been right.
        hint: What to type, when the nearest known name is not enough of an answer.
    """

    def __init__(self, what: str, *, value: str, known: Iterable[str], hint: str = "") -> None:
        self.known = tuple(known)
        near = difflib.get_close_matches(value, self.known, n=1, cutoff=0.5)
        advice = f"did you mean {near[0]!r}?" if near else ""
        super().__init__(
            f"unknown {what}",
            value=value,
            expected="one of " + ", ".join(self.known) if self.known else "nothing: none exist",
            hint=hint or advice,
        )


class ModelError(BadInputError):
    """A model or tokenizer cannot be found, read or trusted."""


class StackError(ModelError):
    """No ordered stack of blocks could be found in a model."""


class DataError(BadInputError):
    """Text or a data set cannot be read, or nothing usable is left of it."""


class SchemaError(BadInputError):
    """A record file is not of the schema, or not about the model, that was asked for."""


class OutputError(BadInputError):
    """An output folder cannot be written, or holds something that would be lost."""


class PlacementError(BadInputError):
    """A placement cannot be built: bad indices, too many layers, modules that no block has."""


class VerificationError(LayerwiseError):
    """The modules that were adapted are not the ones that were meant."""


class NonFiniteError(LayerwiseError):
    """A loss, activation or gradient is NaN or infinite; names the batch and the block."""


class OutOfMemoryError(LayerwiseError):
    """A device's memory, or the machine's, is used up."""


class LeaseError(LayerwiseError):
    """A run of a study that this process may no longer finish: another has taken it over."""
