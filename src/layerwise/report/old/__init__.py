"""The first edition's way of drawing, until each record has its document."""

from layerwise.report.old.charts_analysis import analysis_charts, export_analysis_charts
from layerwise.report.old.charts_control import control_charts, export_control_charts
from layerwise.report.old.charts_measure import export_measure_charts, measure_charts
from layerwise.report.old.charts_profile import export_profile_charts, profile_charts
from layerwise.report.old.files_analysis import analysis_tables
from layerwise.report.old.page_analysis import analysis_html
from layerwise.report.old.page_control import control_html
from layerwise.report.old.page_measure import measure_html
from layerwise.report.old.page_profile import profile_html
from layerwise.report.old.table_analysis import analysis_table
from layerwise.report.old.table_control import control_table
from layerwise.report.old.table_distance import distance_table
from layerwise.report.old.table_measure import measure_table
from layerwise.report.old.table_probing import erasure_table, probing_table
from layerwise.report.old.table_profile import profile_table

__all__ = [
    "analysis_charts",
    "analysis_html",
    "analysis_table",
    "analysis_tables",
    "control_charts",
    "control_html",
    "control_table",
    "distance_table",
    "erasure_table",
    "export_analysis_charts",
    "export_control_charts",
    "export_measure_charts",
    "export_profile_charts",
    "measure_charts",
    "measure_html",
    "measure_table",
    "probing_table",
    "profile_charts",
    "profile_html",
    "profile_table",
]
