"""Text from cards made safe and short enough to show, and blocks written as people say them."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import PurePath

from layerwise.card.record import LayerCard, ModelInfo
from layerwise.errors import PlacementError, one_line
from layerwise.placement.record import Placement

__all__ = [
    "adapted_rows",
    "block_text",
    "counted",
    "headline",
    "model_name",
    "plural",
    "ranges",
    "shown",
    "stack_labels",
    "visible",
]


def visible(text: str) -> str:
    """`text` with control, bidirectional-override and lone surrogate characters replaced.

    Line feeds stay; everything else that a screen cannot draw as itself becomes U+FFFD, so that
    no name can reorder, hide or end the text around it.
    """
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


def shown(text: object, *, limit: int = 80) -> str:
    """`text` on one line, cut in the middle to `limit` characters: both ends of a name tell."""
    flat = one_line(text, limit=1_000_000)
    if len(flat) <= limit:
        return flat
    tail = limit // 2 - 1
    return f"{flat[: limit - tail - 1]}…{flat[-tail:]}"


def stack_labels(model: ModelInfo, *, limit: int = 40) -> Mapping[str, str]:
    """A short label for each stack's name, no two the same."""
    labels: dict[str, str] = {}
    for number, stack in enumerate(model.stacks, start=1):
        label = shown(stack.name, limit=limit)
        labels[stack.name] = f"{label} ({number})" if label in labels.values() else label
    return labels


def ranges(indices: Iterable[int]) -> str:
    """Indices as people write them: ``"0, 3, 6–9"``."""
    ordered = sorted(set(indices))
    runs = [
        [index for _, index in run]
        for _, run in groupby(enumerate(ordered), key=lambda pair: pair[1] - pair[0])
    ]
    return ", ".join(_run(run) for run in runs)


def plural(noun: str, count: int) -> str:
    """`noun` as `count` of them are called."""
    return noun if count == 1 else f"{noun}s"


def counted(count: int, noun: str) -> str:
    """``"1 run"``, ``"2 runs"``."""
    return f"{count:,} {plural(noun, count)}"


def _run(run: Sequence[int]) -> str:
    if len(run) > 2:
        return f"{run[0]}–{run[-1]}"
    return ", ".join(str(index) for index in run)


def block_text(card: LayerCard, rows: Sequence[int]) -> str:
    """The blocks of `rows` in words: ``"blocks 4, 6–9"``, with stack names where there are two."""
    if not rows:
        return "no block"
    labels = stack_labels(card.model)
    parts = []
    for stack, label in labels.items():
        indices = [card.layers[r].index for r in rows if card.layers[r].stack == stack]
        if indices:
            where = f" of {label}" if len(labels) > 1 else ""
            parts.append(f"{plural('block', len(indices))} {ranges(indices)}{where}")
    return " and ".join(parts)


def model_name(model: ModelInfo) -> str:
    """What a model is called: a hub id whole, the last part of a path.

    With the part before it where the last says only that it is a model. The demo is called what its
    file is.
    """
    source = model.source
    path = PurePath(source)
    if source == "demo":
        return next((name for name in model.files if name.endswith(".gguf")), source)
    if not path.is_absolute():
        return source
    return "/".join(path.parts[-2:]) if path.name == "model" else (path.name or source)


def headline(card: LayerCard) -> str:
    """The advice of `card` in one sentence."""
    advice = card.advice
    if advice is None:
        return "This card carries no advice."
    if advice.verdict == "flat":
        return "No block stands out: the intervals do not separate any two."
    return f"Adapt {block_text(card, advice.layers)}."


def adapted_rows(card: LayerCard, placement: Placement | None) -> tuple[int, ...]:
    """Rows of the card that `placement` adapts; without one, those that the card advises.

    Raises:
        PlacementError: The placement names a block that the card does not have.
    """
    if placement is None:
        return card.advice.layers if card.advice else ()
    rows = {(layer.stack, layer.index): row for row, layer in enumerate(card.layers)}
    for block in placement.blocks:
        if (block.stack, block.index) not in rows:
            msg = "placement has a block that the card does not"
            raise PlacementError(
                msg,
                value=f"{block.stack}[{block.index}]",
                expected=f"a placement for {shown(card.model.source)}",
            )
    return tuple(sorted(rows[block.stack, block.index] for block in placement.blocks))
