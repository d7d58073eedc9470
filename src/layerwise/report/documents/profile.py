"""A depth profile: what moved from one model to another, at which depth, and how surely."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from math import isclose
from statistics import fmean, linear_regression
from typing import Any, get_args

from layerwise.columns import Column
from layerwise.options.groups import Readout
from layerwise.profile.record import DepthChange, Profile, ReadoutProfile, Slope
from layerwise.report import blocks as b
from layerwise.report.documents import parts
from layerwise.report.documents.audit import audit_facts, audit_figures, audit_tables
from layerwise.report.numbers import ends, interval, number, percent
from layerwise.report.words import shown

READOUTS = {
    "hf": "As transformers gives hidden states: in many decoders the last is after the final norm.",
    "residual": "Block outputs at every depth, the last one before the final norm.",
    "normed": "The final norm at every depth.",
}
"""What stands for a block's output."""
READOUTS_DIFFER = "Readouts differ in what stands for a block's output. All are on one scale."

BLOCK = Column("index", "Block", form="count", importance=95)
CHANGES = (
    Column("procrustes", "Procrustes distance", short="Procrustes", importance=90,
           meaning="How far the outputs are apart after the best rotation, from 0 to √2 ≈ 1.41.",
           caution="With fewer probes than dimensions the rotation overfits, and it is too small."),
    Column("noise", "Halves differ by", short="noise", importance=80,
           meaning="By how much the distance differs between two halves of the probes."),
    Column("held_out", "Held-out distance", short="held out", importance=75,
           meaning="Distance on one half of the probes, from 0 to 2, under a rotation of leading "
           "components that was fitted on the other: it does not overfit."),
    Column("unrotated", "Unrotated distance", short="unrotated", importance=55,
           meaning="The distance with no rotation, from 0 to 2."),
    Column("cka", "CKA change", short="CKA", importance=70,
           meaning="1 - linear CKA.", reads="Blind to rotation and scale."),
    Column("rsa", "RSA change", short="RSA", importance=60,
           meaning="1 - Spearman correlation of the two dissimilarity matrices."),
    Column("shared_pca_cka", "Shared-PCA CKA change", short="shared PCA", importance=50,
           meaning="1 - linear CKA in the principal components of both together."),
)  # fmt: skip
"""The ways in which a change is measured."""

_SLOPES = (
    Column("readout", "Readout", form="text"),
    Column("slope", "Slope", low="slope_low", high="slope_high", band="95 % interval",
           importance=90, meaning="Of the Procrustes distance at the seven depths on depth."),
    Column("held_out_slope", "Held-out slope", short="held out", importance=65,
           meaning="The same of the held-out distance."),
    Column("unrotated_slope", "Unrotated slope", short="unrotated", importance=45,
           meaning="The same of the distance without a rotation."),
    Column("cka_slope", "CKA slope", importance=60),
    Column("rsa_slope", "RSA slope", importance=50),
    Column("share", "Last depth's share", short="last share", form="percent", importance=70,
           meaning="Of the CKA change over the seven depths."),
    Column("noise_floor", "Noise floor", importance=40),
)  # fmt: skip
_SHARE = Column("share", "Share", form="percent", digits=1)
_DEPTHS = (Column("relative", "Depth", form="percent"), BLOCK, *CHANGES)
_PROFILE_READS = (
    "Filled points: the seven depths named above. Dashed: their least-squares line, on the fan of "
    "its 95 % interval. Grey: the noise floor."
)
_DISTANCE = (
    "Blocks are counted from 0 at the input. A distance of 0 is no change; the largest possible is "
    "√2 ≈ 1.41."
)
_WIDTH_READS = "Of the CKA change over the seven depths. Dashed: an even profile."


