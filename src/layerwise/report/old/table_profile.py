"""A profile as a table for a terminal."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from layerwise.profile.record import Profile
from layerwise.report.old.columns import number_style
from layerwise.report.old.story import (
    every_block,
    number,
    percent,
    profile_headline,
    profile_reasons,
    profile_title,
    readouts,
    slope_text,
)
from layerwise.report.old.table_audit import audit_parts
from layerwise.report.old.terminal import Room, Sized, bars, spark, tabled
from layerwise.report.old.text import counted, shown

__all__ = ["profile_table", "warnings"]

_CHANGES = {
    "procrustes": "Procrustes",
    "noise": "noise",
    "cka": "CKA",
    "rsa": "RSA",
    "shared_pca_cka": "shared PCA",
}
_NAMED = 8


def profile_table(profile: Profile, *, width: int | None = None) -> RenderableType:
    """The table of `profile` for `rich`: the seven depths, every block in a line, then the words.

    Where there is an adapter that was audited, what it is stands before.

    Args:
        profile: What is shown.
        width: Characters a line, where fewer than the console's are wanted.
    """
    return Sized(lambda room: _profile(profile, room), width)


def _profile(profile: Profile, room: Room) -> Iterator[RenderableType]:
    probes = profile.probes
    yield room.text(f"Depth profile of {profile_title(profile)}", style="bold")
    about = f"{probes.inputs:,} probes, {probes.tokens:,} tokens, readout {profile.readout}"
    yield room.text(f"on {shown(probes.source, limit=100)} ({about})", style="dim")
    yield Text("")
    yield from audit_parts(profile, room)
    yield from (_depths(profile, room), Text(""))
    changes = [block.procrustes for block in every_block(profile)]
    yield spark("every block", changes, room, most=max(changes))
    if len(profile.readouts) > 1:
        yield from (Text(""), _readouts(profile, room))
    yield Text("")
    yield room.text(profile_headline(profile), style="bold")
    for reason in profile_reasons(profile):
        yield room.text(reason)
    yield from warnings(profile.untrained_modules, profile.notes, room)


def _depths(profile: Profile, room: Room) -> RenderableType:
    """A line a depth."""
    depths = profile.depths
    kept = list(_CHANGES)[: 5 if room.width >= 72 else 3 if room.width >= 46 else 1]
    values = {key: [getattr(depth, key) for depth in depths] for key in kept}
    styles = {key: number_style(found) for key, found in values.items()}
    headings = ["depth", "block", *(_heading(_CHANGES[k], styles[k].suffix) for k in kept)]
    drawn = bars([depth.procrustes for depth in depths], 10, room)
    rows: list[list[str | Text]] = [
        [
            percent(depth.relative).rjust(5),
            str(depth.index),
            *(styles[key].text(values[key][row]) for key in kept),
            drawn[row],
        ]
        for row, depth in enumerate(depths)
    ]
    return tabled([*headings, ""], rows, room, left=len(headings))


def _heading(title: str, suffix: str) -> str:
    return f"{title}\n{suffix}" if suffix else title


def _readouts(profile: Profile, room: Room) -> RenderableType:
    rows = [
        [
            name,
            slope_text(found),
            *([number(found.cka_slope), number(found.rsa_slope)] if room.width >= 60 else []),
            percent(found.width[-1]) if found.width else "–",
        ]
        for name, found in readouts(profile).items()
    ]
    more = ["CKA slope", "RSA slope"] if room.width >= 60 else []
    return tabled(["readout", "slope (95 % interval)", *more, "last share"], rows, room)


def warnings(
    untrained: tuple[str, ...], notes: tuple[str, ...], room: Room
) -> Iterator[RenderableType]:
    """What a reader must not miss, and what was done otherwise than asked."""
    if untrained:
        modules = counted(len(untrained), "module")
        names = ", ".join(shown(name, limit=80) for name in untrained[:_NAMED])
        more = f" and {len(untrained) - _NAMED} more" if len(untrained) > _NAMED else ""
        told = f"{modules} never trained (adapter B all zero): {names}{more}"
        yield room.text(told, style="bold yellow")
    for note in notes:
        yield room.text(f"- note: {shown(note, limit=600)}", style="dim")
