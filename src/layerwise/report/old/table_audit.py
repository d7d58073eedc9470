"""An audit as a part of a profile's table for a terminal."""

from collections.abc import Iterator, Mapping, Sequence

from rich.console import RenderableType
from rich.text import Text

from layerwise.profile.audit_record import Audit, BlockAudit
from layerwise.profile.record import Profile
from layerwise.report.old.columns import number_style
from layerwise.report.old.story import every_block
from layerwise.report.old.story_audit import audit_headline, audit_sentences
from layerwise.report.old.terminal import Room, spark, tabled
from layerwise.report.old.text import shown

__all__ = ["audit_parts"]

#: Blocks that a terminal shows; the page has all.
_ROWS = 10


def audit_parts(profile: Profile, room: Room) -> Iterator[RenderableType]:
    """What the adapter is, a sentence a line, then its blocks; nothing without an audit."""
    audit = profile.audit
    if audit is None:
        return
    yield room.text(audit_headline(audit), style="bold")
    for word, sentence in audit_sentences(audit).items():
        alarming = word == "Dead" and bool(audit.dead)
        line = room.text(f"{word}: ", style="bold yellow" if alarming else "bold")
        yield line.append_text(room.text(sentence))
    if audit.blocks:
        yield Text("")
        yield from _lines(audit, room)
        yield from (Text(""), _blocks(profile, audit, room))
    for note in audit.notes:
        yield room.text(f"- note: {shown(note, limit=600)}", style="dim")
    yield Text("")


def _lines(audit: Audit, room: Room) -> Iterator[RenderableType]:
    """Size and effect of every adapted block, a line each, from 0 to the largest."""
    shares = {
        "weights %": [b.relative_norm for b in audit.blocks],
        "outputs %": [b.output_change for b in audit.blocks],
    }
    for title, found in shares.items():
        values = [100.0 * share for share in found if share is not None]
        if len(values) == len(found):
            yield spark(title, values, room, most=max(values))


def _blocks(profile: Profile, audit: Audit, room: Room) -> RenderableType:
    """A line a block, as many as fit, evenly over depth."""
    blocks = _evenly(audit.blocks)
    several = len({b.stack for b in audit.blocks}) > 1
    numbers = _numbers(profile, blocks)
    many = 4 if room.width >= 76 else 2 if room.width >= 48 else 0
    kept = {title: numbers[title] for title in list(numbers)[:many]}
    styles = {title: number_style(values) for title, values in kept.items()}
    counts = _counts(audit, blocks, brief=room.width < 60)
    rows = [
        [
            _name(block, several=several),
            *(cells[row] for cells in counts.values()),
            *(styles[title].text(values[row]) for title, values in kept.items()),
            "●" if block.carded else "",
        ]
        for row, block in enumerate(blocks)
    ]
    titled = [f"{title}\n{styles[title].suffix}".strip() for title in kept]
    last = "" if audit.card is None else "card"
    return tabled(["block", *counts, *titled, last], rows, room)


def _numbers(
    profile: Profile, blocks: Sequence[BlockAudit]
) -> Mapping[str, Sequence[float | None]]:
    """What is measured of `blocks`, by heading, the most telling first."""
    moved = {b.index: b.procrustes for b in every_block(profile)}
    return {
        "weights %": [_hundred(b.relative_norm) for b in blocks],
        "outputs %": [_hundred(b.output_change) for b in blocks],
        "of largest": [b.dominance for b in blocks],
        "moved": [moved.get(b.index) if b.stack == profile.stack else None for b in blocks],
    }


def _counts(
    audit: Audit, blocks: Sequence[BlockAudit], *, brief: bool
) -> Mapping[str, Sequence[str]]:
    """What is counted of `blocks`, by heading."""
    whole = {} if brief else {"modules": [str(b.modules) for b in blocks]}
    dead = {"dead": [str(b.dead) for b in blocks]} if audit.dead else {}
    used = {"rank used": [f"{b.energy_rank_90} of {b.rank}" for b in blocks]}
    return {**whole, **dead, **used}


def _hundred(share: float | None) -> float | None:
    return None if share is None else 100.0 * share


def _evenly(blocks: Sequence[BlockAudit]) -> Sequence[BlockAudit]:
    """`blocks`, or `_ROWS` of them from the first to the last."""
    last = len(blocks) - 1
    if last < _ROWS:
        return blocks
    return [blocks[round(n * last / (_ROWS - 1))] for n in range(_ROWS)]


def _name(block: BlockAudit, *, several: bool) -> str:
    return f"{shown(block.stack, limit=20)} {block.index}" if several else str(block.index)
