"""How surely a placement follows from the examples: it is derived again from halves of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from layerwise.card.record import LayerCard, Stability
from layerwise.placement.gain import card_gram
from layerwise.seeds import draw

#: Half-samples that a placement is derived from again (ours).
SAMPLES = 20
#: Policies that go by figures of single examples, which a half-sample has too.
BY_EXAMPLES = ("gain", "gain-per-cost")
_FEWEST = 4


def stability(
    card: LayerCard, rows: Sequence[int], *, again: Callable[[LayerCard], Sequence[int]]
) -> Stability | None:
    """Return in how many half-samples of the examples the same `rows` come out; None of too few.

    Args:
        card: What they were chosen from.
        rows: The blocks.
        again: Chooses from a card as they were chosen.
    """
    if "adam_gram" not in card.arrays or card.arrays["adam_gram"].shape[1] < _FEWEST:
        return None
    found = [frozenset(again(half)) for half in _halves(card)]
    always = frozenset(rows).intersection(*found)
    return Stability(len(found), found.count(frozenset(rows)), tuple(sorted(always)))


def _halves(card: LayerCard) -> Iterator[LayerCard]:
    """Yield `card` with the Gram matrices of a half of its examples, drawn by its seed."""
    grams = {name: card_gram(card, name) for name in ("gram", "adam_gram") if name in card.arrays}
    n = len(grams["adam_gram"][0])
    for sample in range(SAMPLES):
        some = np.sort(draw(n, n // 2, card.capture.seed, "half-sample", sample))
        yield replace(
            card, arrays={**card.arrays, **{k: g[:, some][:, :, some] for k, g in grams.items()}}
        )


def told(card: LayerCard, found: Stability, *, blocks: int) -> str:
    """Return that in words, as "in 14 of 20 half-samples the same 5 blocks; always block 3"."""
    names = ", ".join(card.layers[row].name for row in found.always)
    every = f"always {names}" if found.always else "no block in all of them"
    size = "1 block" if blocks == 1 else f"{blocks} blocks"
    return (
        f"in {found.same} of {found.samples} half-samples of the examples the same {size}; {every}"
    )
