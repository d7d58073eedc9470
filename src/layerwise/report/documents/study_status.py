"""How far a study is."""

from layerwise.report import blocks as b
from layerwise.report.documents import parts
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
    failures, more = status.failures[:_SHOWN], len(status.failures) - _SHOWN
    reasons = ((shown(f.run), f"{f.kind} in {f.where}: {f.message}") for f in failures)
    blocks: list[b.Block] = [
        b.Verdict(f"{state_counts(status)}.", [f"About {duration(left)} left."] if left else []),
        b.Heading("Runs by state", detail=True),
        b.Figures(figures),
        *parts.facts_under("What failed", reasons),
        *([b.Text(f"And {more:,} more.")] if more > 0 else []),
    ]
    return b.Document("Study", shown(status.name, limit=160), counted(status.total, "run"), blocks)


def state_counts(status: Status) -> str:
    """Return what has become of how many runs, in a line."""
    counts = {name: getattr(status, name) for name in _STATES[1:]}
    counts |= {f"failed ({kind})": number for kind, number in status.failed.items()}
    others = [f"{number:,} {name}" for name, number in counts.items() if number]
    return ", ".join([f"{status.done:,} of {status.total:,} runs done", *others])


def duration(seconds: float) -> str:
    """Return a duration as people say it."""
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} s"
