"""Objective distances: which objectives pull a model where the reference does, and which not."""

from collections.abc import Sequence
from dataclasses import asdict

from layerwise.distance.columns import DISTANCES, GRADIENTS
from layerwise.distance.record import Distance, ObjectiveDistance
from layerwise.report.blocks import Axis, Block, Chart, Document, Heading, Table, Verdict
from layerwise.report.documents.parts import ending, glossary, model_name
from layerwise.report.numbers import number
from layerwise.report.words import shown

__all__ = ["document"]


def document(distance: Distance) -> Document:
    """Return how far each objective lies from the reference, nearest first, and how surely."""
    found = sorted(distance.objectives, key=lambda objective: objective.procrustes)
    rows = [asdict(objective) for objective in found]
    reference = frozenset(n for n, o in enumerate(found) if o.name == distance.reference)
    about = f"{distance.data.examples:,} examples, gradients of {distance.settings.width:,}"
    blocks: list[Block] = [
        _verdict(distance, found),
        Heading("Distances"),
        _chart(distance, found),
        Table("distances", DISTANCES, rows, reference, "the reference", bar="procrustes"),
        Heading("The gradients"),
        Table("gradients", GRADIENTS, rows, reference, "the reference"),
        *glossary([*DISTANCES, *GRADIENTS]),
        *ending(distance, "How this was measured"),
    ]
    return Document(
        "Objective distances",
        model_name(distance.model),
        f"from {distance.reference} on {shown(distance.data.source, limit=100)} ({about})",
        blocks,
    )


def _verdict(distance: Distance, found: Sequence[ObjectiveDistance]) -> Verdict:
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
    return Verdict(text, [ranked])


def _chart(distance: Distance, found: Sequence[ObjectiveDistance]) -> Chart:
    return Chart(
        "distances",
        "Procrustes distance",
        "intervals",
        [
            {
                "name": o.name,
                "head": o.name,
                "procrustes": o.procrustes,
                "at": f"{o.procrustes:.4f}",
            }
            for o in found
        ],
        Axis("procrustes", scale="zero"),
        Axis("name"),
        tips={"at": "Procrustes", "half": "Half"},
        faint=[
            {"name": o.name, "head": o.name, "procrustes": half.procrustes}
            | {"at": f"{half.procrustes:.4f}", "half": place}
            for o in found
            for half, place in zip(o.halves, ("first", "second"), strict=False)
        ],
        caption=f"From {distance.reference}. Points: all examples. Ticks: each half of them.",
        width="wide",
    )
