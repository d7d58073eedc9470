"""Names that are safe as file names: of studies, models, placements and runs."""

import re

from layerwise.errors import BadInputError

LONGEST = 64
"""Characters of a name that a user may give."""

_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def is_safe(name: object, *, longest: int = LONGEST) -> bool:
    """Return whether `name` is one file name everywhere: no path, hidden file or option."""
    return isinstance(name, str) and len(name) <= longest and bool(_SAFE.fullmatch(name))


def safe_name(name: object, *, what: str) -> str:
    """Return the `name` of a `what`, which can be a part of a file name.

    Raises:
        BadInputError: It is empty, too long, a path, or has characters that file names must not.
    """
    if isinstance(name, str) and is_safe(name):
        return name
    message = f"name of a {what} that cannot be a file name"
    expected = f"1 to {LONGEST} of A-Z a-z 0-9 . _ -, the first a letter, a digit or _"
    raise BadInputError(message, value=name, expected=expected)


def slug(*parts: str, longest: int) -> str:
    """`parts` joined by dashes, cut to `longest` characters, safe as the start of a file name."""
    return _UNSAFE.sub("_", "-".join(parts))[:longest].strip("-.")
