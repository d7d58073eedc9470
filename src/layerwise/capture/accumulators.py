"""Sums that can be grown, merged and read: every statistic of a pass is one of these monoids.

Each has ``zero()`` (the empty sum), ``update(part)``, ``merge(other)`` and ``result()``; updating
in parts, in any split over processes, gives what one update with everything would. Sums are kept in
float64 on the CPU.
"""

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch

from layerwise.compat.torch import widest
from layerwise.shapes import Array, Float, Float64, Int, Tensor

Result_co = TypeVar("Result_co", covariant=True)


@runtime_checkable
class Accumulator(Protocol[Result_co]):
    """The operations that make a statistic streamable, beside an ``update`` of its own."""

    @classmethod
    def zero(cls) -> Any:
        """Return the sum of nothing."""
        return cls()

    def merge(self, other: Any) -> Any:
        """Return this sum with `other`'s parts added."""
        ...

    def result(self) -> Result_co:
        """Return what the parts so far add up to."""
        ...


class KeyedTable(Accumulator[dict[str, np.ndarray]]):
    """Rows of named columns, each row with a key; the result is ordered by key.

    Holds what is one small row an example (or a batch), such as norms, tokens and times.
    """

    def __init__(self, parts: list[dict[str, np.ndarray]] | None = None) -> None:
        self._parts = parts or []

    def update(self, columns: Mapping[str, Array], *, key: Int[Array, "n"]) -> None:
        """Add one row for each key; every column has that many rows."""
        rows = {name: np.asarray(values, dtype=np.float64) for name, values in columns.items()}
        self._parts.append({"key": key, **rows})

    def merge(self, other: "KeyedTable") -> "KeyedTable":
        """Return both tables' rows."""
        return type(self)(self._parts + other._parts)

    def result(self) -> dict[str, np.ndarray]:
        """Return all rows ordered by key, as columns; the keys are the column ``key``."""
        if not self._parts:
            return {}
        joined = {name: np.concatenate([p[name] for p in self._parts]) for name in self._parts[0]}
        order = np.argsort(joined["key"], kind="stable")
        return {name: values[order] for name, values in joined.items()}


class Sum(Accumulator[np.ndarray]):
    """A plain sum of tensors of one shape, in float64."""

    def __init__(self, total: Tensor | None = None) -> None:
        self._total = total

    def update(self, part: Tensor) -> None:
        """Add `part`."""
        wide = part.detach().cpu().double()
        self._total = wide if self._total is None else self._total.add_(wide)

    def merge(self, other: "Sum") -> "Sum":
        """Return the sum of both."""
        totals = [t for t in (self._total, other._total) if t is not None]
        return type(self)(torch.stack(totals).sum(0) if totals else None)

    def result(self) -> Float64[Array, "..."]:
        """Return the total; a scalar zero where nothing was added."""
        return np.zeros(()) if self._total is None else self._total.numpy()


