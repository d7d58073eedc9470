"""Where the spans of a text are that are hidden as a whole.

Of n tokens, m = max(1, round(0.15 n)) are hidden in s = max(1, round(m / 3)) spans, so that a span
is of 3 tokens on average. The lengths are a random composition of m into s positive parts; the
spans start before s different ones of the n - m tokens that are left, or after the last, so that
no two of them touch. Every such layout is as likely as any other. Density and mean length as in T5
(arXiv 1910.10683, section 3.3.4, which fixes both in the same way).
"""

import numpy as np

from layerwise.seeds import numpy_generator

HIDDEN, MEAN_LENGTH = 0.15, 3


def spans(tokens: int, *, seed: int, index: int) -> list[range]:
    """Return spans of positions in a text of `tokens` >= 1 tokens, in order.

    `seed` and the example's `index` in the data fix them.
    """
    random = numpy_generator(seed, "spans", index)
    hidden = max(1, round(HIDDEN * tokens))
    count = max(1, round(hidden / MEAN_LENGTH))
    cuts = 1 + np.sort(random.choice(hidden - 1, size=count - 1, replace=False))
    lengths = np.diff([0, *cuts.tolist(), hidden]).tolist()
    before = np.sort(random.choice(tokens - hidden + 1, size=count, replace=False))
    starts = before + np.cumsum([0, *lengths[:-1]])
    return [range(s, s + n) for s, n in zip(starts.tolist(), lengths, strict=True)]
