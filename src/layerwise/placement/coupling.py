"""How the blocks of a card are coupled: each to all others, and within sets of policies."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict

import numpy as np

from layerwise.card.record import CoupledBlocks, CoupledSet, Coupling, LayerCard
from layerwise.errors import PlacementError
from layerwise.placement.gain import card_gram
from layerwise.placement.place import choose
from layerwise.signals.coupling import DAMPINGS, block_coupling, set_coupling
from layerwise.signals.gain import DRAWS, flipped

#: What the advised set is held against: the placements of arXiv 2602.04019, and both ends.
_RIVALS = ("uniform", "top", "mid", "bottom", "first", "last")


def coupling(card: LayerCard) -> Coupling | None:
    """Return the coupling of the blocks of `card`, beside that of independent gradients.

    None where it has no Gram matrices of two blocks and two examples or more.
    """
    if "gram" not in card.arrays or min(card.arrays["gram"].shape[:2]) < 2:
        return None
    gram = card_gram(card, "gram")
    null = [flipped(gram, card.capture.seed, draw) for draw in range(DRAWS)]
    blocks, sets, named = [], [], _sets(card)
    is_told, finding = False, ""
    for damping in sorted({*DAMPINGS, card.capture.damping}):
        found = block_coupling(gram, damping)
        draws = np.stack([block_coupling(each, damping).kappa for each in null])
        figures = {key: tuple(map(float, values)) for key, values in asdict(found).items()}
        highest = tuple(map(float, draws.max(axis=0)))
        blocks.append(CoupledBlocks(damping=damping, kappa_by_chance=highest, **figures))
        for name, rows in named.items():
            most = max(set_coupling(each, rows, damping).rho for each in null)
            own = asdict(set_coupling(gram, rows, damping))
            sets.append(CoupledSet(name, rows, damping, rho_by_chance=most, **own))
        if damping == card.capture.damping:
            mean, most = float(found.kappa.mean()), float(draws.mean(axis=1).max())
            is_told, finding = mean > most, _finding(mean, most, damping)
    return Coupling(is_told, finding, DRAWS, tuple(blocks), tuple(sets))


def _sets(card: LayerCard) -> Mapping[str, tuple[int, ...]]:
    """Return the sets of at least two blocks whose coupling is told, each set once."""
    advised = card.advice.layers if card.advice else ()
    found = {advised: "advised"}
    for name in _RIVALS:
        with suppress(PlacementError):  # A card need not have every signal.
            found.setdefault(choose(card, policy=name, layers=len(advised) or None).rows, name)
    return {name: rows for rows, name in found.items() if len(rows) > 1}


def _finding(mean: float, most: float, damping: float) -> str:
    about = f"mean kappa {mean:.3g} at damping {damping:g}"
    null = f"at most {most:.3g} in {DRAWS} draws of independent gradients"
    if mean > most:
        return f"Blocks can stand in for each other more than by chance: {about}, {null}."
    return f"Coupling is not told: {about} is within what chance gives, {null}."