class FeatureMoments(Accumulator[np.ndarray]):
    """Mean and scatter of feature rows, and from them the covariance's eigenvalues.

    While fewer rows than features have come, the rows themselves are kept: smaller than their
    scatter matrix, and cheaper to decompose. After that, count, mean and centred scatter are
    merged pairwise (Chan, Golub and LeVeque 1983), which does not cancel where the mean is large.
    """

    def __init__(self) -> None:
        self._kept = 0
        self._rows: list[Tensor] = []
        self._absorbed = 0
        self._mean: Tensor | None = None
        self._scatter: Tensor | None = None

    def update(self, rows: Float[Tensor, "k d"]) -> None:
        """Add `rows`, one feature vector each."""
        if not rows.shape[0]:
            return
        self._kept += rows.shape[0]
        if self._scatter is None and self._kept < rows.shape[1]:
            self._rows.append(rows.detach().to("cpu", torch.float32, copy=True))
            return
        self._collapse()
        self._absorb(*_centred(rows.detach()))

    def _collapse(self) -> None:
        """Turn the rows kept so far into mean and scatter."""
        rows, self._rows = self._rows, []
        if rows:
            self._absorb(*_centred(torch.cat(rows)))

    def _absorb(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        if self._mean is None or self._scatter is None:
            self._absorbed, self._mean, self._scatter = count, mean, scatter
            return
        total = self._absorbed + count
        step = mean - self._mean
        self._scatter += scatter
        self._scatter.addr_(step, step, alpha=self._absorbed * count / total)
        self._mean = self._mean + step * (count / total)
        self._absorbed = total

    def merge(self, other: "FeatureMoments") -> "FeatureMoments":
        """Return the moments of both sets of rows."""
        merged = type(self)()
        for part in (self, other):
            if part._mean is not None and part._scatter is not None:
                merged._collapse()
                merged._absorb(part._absorbed, part._mean, part._scatter.clone())
            for rows in part._rows:
                merged.update(rows)
        return merged

    def result(self, *, centred: bool = True) -> Float64[Array, "k"]:
        """Eigenvalues of the covariance, or of the second moment, ascending.

        From the cheaper of its two sides: with k rows of d features, the d of the matrix itself, or
        the k of the rows' Gram matrix, which are the same but for zeros.
        """
        if self._scatter is not None and self._mean is not None:
            moment = self._scatter / self._absorbed
            moment = moment if centred else moment + torch.outer(self._mean, self._mean)
        elif self._rows:
            rows = torch.cat(self._rows).double()
            rows = rows - rows.mean(0) if centred else rows
            moment = rows @ rows.T / self._kept
        else:
            return np.zeros(0)
        return torch.linalg.eigvalsh(moment).clamp_min(0).numpy()


def _centred(rows: Tensor) -> tuple[int, Tensor, Tensor]:
    """Count, mean and centred scatter of `rows`; products in at least float32, sums in float64."""
    values = rows.float()
    mean = values.mean(0, dtype=widest(values.device))
    shifted = values - mean.to(values.dtype)
    # The float32 shift leaves a mean of rounding size; what it adds to the scatter is below
    # float32's own resolution of the products.
    scatter = shifted.T @ shifted
    return int(rows.shape[0]), mean.cpu().double(), scatter.cpu().double()


class GramRows(Accumulator[np.ndarray]):
    """Feature rows of a few examples, and their inner products.

    Examples may come in any order and in several pieces; the result is ordered by key.
    """

    def __init__(self, parts: list[tuple[np.ndarray, Tensor]] | None = None) -> None:
        self._parts = parts or []

    def update(self, rows: Float[Tensor, "k d"], *, key: Int[Array, "k"]) -> None:
        """Add one row for each key."""
        if len(key):
            self._parts.append((key, rows.detach().to("cpu", torch.float32, copy=True)))

    def merge(self, other: "GramRows") -> "GramRows":
        """Return both sets of rows."""
        return type(self)(self._parts + other._parts)

    def result(self) -> Float64[Array, "g g"]:
        """Inner products of all rows, float64, ordered by key."""
        rows = self._ordered()
        return (rows @ rows.T).numpy()

    def scaled(self) -> Float64[Array, "g g"]:
        """Give the same, each coordinate's products divided by its root mean square over the rows.

        A coordinate that is zero in every row adds nothing.
        """
        rows = self._ordered()
        size = rows.square().mean(0).sqrt()
        halves = rows / torch.where(size > 0.0, size, 1.0).sqrt()
        return (halves @ halves.T).numpy()

    def _ordered(self) -> Float[Tensor, "g d"]:
        if not self._parts:
            return torch.zeros((0, 0), dtype=torch.float64)
        order = np.argsort(np.concatenate([key for key, _ in self._parts]), kind="stable")
        return torch.cat([rows for _, rows in self._parts])[torch.from_numpy(order)].double()


A = TypeVar("A", bound=Accumulator[Any])


def merge_named(first: Mapping[str, A], second: Mapping[str, A]) -> dict[str, A]:
    """Merge two processes' accumulators by name; a missing name is an empty sum."""
    merged = dict(first)
    for name, sums in second.items():
        merged[name] = merged[name].merge(sums) if name in merged else sums
    return merged
