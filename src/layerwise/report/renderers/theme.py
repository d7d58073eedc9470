"""The one theme of all charts: colours, fonts, and how axes and legends look."""

from dataclasses import dataclass
from typing import Any

Spec = dict[str, Any]


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
    """Return the Vega-Lite configuration that draws a chart in `theme`."""
    text = {"labelColor": theme.muted, "titleColor": theme.muted, "titleFontWeight": "normal"}
    axis = {"gridColor": theme.grid, "domainColor": theme.grid, "tickColor": theme.grid}
    legend = {"orient": "top", "title": None, "columns": 3, "labelLimit": 130, "labelFontSize": 11}
    shape = {"symbolType": "circle", "symbolOpacity": 1}
    return {
        "background": None,
        "font": theme.font,
        "view": {"stroke": None},
        "axis": text | axis | {"labelFontSize": 11, "titleFontSize": 11, "titlePadding": 8},
        "legend": text | legend | shape,
        "title": {"color": theme.ink, "anchor": "start", "fontSize": 14, "offset": 12},
        "text": {"color": theme.ink, "fontSize": 11},
        "rule": {"color": theme.muted},
    }