def document(profile: Profile) -> b.Document:
    """Return what moved and where, how it was measured, and what an adapter is."""
    probes, blocks, audit = profile.probes, every_block(profile), profile.audit
    moved = {(profile.stack, block.index): block.procrustes for block in blocks}
    names = [parts.model_name(model, limit=80) for model in (profile.before, profile.after)]
    source = "the package" if probes.source == "probes" else shown(probes.source, limit=100)
    about = f"{len(blocks)} blocks of {shown(profile.stack)} · {probes.inputs:,} probes of "
    wide = f", {probes.width:,} wide" if probes.width else ""
    about += f"{source}, {probes.tokens:,} tokens{wide}, readout "
    told: list[b.Block] = [
        *(audit_facts(audit, profile.before) if audit else ()),
        b.Verdict(_headline(profile), _reasons(profile)),
        *parts.untrained(profile.untrained_modules),
        *(audit_figures(audit, profile.before) if audit else ()),
        b.Heading("Where it moved"),
        b.Strip(
            "every block",
            [block.index for block in blocks],
            values=[block.procrustes for block in blocks],
            most=_most(profile).procrustes,
            about="the stronger the colour, the further its output moved",
        ),
        _figures(profile),
        *_charts(profile),
        b.Heading("The seven depths"),
        b.Table("depths", _DEPTHS, [asdict(d) for d in profile.depths], bar="procrustes"),
        b.Heading("Slopes"),
        _slopes(profile),
        b.Heading("Every block", detail=True),
        _every_block(profile),
        *(audit_tables(audit, profile.before, moved) if audit else ()),
    ]
    told += [
        *parts.glossary(*told),
        b.Heading("Before and after", detail=True),
        parts.model_facts(profile.before, title="Before"),
        parts.model_facts(profile.after, title="After"),
        *parts.noted([*profile.notes, *_same_pca(profile), *(audit.notes if audit else ())]),
        *made_of_probes(
            "How this profile was made",
            profile,
            profile,
            models={"before": profile.before, "after": profile.after},
        ),
    ]  # fmt: skip
    return b.Document("Depth profile", " → ".join(names), about + profile.readout, told)


def readouts(profile: Profile) -> Mapping[str, ReadoutProfile]:
    """Return the readouts of `profile` that there can be, in one order."""
    return {n: profile.readouts[n] for n in get_args(Readout) if n in profile.readouts}


def every_block(profile: Profile | ReadoutProfile) -> tuple[DepthChange, ...]:
    """Return every block of a profile; its seven depths where that is all it has."""
    return profile.blocks or profile.depths


def _most(profile: Profile) -> DepthChange:
    return max(every_block(profile), key=lambda block: block.procrustes)


def _headline(profile: Profile) -> str:
    """Return what moved, in one sentence."""
    if not profile.width:
        return "Nothing moved: the representations before and after are the same at every depth."
    most = _most(profile)
    if most.procrustes <= profile.noise_floor:
        return "Nothing moved beyond the noise of the probes."
    told = f"block {most.index} moved most"
    if _slope_below(profile) is not None:
        return f"Change rises at the last depth alone: {told}."
    return f"Change {direction(profile.slope_low, profile.slope_high)} over depth: {told}."


def direction(low: float, high: float) -> str:
    """Return whether the interval of a slope lies above 0, below 0, or holds it."""
    return "rises" if low > 0 else "falls" if high < 0 else "has no clear direction"


def _slope_below(profile: Profile) -> float | None:
    """Return the slope without the last depth, where the rise is that depth's alone."""
    below = profile.depths[:-1]
    if profile.slope_low <= 0 or len({depth.relative for depth in below}) < 2:
        return None
    relative = [depth.relative for depth in below]
    slope = linear_regression(relative, [depth.procrustes for depth in below]).slope
    return slope if slope <= 0 else None


def _reasons(profile: Profile) -> list[str]:
    """Return the figures behind the headline, a sentence each."""
    if not profile.width:
        return []
    most, floor, alone = _most(profile), profile.noise_floor, _slope_below(profile)
    far = f"The Procrustes distance reaches {number(most.procrustes)} at block {most.index}"
    if floor > 0:
        times = most.procrustes / floor
        times_told = f"{times:,.0f}" if times >= 10 else f"{times:.1f}"
        far += f", {times_told} times the noise floor of {number(floor)}."
    else:
        far += "; halves of the probes agree on every distance."
    steep = (
        f"The slope over relative depth is {_slope(profile)}, and the last depth holds "
        f"{percent(profile.width[-1])} of the CKA change over the seven depths, where an even "
        f"profile would hold {percent(1 / len(profile.width))}."
    )
    steep += "" if alone is None else f" Without the last depth the slope is {number(alone)}."
    return [far, steep, *_held_out(profile), *_agreement(profile)]


def _held_out(profile: Profile) -> Iterator[str]:
    """Yield the slopes under which no rotation overfits, and why they are told."""
    rows, width = profile.probes.inputs, profile.probes.width or 0
    if rows < width:
        few = f"{rows:,} probes are fewer than the {width:,} dimensions"
        yield f"{few}: the rotation overfits, and the slope depends on how many there are."
    if profile.held_out_slope is not None:
        slopes = map(number, (profile.held_out_slope, profile.unrotated_slope))
        yield "Held out, the slope is {}; without a rotation {}.".format(*slopes)


