"""What a signal is: a formula over one pass, what it needs of that, and the column it makes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from layerwise.columns import Column
from layerwise.errors import BadInputError

if TYPE_CHECKING:
    from layerwise.capture.stats import LayerStats


@dataclass(frozen=True)
class Signal:
    """One number a block, from what a pass measured.

    Attributes:
        name: What a user types; the key of its column too.
        needs: What the pass must measure, of `layerwise.capture.MEASUREMENTS`; what those need in
            turn comes by itself.
        compute: Makes an array (l,) of one number a block from a `LayerStats`, NaN where a block
            has none; or a tuple of such arrays, one for each of the column's `fields`.
        column: How it is shown, and where its interval stands.
    """

    name: str
    needs: tuple[str, ...]
    compute: Callable[["LayerStats"], Any]
    column: Column

    def __post_init__(self) -> None:
        if self.name != self.column.key:
            message = f"signal {self.name!r} has a column {self.column.key!r}"
            raise ValueError(message)

    def values(self, stats: "LayerStats") -> dict[str, Any]:
        """Return the arrays (l,) of `stats` by the fields of the column.

        Raises:
            BadInputError: What was computed is not one number a block, or not one array a field.
        """
        found = self.compute(stats)
        arrays = found if isinstance(found, tuple) else (found,)
        shapes = [getattr(array, "shape", None) for array in arrays]
        expected = [(len(stats.blocks),)] * len(self.column.fields)
        if shapes != expected:
            msg = f"arrays of signal {self.name}"
            raise BadInputError(msg, value=shapes, expected=f"shapes {expected}")
        return dict(zip(self.column.fields, arrays, strict=True))
