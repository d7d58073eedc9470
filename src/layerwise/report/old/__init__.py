"""The first edition's way of drawing, until each record has its document."""

from layerwise.report.old.charts_control import control_charts, export_control_charts
from layerwise.report.old.charts_profile import export_profile_charts, profile_charts
from layerwise.report.old.page_control import control_html
from layerwise.report.old.page_profile import profile_html
from layerwise.report.old.table_control import control_table
from layerwise.report.old.table_profile import profile_table

__all__ = [
    "control_charts",
    "control_html",
    "control_table",
    "export_control_charts",
    "export_profile_charts",
    "profile_charts",
    "profile_html",
    "profile_table",
]
