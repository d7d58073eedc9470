"""What all pages share: one HTML file that needs nothing else and may do nothing else.

A page works offline under a Content-Security-Policy that allows its own two scripts and style
sheet by their hashes and nothing else; all text in it is escaped.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from layerwise.card.record import ModelInfo
from layerwise.profile.record import ProbeInfo
from layerwise.provenance import Provenance
from layerwise.report.old.columns import number_style
from layerwise.report.old.drawing import PAGE, Rows, Spec, chart_config
from layerwise.report.old.text import shown, visible

__all__ = [
    "Cell",
    "Figure",
    "Grid",
    "Made",
    "Numbers",
    "Pairs",
    "figures",
    "heat",
    "model_pairs",
    "number_grid",
    "pairs",
    "probe_facts",
    "render",
]

Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Figure:
    """A chart's place on the page; `summary` tells its content to who does not see it."""

    name: str
    title: str
    caption: str
    summary: str = ""


@dataclass(frozen=True)
class Cell:
    """A block in a drawn stack: its number, and CSS classes."""

    index: int
    look: str


@dataclass(frozen=True)
class Grid:
    """A table of numbers.

    Attributes:
        name: Of its section, for who moves by headings.
        first: What the first column is headed with.
        columns: Title and unit of each of the others.
        rows: Head of the row, whether it is marked, and its cells.
    """

    name: str
    first: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[tuple[str, bool, Sequence[str]]]


@dataclass(frozen=True)
class Numbers:
    """A column of a `Grid`: title, what the numbers are of, and the numbers."""

    title: str
    of: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class Made:
    """The last part of a page: how its record was made.

    Attributes:
        heading: What it is headed with.
        command: What was typed.
        notes: What was done otherwise than asked.
        pairs: Provenance, by label.
        hashes: SHA-256 of files, by name.
    """

    heading: str
    command: str
    notes: Sequence[str]
    pairs: Pairs
    hashes: Pairs

    @classmethod
    def by(
        cls,
        made: Provenance,
        *,
        heading: str,
        notes: Iterable[str],
        facts: Iterable[tuple[str, object]],
        hashes: Mapping[str, str],
    ) -> "Made":
        """What `made` says, after `facts` of the record's own."""
        told = [*facts, *_versions(made)]
        digests = [(shown(name, limit=120), shown(digest)) for name, digest in hashes.items()]
        short = [shown(note, limit=600) for note in notes]
        return cls(heading, made.command, short, pairs(told), digests)


def pairs(facts: Iterable[tuple[str, object]]) -> Pairs:
    """The `facts` that there are, each on a line."""
    return [(label, shown(value, limit=400)) for label, value in facts if value not in (None, "")]


def _versions(made: Provenance) -> list[tuple[str, object]]:
    return [
        ("layerwise", f"{made.layerwise}" + (f" ({made.git})" if made.git else "")),
        ("Libraries", f"torch {made.torch}, transformers {made.transformers}, peft {made.peft}"),
        ("Python", made.python),
        ("Device", made.device),
        ("Created", made.created),
    ]


def model_pairs(model: ModelInfo) -> Pairs:
    """What is known of a model, by label."""
    shapes = (f"{s.blocks} blocks of {s.block_class} in {s.name}" for s in model.stacks)
    return pairs(
        [
            ("Source", model.source),
            ("Revision", model.revision),
            ("Base model", model.base),
            ("Architecture", model.architecture),
            ("Parameters", f"{model.parameters:,}"),
            ("Stacks", "; ".join(shapes)),
        ]
    )


def probe_facts(probes: ProbeInfo) -> list[tuple[str, object]]:
    """What two models were shown and how they were compared, by label."""
    return [
        ("Probes", probes.source),
        ("Probes SHA-256", probes.sha256),
        (
            "Shown",
            f"{probes.inputs:,} inputs, {probes.tokens:,} tokens, {probes.max_length} at most",
        ),
        ("Bootstrap", f"{probes.bootstrap} resamples"),
        ("Shared PCA", f"{probes.pca_components} components"),
        ("Seed", probes.seed),
    ]


def number_grid(
    name: str, first: str, heads: Sequence[tuple[str, str]], columns: Sequence[Numbers]
) -> Grid:
    """A table of `columns`, each in one style; `heads` are rows' names and their depth, if any."""
    styles = [number_style(column.values) for column in columns]
    units = [
        " ".join(filter(None, (style.suffix, column.of)))
        for style, column in zip(styles, columns, strict=True)
    ]
    rows = []
    for number, (head, depth) in enumerate(heads):
        cells = (s.text(c.values[number]) for s, c in zip(styles, columns, strict=True))
        rows.append((head, bool(depth), [depth, *cells]))
    titles = [(column.title, unit) for column, unit in zip(columns, units, strict=True)]
    return Grid(name, first, [("Depth", ""), *titles], rows)


def heat(values: Mapping[int, float], *, most: float) -> list[Cell]:
    """A cell for each block (its index to a number), the darker the nearer to `most`."""
    shares = {i: value / most if most > 0 else 0.0 for i, value in values.items()}
    return [Cell(index, f"heat-{round(10 * share)}") for index, share in shares.items()]


def figures(
    specs: Mapping[str, Spec], captions: Mapping[str, tuple[str, str]]
) -> dict[str, Figure]:
    """A figure a chart, by name, from its title and its (summary, caption)."""
    return {
        name: Figure(name, spec["title"], captions[name][1], captions[name][0])
        for name, spec in specs.items()
    }


def render(template: str, specs: Mapping[str, Spec], context: Mapping[str, Any]) -> bytes:
    """The page of `template` with the charts of `specs`, as UTF-8 HTML."""
    scripts = [_bundle(), _resource("charts.js")]
    style = _resource("page.css")
    whole = {
        **context,
        "csp": _policy(scripts, style),
        "scripts": [Markup(script) for script in scripts],  # noqa: S704 - our own, hashed.
        "style": Markup(style),  # noqa: S704 - likewise.
        "drawings": _embedded(
            {"config": chart_config(PAGE), "datasets": _datasets(specs), "specs": _fitted(specs)}
        ),
    }
    return _environment().get_template(template).render(whole).encode()


@cache
def _bundle() -> str:
    """Vega, Vega-Lite and vega-embed with their interpreter, as one script."""
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def _resource(name: str) -> str:
    return files("layerwise.report.old").joinpath("templates", name).read_text(encoding="utf-8")


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("layerwise.report.old"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters["shorten"] = lambda text, limit: shown(text, limit=limit)
    return environment


def _finalize(value: Any) -> Any:
    """What the template is about to write, with unprintable characters made visible."""
    plain_text = isinstance(value, str) and not isinstance(value, Markup)
    return visible(value) if plain_text else value


def _policy(scripts: Sequence[str], style: str) -> str:
    allowed = " ".join(_hash(script) for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _embedded(value: object) -> Markup:
    """`value` as JSON that cannot end the script element it stands in."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).replace(
        "<", "\\u003c"
    )
    return Markup(text)  # noqa: S704 - without `<` there is no tag, comment or end of element.


def _fitted(specs: Mapping[str, Spec]) -> dict[str, Spec]:
    """The charts as wide as their figure, without title and data, which the page has once."""
    fit = {"width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}
    return {
        name: {k: v for k, v in spec.items() if k not in {"title", "datasets"}} | fit
        for name, spec in specs.items()
    }


def _datasets(specs: Mapping[str, Spec]) -> dict[str, Rows]:
    """The data of all the charts, by name; most share one."""
    return {name: rows for spec in specs.values() for name, rows in spec["datasets"].items()}
