"""What all charts share: colours, axes of blocks and of numbers, and drawing them as PNG and SVG.

Text from outside (model and stack names) enters a specification only as data values; field names,
expressions and marks are ours alone, so that no name can become a field path, an expression, a
signal or an address.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import vl_convert

__all__ = [
    "LIGHT",
    "PAGE",
    "Places",
    "Rows",
    "Spec",
    "Theme",
    "block_axis",
    "chart_config",
    "depth_axis",
    "dots",
    "exported",
    "log_axis",
    "plain_axis",
    "short",
    "titled",
    "unlabelled",
    "with_data",
]

Spec = dict[str, Any]
Rows = list[dict[str, Any]]

_TICKS = 12


@dataclass(frozen=True)
class Theme:
    """Colours of a chart, in CSS notation; those of `series` differ in lightness as well as hue."""

    ink: str
    muted: str
    grid: str
    paper: str
    series: tuple[str, ...]
    font: str = "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


LIGHT = Theme(
    ink="#1c2430",
    muted="#5a6472",
    grid="#e3e6ea",
    paper="#ffffff",
    series=("#2563a8", "#b94f14", "#2f7d57", "#7b4ea3", "#8a6a00", "#a8325e"),
)

# The page's own CSS variables: one drawing serves light, dark and print.
PAGE = Theme(
    ink="var(--ink)",
    muted="var(--muted)",
    grid="var(--line)",
    paper="var(--panel)",
    series=tuple(f"var(--series-{n})" for n in range(1, 7)),
)


def chart_config(theme: Theme) -> Spec:
    """The Vega-Lite configuration that draws a chart in `theme`."""
    text = {"labelColor": theme.muted, "titleColor": theme.muted, "titleFontWeight": "normal"}
    axis = {"gridColor": theme.grid, "domainColor": theme.grid, "tickColor": theme.grid}
    return {
        "background": None,
        "font": theme.font,
        "view": {"stroke": None},
        "axis": text | axis | {"labelFontSize": 11, "titleFontSize": 11, "titlePadding": 8},
        "legend": text
        | {"orient": "top", "title": None, "columns": 2, "labelLimit": 130, "labelFontSize": 11},
        "title": {"color": theme.ink, "anchor": "start", "fontSize": 14, "offset": 12},
        "text": {"color": theme.ink, "fontSize": 11},
        "rule": {"color": theme.muted},
    }


def exported(specs: Mapping[str, Spec]) -> dict[str, bytes]:
    """``chart-<name>.png`` and ``chart-<name>.svg`` of each chart, drawn without any network."""
    files: dict[str, bytes] = {}
    for name, spec in specs.items():
        drawn = spec | {"config": chart_config(LIGHT), "width": 640, "background": LIGHT.paper}
        svg = vl_convert.vegalite_to_svg(drawn, allowed_base_urls=[])
        png = vl_convert.vegalite_to_png(drawn, scale=2, allowed_base_urls=[])
        files |= {f"chart-{name}.svg": svg.encode(), f"chart-{name}.png": png}
    return files


def with_data(chart: alt.LayerChart, data: Mapping[str, Rows]) -> Spec:
    """The specification of `chart` with its named data sets under ``datasets``."""
    spec = chart.to_dict()
    return spec | {"datasets": {**spec.get("datasets", {}), **data}}


def titled(
    layers: Sequence[alt.Chart | alt.LayerChart],
    title: str,
    *,
    data: str = "blocks",
    about: str = "",
    height: int,
) -> alt.LayerChart:
    """The layers as one chart of the data set `data`; `about` joins the title for a listener."""
    chart = alt.layer(*layers, data=alt.NamedData(name=data))
    told = f"{title}, {about}" if about else title
    return chart.properties(title=title, description=told, height=height, width=460)


def dots(points: alt.Chart, fill: Any, theme: Theme, *, mark: str, many: bool) -> alt.Chart:
    """Points filled with `fill` where the field `mark` is true, hollow elsewhere."""
    filled = alt.condition(f"datum.{mark}", fill, alt.value(theme.paper))
    told = points.encode(fill=filled)
    return told.mark_point(size=24 if many else 50, opacity=1, strokeWidth=1.3)


@dataclass(frozen=True)
class Places:
    """Where blocks stand on a shared axis, on which a gap parts the stacks.

    Attributes:
        blocks: For each block its place and its index in its stack.
        rest: The place of what lies in no block, if that is drawn too.
    """

    blocks: tuple[tuple[int, int], ...]
    rest: int | None = None

    @property
    def width(self) -> int:
        """Length of the axis."""
        last = max((x for x, _ in self.blocks), default=0)
        return (last if self.rest is None else max(self.rest, last)) + 1


def block_axis(field: str, places: Places) -> alt.X:
    """Block numbers under the axis, counted from 0 in each stack."""
    count = len(places.blocks)
    step = next(s for s in (1, 2, 4, 5, 10, 20, 50, 10_000) if count / s <= _TICKS)
    values = [x for x, index in places.blocks if index % step == 0]
    axis = alt.Axis(
        values=values if places.rest is None else [*values, places.rest],
        labelExpr=_index_expression(places),
        grid=False,
        labelOverlap="greedy",
    )
    return alt.X(f"{field}:Q", scale=_block_scale(places), axis=axis, title=None)


def depth_axis(field: str, places: Places, labels: Mapping[int, str]) -> alt.X:
    """The same places with `labels` of our own above, a faint line down from each."""
    named = (f"datum.value == {x} ? '{label}'" for x, label in labels.items())
    axis = alt.Axis(
        orient="top",
        values=list(labels),
        labelExpr=" : ".join([*named, "''"]),
        labelOverlap="greedy",
        domain=False,
        ticks=False,
    )
    return alt.X(f"{field}:Q", scale=_block_scale(places), axis=axis, title=None)


def unlabelled(x: alt.X) -> alt.X:
    """The same axis without its labels, for layers beside the one that has them."""
    bare: alt.X = x.axis(None)
    return bare


def _block_scale(places: Places) -> alt.Scale:
    return alt.Scale(domain=[-0.6, places.width - 0.4], nice=False, zero=False)


def _index_expression(places: Places) -> str:
    """A Vega expression from an axis position to the block's index; of our own numbers alone."""
    starts = [x for x, index in places.blocks if index == 0]
    expression = "datum.value"
    for start in starts[1:]:  # The last, outermost test is for the last stack.
        expression = f"datum.value >= {start} ? datum.value - {start} : ({expression})"
    told = f"format({expression}, 'd')"
    return told if places.rest is None else f"datum.value == {places.rest} ? 'rest' : {told}"


def plain_axis(**more: Any) -> alt.Axis:
    """An axis of numbers without a line of its own; one in decades wants the format ``,~r``."""
    # Vega's ~r counts a digit too few where steps are uneven in binary: 0.001, 0.001 for 0.0012.
    return alt.Axis(**({"tickCount": 5, "format": ",~f", "domain": False, "ticks": False} | more))


def short(value: float) -> float:
    """Six significant digits: finer than a pixel, and half the bytes."""
    return float(f"{value:.6g}")


def log_axis(low: float, high: float) -> tuple[list[float], list[float]]:
    """Ends at 1, 2 or 5 times a power of ten; all such as ticks, or powers alone where crowded."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = [float(f"{m}e{e}") for e in range(first, last + 1) for m in (1, 2, 5)]
    domain = [max(s for s in steps if s <= low), min(s for s in steps if s >= high)]
    powers = [float(f"1e{e}") for e in range(first, last + 1, 1 + (last - first) // 6)]
    ticks = steps if last - first <= 2 else powers
    return domain, [tick for tick in ticks if domain[0] <= tick <= domain[1]]
