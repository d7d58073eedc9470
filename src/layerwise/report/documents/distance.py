"""Objective distances: which objectives pull a model where the reference does, and which not."""

from collections.abc import Sequence
from dataclasses import asdict

from layerwise.columns import Column
from layerwise.distance.columns import DISTANCES, GRADIENTS
from layerwise.distance.record import Distance, ObjectiveDistance
from layerwise.report import blocks as b
from layerwise.report.documents import parts
from layerwise.report.numbers import number

_TIPS = (DISTANCES[1], Column("half", "Half", form="text"))


def document(distance: Distance) -> b.Document:
    """Return how far each objective lies from the reference, nearest first, and how surely."""
    found = sorted(distance.objectives, key=lambda objective: objective.procrustes)
    rows = [asdict(objective) for objective in found]
    reference = frozenset(n for n, o in enumerate(found) if o.name == distance.reference)
    about = f"{distance.data.examples:,} examples, gradients of {distance.settings.width:,}"
    blocks: list[b.Block] = [
        _verdict(distance, found),
        b.Heading("Distances"),
        _chart(distance, found),
        far := b.Table("distances", DISTANCES, rows, reference, "the reference", bar="procrustes"),
        b.Heading("The gradients"),
        size := b.Table("gradients", GRADIENTS, rows, reference, "the reference"),
        *parts.glossary(far, size),
        *parts.ending(distance, "How this was measured"),
    ]
    subtitle = f"from {distance.reference} {parts.on_data(distance.data, about)}"
    return b.Document("Objective distances", parts.model_name(distance.model), subtitle, blocks)


def _verdict(distance: Distance, found: Sequence[ObjectiveDistance]) -> b.Verdict:
    """Return which objective is nearest and which farthest, and how surely they are ranked."""
    others = [objective for objective in found if objective.name != distance.reference]
    text = f"Nothing but {distance.reference} itself was compared."
    if others:
        near, far = (f"{o.name} ({number(o.procrustes)})" for o in (others[0], others[-1]))
        text = f"Procrustes distance from {distance.reference}: {near}."
        if len(others) > 1:
            text = f"Nearest to {distance.reference} is {near}, farthest {far}, by Procrustes."
    ranked = "Too few objectives to rank them by each half of the examples."
    if distance.agreement:
        names = {"procrustes": "Procrustes", "cosine": "cosine"}
        told = ", ".join(f"{distance.agreement[k]:.2f} by {name}" for k, name in names.items())
        ranked = f"Agreement of both halves of the examples in ranking them: Spearman {told}."
    return b.Verdict(text, [ranked])


def _chart(distance: Distance, found: Sequence[ObjectiveDistance]) -> b.Chart:
    rows = [{"name": o.name, "head": o.name, "procrustes": o.procrustes} for o in found]
    halves = [
        {"name": o.name, "head": o.name, "procrustes": half.procrustes, "half": place}
        for o in found
        for half, place in zip(o.halves, ("first", "second"), strict=False)
    ]
    return b.Chart(
        "distances", "Procrustes distance", "intervals", rows, b.Axis("procrustes", scale="zero"),
        b.Axis("name"), faint=halves, tips=_TIPS,
        caption=f"From {distance.reference}. Points: all examples. Ticks: each half of them.",
        width="wide",
    )  # fmt: skip