def _same_pca(profile: Profile) -> Iterator[str]:
    """Yield that the shared PCA tells nothing of its own, where it left nothing out."""
    pairs = [(block.cka, block.shared_pca_cka) for block in every_block(profile)]
    if any(pair != (0.0, 0.0) for pair in pairs) and all(
        isclose(cka, shared, rel_tol=1e-3, abs_tol=1e-12) for cka, shared in pairs
    ):
        probes = profile.probes
        kept = min(probes.pca_components, probes.inputs - 1, probes.width or probes.inputs)
        yield (
            f"Shared-PCA CKA is CKA again at every block: its PCA keeps {kept:,} components of the "
            f"states of {probes.inputs:,} probes and leaves next to nothing out. Fewer "
            "--pca-components may tell the two apart."
        )


def _slope(found: Profile | ReadoutProfile) -> str:
    return interval(found.slope, found.slope_low, found.slope_high)


def _agreement(profile: Profile) -> Iterator[str]:
    """Yield whether the shape is there under each readout, or only under some."""
    ways = {n: direction(r.slope_low, r.slope_high) for n, r in readouts(profile).items()}
    if len(set(ways.values())) > 1:
        which = ", ".join(f"it {way} under {name}" for name, way in ways.items())
        why = "They differ in what they do about the final norm: part of the shape is that norm's."
        yield f"The readouts disagree: {which}. {why}"
    elif len(ways) > 1:
        slopes = ", ".join(f"{n} {number(r.slope)}" for n, r in readouts(profile).items())
        yield f"The readouts agree on the direction: slopes {slopes}."


def _figures(profile: Profile) -> b.Figures:
    most, between = _most(profile), ends(profile.slope_low, profile.slope_high)
    where = f"at block {most.index}" if profile.width else "at every block"
    share = percent(profile.width[-1] if profile.width else None)
    return b.Figures([
        ("Slope", number(profile.slope), f"95 % interval {between}, over relative depth"),
        ("Largest change", number(most.procrustes), f"Procrustes distance, {where}"),
        ("Last depth's share", share, "of the CKA change over the seven depths"),
        ("Noise floor", number(profile.noise_floor), "by which halves of the probes differ"),
        ("CKA slope", number(profile.cka_slope), "of 1 - CKA"),
        ("RSA slope", number(profile.rsa_slope), "of 1 - RSA"),
    ])  # fmt: skip


def _slopes(profile: Profile) -> b.Table:
    found = readouts(profile)
    rows = [
        {**vars(r), "readout": name, "share": r.width[-1] if r.width else None}
        for name, r in found.items()
    ]
    marked = frozenset(n for n, name in enumerate(found) if name == profile.readout)
    return b.Table("slopes", _SLOPES, rows, marked=marked, mark="the readout of this profile")


def _every_block(profile: Profile) -> b.Table:
    """Return all changes under the profile's readout, Procrustes under the others."""
    others = {name: r for name, r in readouts(profile).items() if name != profile.readout}
    more = [Column(f"under_{n}", f"Procrustes distance, {n}") for n in others]
    by_index = {
        n: {block.index: block.procrustes for block in every_block(r)} for n, r in others.items()
    }
    names = depth_names(profile)
    rows = [
        {**asdict(block), "depth": names.get(block.index, "")}
        | {f"under_{n}": found.get(block.index) for n, found in by_index.items()}
        for block in every_block(profile)
    ]
    marked = frozenset(n for n, row in enumerate(rows) if row["depth"])
    columns = [BLOCK, Column("depth", "Depth", form="text"), *CHANGES, *more]
    return b.Table("blocks", columns, rows, marked=marked, mark="one of the seven depths")


def made_of_probes(
    heading: str,
    record: Any,
    profile: Profile,
    *pairs: tuple[str, object],
    models: Mapping[str, Any],
) -> Iterator[b.Block]:
    """Yield how `record` was made of a `profile`: what the `models` were shown, their files."""
    probes = profile.probes
    sizes = f"{probes.inputs:,} inputs, {probes.tokens:,} tokens, {probes.max_length} at most"
    told = [
        *pairs,
        ("Probes", probes.source),
        ("Probes SHA-256", probes.sha256),
        ("Shown", sizes),
        ("Bootstrap", f"{probes.bootstrap} resamples"),
        ("Shared PCA", f"{probes.pca_components} components"),
        ("Seed", probes.seed),
        ("Readout", profile.readout),
    ]
    files = {f"{side}: {name}": h for side, m in models.items() for name, h in m.files.items()}
    return parts.made(heading, record.provenance, told, files=files)


