"""Optional packages: asked for where they are used, and named where they are missing."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from layerwise.errors import BadInputError, one_line


def require(module: str, *, extra: str, purpose: str) -> Any:
    """Import `module`, which not every installation has.

    Args:
        module: Its full name (``"datasets"``, ``"rouge_score.rouge_scorer"``).
        extra: The extra of layerwise that brings it.
        purpose: What it is needed for, after "to" (``"read Parquet files"``).

    Raises:
        BadInputError: It, or what it needs, is not installed or cannot be imported.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        named = error.name or module
        raise _missing(named, _install(extra), purpose, BadInputError) from error
    except ImportError as error:
        message = f"package that is needed to {purpose} cannot be imported ({one_line(error)})"
        raise BadInputError(message, value=module, hint=_install(extra)) from error


def locate(
    package: str,
    *,
    purpose: str,
    extra: str = "",
    hint: str = "",
    error: type[BadInputError] = BadInputError,
) -> Path:
    """Return the folder of an installed package, whose code is not run.

    Args:
        package: Its name, without dots.
        purpose: What it is needed for, after "to".
        extra: The extra of layerwise that brings it.
        hint: What to type where no extra does.
        error: What is raised.

    Raises:
        BadInputError: It is not installed; of the type `error`.
    """
    spec = find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    if not folders:
        raise _missing(package, hint or _install(extra), purpose, error)
    return Path(folders[0])


def absent(*packages: str) -> tuple[str, ...]:
    """Return those of `packages` that are not installed; none of them is imported."""
    return tuple(package for package in packages if find_spec(package) is None)


def _missing(module: str, hint: str, purpose: str, error: type[BadInputError]) -> BadInputError:
    message = f"package that is needed to {purpose} is not installed"
    return error(message, value=module, hint=hint)


def _install(extra: str) -> str:
    return f"pip install 'layerwise[{extra}]'"
