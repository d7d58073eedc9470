"""Coverage: which target of which block got an adapter."""

from layerwise.placement.record import Coverage
from layerwise.report import blocks as b
from layerwise.report.numbers import counted
from layerwise.report.words import shown


def document(coverage: Coverage) -> b.Document:
    """Return a strip a target and stack, and how many modules were adapted as meant."""
    stacks: dict[str, list[tuple[int, tuple[bool, ...]]]] = {}
    for block, adapted in zip(coverage.blocks, coverage.matrix, strict=True):
        stacks.setdefault(block.stack, []).append((block.index, adapted))
    strips = [
        b.Strip(
            shown(target, limit=40) + (f" ({shown(stack, limit=40)})" if len(stacks) > 1 else ""),
            [index for index, _ in rows],
            on=frozenset(index for index, adapted in rows if adapted[n]),
            about=f"of {counted(len(rows), 'block')}",
        )
        for stack, rows in stacks.items()
        for n, target in enumerate(coverage.targets)
    ]
    done, size = coverage.verified, f"{coverage.adapter_parameters:,}"
    told = f"{done.matched:,} of {done.expected:,}"
    text = f"{told} modules adapted as meant, {size} trainable parameters."
    blocks: list[b.Block] = [
        b.Verdict(text, tone="plain" if done.matched == done.expected else "warning"),
        b.Heading("Key figures", detail=True),
        b.Figures([("Modules", told, "adapted as meant"), ("Trainable", size, "parameters")]),
        b.Heading("Adapters by block"),
        *strips,
    ]
    about = ", ".join(shown(stack, limit=60) for stack in stacks)
    return b.Document("Coverage", about, counted(len(coverage.blocks), "block"), blocks)
