"""Where the runs of a study happen: local processes, a Ray cluster, SLURM."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

from layerwise.errors import BadInputError


@runtime_checkable
class Engine(Protocol):
    """Starts runs somewhere and says which have ended; what became of them, the ledger says.

    Attributes:
        slots: How many runs it works on at once.
    """

    slots: int

    def submit(self, run_id: str) -> None:
        """Start the run `run_id`, whose folder and spec are in the ledger."""
        ...

    def ended(self, timeout: float) -> Sequence[str]:
        """Return the ids of the runs that ended since it was last asked, however they did.

        Args:
            timeout: Seconds to wait for the first; none where nothing runs.
        """
        ...

    def close(self) -> None:
        """Interrupt what runs, wait until it has left, and free what is held."""
        ...


def optional(package: str, *, engine: str) -> Any:
    """Return the package that an engine is made of.

    Raises:
        BadInputError: It is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        message = "engine that is not installed"
        hint = f"pip install 'layerwise[{engine}]'"
        raise BadInputError(message, value=engine, hint=hint) from error
