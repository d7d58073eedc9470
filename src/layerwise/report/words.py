"""Text from records made safe and short enough to show."""

from collections.abc import Iterable
from itertools import groupby

from layerwise.errors import one_line


def visible(text: str) -> str:
    """Return `text` with control, bidirectional-override and lone surrogate characters replaced.

    Line feeds stay; everything else that a screen cannot draw as itself becomes U+FFFD, so that
    no name can reorder, hide or end the text around it.
    """
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


def shown(text: object, *, limit: int = 80) -> str:
    """Return `text` on one line, cut in the middle to `limit` characters: both ends tell."""
    flat = one_line(text, limit=1_000_000)
    if len(flat) <= limit:
        return flat
    tail = limit // 2 - 1
    return f"{flat[: limit - tail - 1]}…{flat[-tail:]}"


def ranges(indices: Iterable[int]) -> str:
    """Return indices as people write them: ``"0, 3, 6–9"``."""
    told = []
    for _, pairs in groupby(enumerate(sorted(set(indices))), key=lambda pair: pair[1] - pair[0]):
        run = [str(index) for _, index in pairs]
        told += [f"{run[0]}–{run[-1]}"] if len(run) > 2 else run
    return ", ".join(told)
