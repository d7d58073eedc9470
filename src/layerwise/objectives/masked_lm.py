"""Masked language modelling: the tokens that were hidden, from those around them.

As in BERT (arXiv 1810.04805, section 3.1): 15% of the tokens are to be predicted; of these 80% are
replaced by the mask token, 10% by a random token, 10% are left as they are.
"""

from functools import partial

import numpy as np

from layerwise.data.batches import Row
from layerwise.objectives.hidden import Vocabulary, hidden_batches
from layerwise.objectives.record import Objective
from layerwise.objectives.token_loss import model_losses
from layerwise.seeds import numpy_generator

CHOSEN, MASKED, RANDOM = 0.15, 0.8, 0.1


def _hide(row: Row, words: Vocabulary, seed: int) -> dict[int, int]:
    """Return what is read in place of some of the ordinary tokens of `row`, at least one."""
    random = numpy_generator(seed, "masked-lm", row.index)
    free = words.free(row)
    chosen = random.choice(free, size=max(1, round(CHOSEN * len(free))), replace=False)
    return {int(i): _stand_in(row.ids[i], words=words, random=random) for i in chosen}


def _stand_in(token: int, *, words: Vocabulary, random: np.random.Generator) -> int:
    """Return what is read in place of `token`."""
    draw = random.random()
    if draw < MASKED:
        return words.mask
    if draw >= MASKED + RANDOM:
        return token
    return words.ordinary[int(random.integers(len(words.ordinary)))]


MASKED_LM = Objective(
    name="masked-lm",
    kinds=frozenset({"masked"}),
    batches=partial(hidden_batches, hide=_hide),
    losses=model_losses,
)
