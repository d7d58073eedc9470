"""Tables as text, and their place in a document: what the scripts here share."""

import sys
from collections.abc import Sequence
from pathlib import Path


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def interval(value: float, low: float, high: float) -> str:
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def show(text: str, into: Path | None, *, begin: str, end: str) -> None:
    """Print `text`, or put it between the two comments that mark its place in a document."""
    if into is None:
        print(text)
        return
    before, _, rest = into.read_text(encoding="utf-8").partition(begin)
    _, marked, after = rest.partition(end)
    if not marked:
        sys.exit(f"{into}: {begin} and {end} mark where the tables go; they are not there")
    into.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
