"""Records as tables, charts and one self-contained HTML file."""

from layerwise.report.charts_card import charts, export_charts
from layerwise.report.page_card import card_html
from layerwise.report.table_card import card_table, compare_table, coverage_table

__all__ = [
    "card_html",
    "card_table",
    "charts",
    "compare_table",
    "coverage_table",
    "export_charts",
]
