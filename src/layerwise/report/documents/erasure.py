"""What erasing a concept does at each depth."""

from dataclasses import asdict

from layerwise.probing.columns import ERASED
from layerwise.probing.record import Erasure
from layerwise.report import blocks as b
from layerwise.report.documents import parts
from layerwise.report.documents.probing import text_size
from layerwise.report.numbers import counted, percent

_EFFECT = (
    "Share of the distance within pairs that erasing takes away, on pairs that the eraser was not "
    "fitted on. Bands: 95 % over pairs, and over random directions."
)


def document(erasure: Erasure) -> b.Document:
    """Return a line a depth, and where erasing tells most beyond a random direction."""
    how = erasure.settings
    folds = f"{how.folds} folds, {how.draws} random directions in each"
    about = f"{counted(erasure.pairs, 'pair')}, {folds}, readout {erasure.readout}"
    sure = frozenset(n for n, depth in enumerate(erasure.depths) if depth.margin_low > 0.0)
    rows = [asdict(depth) | parts.spot(depth.index) for depth in erasure.depths]
    columns = {column.key: column for column in ERASED}
    series = {"the concept": columns["effect"], "a random direction": columns["control"]}
    blocks: list[b.Block] = [
        b.Verdict(_most(erasure, len(sure))),
        b.Heading("Effect by depth"),
        parts.side_by_side("effect", series, rows, title="Effect of erasing", scale="zero",
                           rules=[b.Rule(0.0)], caption=_EFFECT, width="wide"),
        table := b.Table("depths", ERASED, rows, sure, "surely beyond the control", bar="effect"),
        *parts.glossary(table),
        *parts.ending(
            erasure,
            "How this was measured",
            ("Pairs", f"{erasure.pairs:,} in {counted(erasure.groups, 'set')} that share no text"),
            ("Texts", text_size(erasure.data)),
            ("Stack", erasure.stack),
            ("Eraser", erasure.eraser),
        ),
    ]  # fmt: skip
    subtitle = parts.on_data(erasure.data, about)
    return b.Document("Erasure by depth", parts.model_name(erasure.model), subtitle, blocks)


def _most(erasure: Erasure, sure: int) -> str:
    """Return where erasing tells most beyond the control, in a sentence."""
    best = max(erasure.depths, key=lambda depth: depth.margin)
    if best.margin_low <= 0.0:
        return "At no depth does erasing the concept tell more than erasing a random direction."
    effect, control = (percent(value, digits=1) for value in (best.effect, best.control))
    return (
        f"Erasing the concept tells most at block {best.index}: pairs move together by "
        f"{effect}, by {control} under a random direction; surely more "
        f"at {sure} of {len(erasure.depths)} depths."
    )
