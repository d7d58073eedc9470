"""Where the runs of a study happen: local processes, a Ray cluster, SLURM."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable


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
