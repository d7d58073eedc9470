"""What would be drawn on a terminal, as a string."""

import io

from rich.console import Console, RenderableType

__all__ = ["as_text"]


def as_text(drawn: RenderableType, *, width: int | None = None) -> str:
    """`drawn` without colours, `width` characters a line (default: the terminal's)."""
    console = Console(file=io.StringIO(), width=width, no_color=True, force_terminal=False)
    with console.capture() as said:
        console.print(drawn)
    return "\n".join(line.rstrip() for line in said.get().splitlines())
