"""What erasing a concept does at each depth."""

from dataclasses import asdict

from layerwise.probing.columns import ERASED
from layerwise.probing.record import Erasure
from layerwise.report.blocks import Axis, Block, Chart, Document, Heading, Rule, Table, Verdict
from layerwise.report.documents.parts import ending, glossary, model_name
from layerwise.report.documents.probing import text_size
from layerwise.report.numbers import counted, percent
from layerwise.report.words import shown

__all__ = ["document"]


def document(erasure: Erasure) -> Document:
    """Return a line a depth, and where erasing tells most beyond a random direction."""
    how = erasure.settings
    folds = f"{how.folds} folds, {how.draws} random directions in each"
    about = f"{counted(erasure.pairs, 'pair')}, {folds}, readout {erasure.readout}"
    sure = frozenset(n for n, depth in enumerate(erasure.depths) if depth.margin_low > 0.0)
    rows = [asdict(depth) for depth in erasure.depths]
    blocks: list[Block] = [
        Verdict(_most(erasure)),
        Heading("Effect by depth"),
        _chart(erasure),
        Table("depths", ERASED, rows, marked=sure, mark="surely beyond the control", bar="effect"),
        *glossary(ERASED),
        *ending(
            erasure,
            "How this was measured",
            ("Pairs", f"{erasure.pairs:,} in {counted(erasure.groups, 'set')} that share no text"),
            ("Texts", text_size(erasure.data)),
            ("Stack", erasure.stack),
            ("Eraser", erasure.eraser),
        ),
    ]
    subtitle = f"on {shown(erasure.data.source, limit=100)} ({about})"
    return Document("Erasure by depth", model_name(erasure.model), subtitle, blocks)


def _most(erasure: Erasure) -> str:
    """Return where erasing tells most beyond the control, in a sentence."""
    best = max(erasure.depths, key=lambda depth: depth.margin)
    if best.margin_low <= 0.0:
        return "At no depth does erasing the concept tell more than erasing a random direction."
    sure = sum(depth.margin_low > 0.0 for depth in erasure.depths)
    effect, control = (percent(value, digits=1) for value in (best.effect, best.control))
    return (
        f"Erasing the concept tells most at block {best.index}: pairs move together by "
        f"{effect}, by {control} under a random direction; surely more "
        f"at {sure} of {len(erasure.depths)} depths."
    )


def _chart(erasure: Erasure) -> Chart:
    names = {"effect": "the concept", "control": "a random direction"}
    rows = [
        {"x": row["index"], "index": row["index"], "head": f"block {row['index']} · {name}"}
        | {"share": row[key], "low": row[f"{key}_low"], "high": row[f"{key}_high"]}
        | {"erased": name, "tip": percent(row[key], digits=1)}
        for row in map(asdict, erasure.depths)
        for key, name in names.items()
    ]
    return Chart(
        "effect",
        "Effect of erasing",
        "blocks",
        rows,
        Axis("x"),
        Axis("share", form="percent", scale="zero"),
        series="erased",
        names=list(names.values()),
        low="low",
        high="high",
        tips={"tip": "Effect"},
        rules=[Rule(0.0)],
        caption="Share of the distance within pairs that erasing takes away, on pairs that the "
        "eraser was not fitted on. Bands: 95 % over pairs, and over random directions.",
        width="wide",
    )