def _charts(profile: Profile) -> Iterator[b.Block]:
    rows, found, floor = _rows(profile), readouts(profile), profile.noise_floor
    yield b.Heading("The profile over depth", detail=True)
    yield b.Text(_DISTANCE, quiet=True)
    yield change_chart(
        "depth-profile", f"Procrustes distance by block (readout {profile.readout})", rows,
        tips=CHANGES[:2], lines=_line(profile), top=depth_names(profile), caption=_PROFILE_READS,
        width="wide", summary=" ".join([_headline(profile), *_reasons(profile)[:2]]), height=260,
        rules=[b.Rule(floor, band=True)] if floor > 0 else [],
    )  # fmt: skip
    if len(found) > 1:
        yield b.Heading("The same under each readout", detail=True)
        yield b.Text(READOUTS_DIFFER, quiet=True)
        top = max(block.procrustes for r in found.values() for block in every_block(r))
        for name, readout in found.items():
            yield change_chart(
                f"readout-{name}", f"{name}: slope {number(readout.slope)}", _rows(readout),
                most=top, lines=_line(readout), tips=CHANGES[:2], width="third", height=150,
                caption=f"Slope {_slope(readout)}. {READOUTS[name]}",
            )  # fmt: skip
    yield b.Heading("The same by other measures", detail=True)
    for column in (c for c in CHANGES[2:] if any(row[c.key] is not None for row in rows)):
        yield change_chart(
            column.key.replace("_", "-"), column.title, rows, column=column,
            caption=column.explained, width="third", height=150,
        )  # fmt: skip
    shares = [
        {"depth": percent(depth.relative), "share": share}
        | {"head": f"depth {percent(depth.relative)} · block {depth.index}"}
        for depth, share in zip(profile.depths, profile.width, strict=False)
    ]
    if shares:
        yield b.Heading("How the change spreads", detail=True)
        yield b.Chart(
            "width", "Width: share of the CKA change", "bars", shares,
            b.Axis("depth", title="Relative depth"), b.Axis("share", form="percent", scale="zero"),
            tips=[_SHARE], rules=[b.Rule(1 / len(shares))], caption=_WIDTH_READS, height=150,
        )  # fmt: skip


def change_chart(
    name: str, title: str, rows: Sequence[Mapping[str, Any]], *, column: Column = CHANGES[0],
    **look: Any,
) -> b.Chart:  # fmt: skip
    """Return a chart of a change over blocks, from 0, the seven depths filled."""
    return parts.by_block(name, column, rows, title=title, scale="zero", filled="marked", **look)


def _rows(profile: Profile | ReadoutProfile) -> list[dict[str, Any]]:
    """Return what charts draw of each block."""
    names = depth_names(profile)
    return [asdict(block) | depth_spot(block.index, names) for block in every_block(profile)]


def depth_spot(index: int, names: Mapping[int, str]) -> dict[str, Any]:
    """Return where a block stands on a chart, and whether it is one of the seven depths."""
    depth, found = names.get(index), parts.spot(index)
    return {**found, "head": f"{found['head']} · depth {depth}" if depth else found["head"],
            "marked": depth is not None}  # fmt: skip


def depth_names(profile: Profile | ReadoutProfile) -> dict[int, str]:
    """Return what the seven depths are called, by the block that stands for them."""
    found: dict[int, list[float]] = {}
    for depth in profile.depths:
        found.setdefault(depth.index, []).append(depth.relative)
    return {index: ", ".join(map(percent, depths)) for index, depths in found.items()}


def slope_of(found: Profile | ReadoutProfile) -> Slope:
    """Return the slope of a profile with its interval."""
    return Slope(found.slope, found.slope_low, found.slope_high)


def _line(found: Profile | ReadoutProfile) -> list[dict[str, Any]]:
    return fitted(found.depths, slope_of(found), blocks=len(every_block(found)))


def fitted(depths: Sequence[DepthChange], slope: Slope, *, blocks: int) -> list[dict[str, Any]]:
    """Return the line of a slope through the mean of the seven depths, and its interval's fan.

    Relative depth 1 is the last of so many `blocks`. A slope without an interval has no fan.
    """
    relative = [depth.relative for depth in depths]
    centre, middle = fmean(relative), fmean(depth.procrustes for depth in depths)
    low, high = (slope.slope if end is None else end for end in (slope.low, slope.high))
    ways = {"procrustes": slope.slope, "low": low, "high": high}
    return [
        {"x": at * blocks - 1, **{key: middle + s * (at - centre) for key, s in ways.items()}}
        for at in (min(relative), centre, max(relative))
    ]
