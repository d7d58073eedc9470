"""How far a study is."""

from layerwise.report import blocks as b
from layerwise.report.numbers import counted
from layerwise.report.words import shown
from layerwise.study.status import Status

_SHOWN = 20
_STATES = ("done", "running", "waiting", "lost", "blocked")


def document(status: Status) -> b.Document:
    """Return what has become of the runs, the time left, and why those that failed did."""
    left = status.seconds_left if status.done < status.total else None
    figures = [(name.capitalize(), f"{getattr(status, name):,}", "") for name in _STATES]
    figures += [("Failed", f"{n:,}", shown(kind)) for kind, n in status.failed.items()]
    failures = [
        (shown(f.run), shown(f"{f.kind} in {f.where}: {f.message}", limit=400))
        for f in status.failures[:_SHOWN]
    ]
    more = len(status.failures) - _SHOWN
    failed: list[b.Block] = [b.Heading("What failed"), b.Facts(failures)] if failures else []
    failed += [b.Text(f"And {more:,} more.")] if more > 0 else []
    blocks: list[b.Block] = [
        b.Verdict(f"{state_counts(status)}.", [f"About {duration(left)} left."] if left else []),
        b.Heading("Runs by state", detail=True),
        b.Figures(figures),
        *failed,
    ]
    return b.Document("Study", shown(status.name, limit=160), counted(status.total, "run"), blocks)


def state_counts(status: Status) -> str:
    """Return what has become of how many runs, in a line."""
    parts = [f"{status.done:,} of {status.total:,} runs done"]
    counts = [(name, getattr(status, name)) for name in _STATES[1:]]
    parts += [f"{number:,} {name}" for name, number in counts if number]
    parts += [f"{number:,} failed ({kind})" for kind, number in status.failed.items()]
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Return a duration as people say it."""
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} s"
