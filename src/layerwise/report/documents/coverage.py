"""Coverage: which target of which block got an adapter."""

from layerwise.placement.record import Coverage
from layerwise.report.blocks import Document, Figure, Figures, Heading, Strip, Tone, Verdict
from layerwise.report.numbers import counted
from layerwise.report.words import shown

__all__ = ["document"]


def document(coverage: Coverage) -> Document:
    """Return a strip a target and stack, and how many modules were adapted as meant."""
    stacks: dict[str, list[int]] = {}
    for row, block in enumerate(coverage.blocks):
        stacks.setdefault(block.stack, []).append(row)
    strips = [
        Strip(
            shown(target, limit=40) + (f" ({shown(stack, limit=40)})" if len(stacks) > 1 else ""),
            [coverage.blocks[row].index for row in rows],
            on=frozenset(coverage.blocks[row].index for row in rows if coverage.matrix[row][n]),
            about=f"of {counted(len(rows), 'block')}",
            series=n,
        )
        for stack, rows in stacks.items()
        for n, target in enumerate(coverage.targets)
    ]
    done = coverage.verified
    parameters = f"{coverage.adapter_parameters:,} trainable parameters."
    told = f"{done.matched:,} of {done.expected:,} modules adapted as meant"
    text = f"{told}, {parameters}"
    tone: Tone = "plain" if done.matched == done.expected else "warning"
    figures = [
        Figure("Modules", f"{done.matched:,} of {done.expected:,}", "adapted as meant"),
        Figure("Trainable", f"{coverage.adapter_parameters:,}", "parameters"),
    ]
    about = ", ".join(shown(stack, limit=60) for stack in stacks)
    return Document(
        "Coverage",
        about,
        counted(len(coverage.blocks), "block"),
        [
            Verdict(text, tone=tone),
            Heading("Key figures", detail=True),
            Figures(figures),
            Heading("Adapters by block"),
            *strips,
        ],
    )
