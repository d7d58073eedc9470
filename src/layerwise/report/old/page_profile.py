"""A profile's page."""

from collections.abc import Mapping
from typing import Any

from layerwise.profile.record import Profile
from layerwise.report.old.charts_profile import MEASURES, depth_labels, profile_charts
from layerwise.report.old.drawing import PAGE, Spec
from layerwise.report.old.page import (
    Figure,
    Grid,
    Made,
    Numbers,
    figures,
    heat,
    model_pairs,
    number_grid,
    probe_facts,
    render,
)
from layerwise.report.old.page_audit import AUDIT_CAPTIONS, audit_context
from layerwise.report.old.story import (
    every_block,
    moved_most,
    number,
    percent,
    profile_headline,
    profile_reasons,
    profile_title,
    readouts,
    slope_text,
    span,
)
from layerwise.report.old.text import shown

__all__ = ["READOUTS", "heads", "profile_html"]

READOUTS = {
    "hf": "As transformers gives hidden states: in many decoders the last is after the final norm.",
    "residual": "Block outputs at every depth, the last one before the final norm.",
    "normed": "The final norm at every depth.",
}
_READS = {
    "cka": "1 - linear CKA. Blind to rotation and scale.",
    "rsa": "1 - Spearman correlation of the two dissimilarity matrices.",
    "shared_pca_cka": "1 - linear CKA in the principal components of both together.",
}


_PROFILE_READS = (
    "Filled points: the seven depths named above. Dashed: their least-squares line, on the fan of "
    "its 95 % interval. Grey: the noise floor."
)


def profile_html(profile: Profile) -> bytes:
    """The report of `profile` as one UTF-8 HTML file: what moved and where, charts, table, source.

    It is closed in as every page of `layerwise.report.old.page`: offline, escaped, nothing foreign.
    """
    specs = profile_charts(profile, theme=PAGE)
    blocks = {block.index: block.procrustes for block in every_block(profile)}
    context = {
        "kind": "Depth profile",
        "title": profile_title(profile),
        "lede": _lede(profile),
        "headline": profile_headline(profile),
        "reasons": profile_reasons(profile),
        "stack": shown(profile.stack),
        "strip": heat(blocks, most=moved_most(profile).procrustes),
        "untrained": [shown(name, limit=120) for name in profile.untrained_modules],
        "facts": _facts(profile),
        "audit": audit_context(profile),
        **_grouped(figures(specs, _captions(profile, specs))),
        "slopes": _slopes(profile),
        "blocks": _blocks(profile),
        "models": {"Before": model_pairs(profile.before), "After": model_pairs(profile.after)},
        "made": _made(profile),
    }
    return render("profile.html.j2", specs, context)


def _lede(profile: Profile) -> str:
    probes = profile.probes
    shape = f"{len(every_block(profile))} blocks of {shown(profile.stack)}"
    return f"{shape} · {probes.inputs:,} probes, {probes.tokens:,} tokens"


def _facts(profile: Profile) -> list[tuple[str, str, str]]:
    """Key figures: label, number, what it says."""
    most = moved_most(profile)
    share = percent(profile.width[-1]) if profile.width else "–"
    slope, ends = span(profile.slope, profile.slope_low, profile.slope_high)
    where = f"at block {most.index}" if profile.width else "at every block"
    return [
        ("Slope", slope, f"95 % interval {ends}, over relative depth"),
        ("Largest change", number(most.procrustes), f"Procrustes distance, {where}"),
        ("Last depth's share", share, "of the CKA change over the seven depths"),
        ("Noise floor", number(profile.noise_floor), "by which halves of the probes differ"),
        ("CKA slope", number(profile.cka_slope), "of 1 - CKA"),
        ("RSA slope", number(profile.rsa_slope), "of 1 - RSA"),
    ]


def _captions(profile: Profile, specs: Mapping[str, Spec]) -> dict[str, tuple[str, str]]:
    """For each chart what it shows in words, and how to read it."""
    captions = {
        "depth-profile": (
            " ".join([profile_headline(profile), *profile_reasons(profile)[:2]]),
            _PROFILE_READS,
        ),
        "width": ("", "Of the CKA change over the seven depths. Dashed: an even profile."),
    }
    captions |= {
        f"readout-{name}": (
            "",
            f"Slope {slope_text(found)}. {READOUTS[name]}",
        )
        for name, found in readouts(profile).items()
    }
    captions |= {key.replace("_", "-"): ("", told) for key, told in _READS.items()}
    captions |= AUDIT_CAPTIONS
    return {name: captions[name] for name in specs}


def _grouped(drawn: Mapping[str, Figure]) -> dict[str, list[Figure]]:
    """The figures by the part of the page that they stand in."""
    of_readouts = [figure for name, figure in drawn.items() if name.startswith("readout-")]
    of_measures = [drawn[key.replace("_", "-")] for key in MEASURES]
    return {
        "profile_figures": [drawn["depth-profile"]],
        "readout_figures": of_readouts,
        "measure_figures": of_measures,
        "width_figures": [drawn["width"]] if "width" in drawn else [],
        "audit_figures": [drawn[name] for name in AUDIT_CAPTIONS if name in drawn],
    }


def _slopes(profile: Profile) -> Grid:
    """Slopes and widths under each readout."""
    titles = ("Slope", "CKA slope", "RSA slope", "Last depth's share", "Noise floor")
    rows = [
        (
            name,
            name == profile.readout,
            [
                slope_text(found),
                number(found.cka_slope),
                number(found.rsa_slope),
                percent(found.width[-1]) if found.width else "–",
                number(found.noise_floor),
            ],
        )
        for name, found in readouts(profile).items()
    ]
    units = ("95 % interval", "", "", "", "")
    return Grid("slopes", "Readout", list(zip(titles, units, strict=True)), rows)


def _blocks(profile: Profile) -> Grid:
    """Every block: all changes under the profile's readout, Procrustes under the others."""
    blocks, of = every_block(profile), profile.readout
    columns = [
        Numbers("Procrustes distance", of, [block.procrustes for block in blocks]),
        Numbers("Halves differ by", of, [block.noise for block in blocks]),
        *(Numbers(title, of, [getattr(b, key) for b in blocks]) for key, title in MEASURES.items()),
    ]
    for name, readout in readouts(profile).items():
        if name != of:
            by_index = {block.index: block.procrustes for block in every_block(readout)}
            values = [by_index.get(block.index) for block in blocks]
            columns.append(Numbers("Procrustes distance", name, values))
    return number_grid("blocks", "Block", heads(profile), columns)


def heads(profile: Profile) -> list[tuple[str, str]]:
    """Each block's number, and the depths that it stands for."""
    labels = depth_labels(profile)
    return [(str(b.index), labels.get(b.index, "")) for b in every_block(profile)]


def _made(profile: Profile) -> Made:
    facts: list[tuple[str, Any]] = [*probe_facts(profile.probes), ("Readout", profile.readout)]
    sides = {"before": profile.before, "after": profile.after}
    hashes = {f"{s}: {name}": h for s, model in sides.items() for name, h in model.files.items()}
    heading = "How this profile was made"
    notes = profile.notes
    return Made.by(profile.provenance, heading=heading, notes=notes, facts=facts, hashes=hashes)
