"""An audit as a part of a profile's page."""

from collections.abc import Mapping, Sequence
from typing import Any

from layerwise.profile.audit_record import Audit, ModuleAudit
from layerwise.profile.record import Profile
from layerwise.report.old.columns import NumberStyle, number_style
from layerwise.report.old.page import Grid
from layerwise.report.old.story import every_block, number, percent
from layerwise.report.old.story_audit import audit_headline, audit_sentences, part, rank_text
from layerwise.report.old.text import shown, stack_labels

__all__ = ["AUDIT_CAPTIONS", "audit_context"]

_SIZE = (
    "Norm of the update over that of the weights, as the files alone would tell, and root mean "
    "square of what the adapters add to their modules' outputs over those outputs."
)
_RANK = "Low: a smaller rank would have done. In the second colour: blocks of the card."
AUDIT_CAPTIONS = {"audit-size": ("", _SIZE), "audit-rank": ("", _RANK)}
"""For each chart what it shows in words, and how to read it."""

_READS = (
    "Weights and outputs: shares that the update is of the adapted weights (Frobenius norms), and "
    "of the outputs on the probes. Of largest: the largest singular value of an update over that "
    "of its weight. Moved: Procrustes distance of the block's output."
)
_SPECTRUM = {
    "stable_rank": "Stable rank",
    "effective_rank": "Effective rank",
    "energy_rank_90": "Holds 90 %",
    "energy_rank_95": "Holds 95 %",
    "energy_rank_99": "Holds 99 %",
    "spectral_norm": "Spectral norm",
    "frobenius_norm": "Frobenius norm",
}
_AGAINST = {
    "dominance": "Of largest",
    "relative_norm": "Of weights",
    "whole_relative_norm": "With magnitudes",
    "output_change": "Of outputs",
}


def audit_context(profile: Profile) -> dict[str, Any] | None:
    """What the page's template is told of the adapter; None without an audit."""
    audit = profile.audit
    if audit is None:
        return None
    return {
        "headline": audit_headline(audit),
        "sentences": list(audit_sentences(audit).items()),
        "facts": _facts(audit),
        "notes": [shown(note, limit=600) for note in audit.notes],
        "reads": _READS,
        "blocks": _blocks(profile, audit),
        "modules": _modules(audit),
    }


def _facts(audit: Audit) -> list[tuple[str, str, str]]:
    """Key figures: label, number, what it says."""
    dead = f"{len(audit.dead)} of {len(audit.modules)}"
    size = "–" if audit.relative_norm is None else part(audit.relative_norm)
    return [
        ("Dead adapters", dead, "change nothing"),
        (
            "Rank that would do",
            str(audit.enough_rank),
            f"for nine in ten; there is {rank_text(audit)}",
        ),
        ("Stable rank", number(audit.stable_rank), "median of the live modules"),
        ("Effective rank", number(audit.effective_rank), "median of the live modules"),
        ("Wasted", percent(audit.wasted_share), "of the parameters: dead, or the last 1 %"),
        ("Size", size, "of the weights, by Frobenius norm"),
    ]


def _blocks(profile: Profile, audit: Audit) -> Grid:
    """Every block that has an adapter; those of the card are marked."""
    labels, blocks = stack_labels(profile.before), audit.blocks
    moved = {b.index: b.procrustes for b in every_block(profile)}
    numbers: dict[str, Sequence[float | None]] = {
        "Of weights": [b.relative_norm for b in blocks],
        "Of outputs": [b.output_change for b in blocks],
        "Of largest": [b.dominance for b in blocks],
        "Moved": [moved.get(b.index) if b.stack == profile.stack else None for b in blocks],
        "Wasted": [b.wasted_share for b in blocks],
        "Frobenius norm": [b.frobenius_norm for b in blocks],
    }
    styles = {title: number_style(values) for title, values in numbers.items()}
    rows = []
    for row, block in enumerate(blocks):
        stack = f"{labels[block.stack]} " if len(labels) > 1 else ""
        counts = [str(block.modules), str(block.dead), f"{block.energy_rank_90} of {block.rank}"]
        cells = [styles[title].text(values[row]) for title, values in numbers.items()]
        rows.append((f"{stack}{block.index}", bool(block.carded), [*counts, *cells]))
    counted = [("Adapters", ""), ("Dead", ""), ("Rank used", "90 %")]
    return Grid("audit-blocks", "Block", [*counted, *_titles(styles)], rows)


def _titles(styles: Mapping[str, NumberStyle]) -> list[tuple[str, str]]:
    return [(title, style.suffix) for title, style in styles.items()]


def _modules(audit: Audit) -> Grid:
    """Every module that was read."""
    columns = {
        title: [getattr(m.update, key) for m in audit.modules] for key, title in _SPECTRUM.items()
    }
    against = {title: [getattr(m, key) for m in audit.modules] for key, title in _AGAINST.items()}
    numbers = columns | {
        t: found for t, found in against.items() if any(v is not None for v in found)
    }
    styles = {title: number_style(values) for title, values in numbers.items()}
    rows = [
        (
            _name(module),
            module.dead,
            [str(module.rank), *(styles[t].text(v[row]) for t, v in numbers.items())],
        )
        for row, module in enumerate(audit.modules)
    ]
    return Grid("audit-modules", "Module", [("Rank", ""), *_titles(styles)], rows)


def _name(module: ModuleAudit) -> str:
    dead = " (dead)" if module.dead else ""
    return f"{shown(module.name, limit=120)}{dead}"
