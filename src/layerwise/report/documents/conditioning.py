"""How the inputs of blocks are conditioned, by regime: figure 3 of arXiv 2602.04019."""

from collections.abc import Iterator

import numpy as np

from layerwise.card.record import LayerCard
from layerwise.columns import Column
from layerwise.errors import PlacementError
from layerwise.placement.place import choose
from layerwise.report import blocks as b
from layerwise.report.documents import parts

_REGIMES = ("top", "mid", "bottom")
#: Points of a curve: its places are evenly spaced on a logarithmic axis (ours).
_POINTS = 40
#: Smaller shares are rounding where there are fewer inputs than their width (ours).
_ROUNDING = 1e-12
_SHARE = Column("share", "Share of the variance", form="percent", digits=3)


def conditioning(card: LayerCard) -> Iterator[b.Block]:
    """Yield the spectra of the inputs of the blocks of each regime, where the card has them."""
    rows, taken = [], []
    for regime in _REGIMES:
        try:
            layers = choose(card, policy=regime).rows
        except PlacementError:  # It has no residual norms.
            return
        names = {name for row in layers for name in card.layers[row].modules}
        found = [v for n in names if (v := card.arrays.get(f"spectrum/{n}")) is not None]
        shares = [v[::-1] / v.sum() for v in sorted(found, key=len) if v.sum() > 0.0]
        if not shares:
            return
        size = len(shares[0])
        mean = np.mean([share[:size] for share in shares], axis=0)
        places = np.unique(np.geomspace(1, size, _POINTS).round().astype(int))
        taken.append(regime)
        where = parts.block_names(
            [card.layers[row] for row in layers], parts.stack_labels(card.model)
        )
        rows += [
            {"place": int(p), "share": float(mean[p - 1]), "regime": regime,
             "head": f"{regime}: {where} · eigenvalue {p}"}
            for p in places if mean[p - 1] > _ROUNDING
        ]  # fmt: skip
    yield b.Chart(
        "conditioning", "Spectra of the inputs by regime", "scatter", rows,
        b.Axis("place", title="Eigenvalue, from the largest", scale="log"),
        b.Axis("share", scale="log"), series="regime", names=taken, join="regime", tips=[_SHARE],
        caption="Mean share of the variance of the adapted modules' inputs, by the regimes of "
        "arXiv 2602.04019. Steep: a few directions dominate. Shares below 1e-12 are rounding "
        "and left out.", width="wide", height=220,
    )  # fmt: skip
