"""The first edition's way of drawing, until each record has its document."""

from layerwise.report.old.charts_analysis import analysis_charts, export_analysis_charts
from layerwise.report.old.charts_measure import export_measure_charts, measure_charts
from layerwise.report.old.files_analysis import analysis_tables
from layerwise.report.old.page_analysis import analysis_html
from layerwise.report.old.page_measure import measure_html
from layerwise.report.old.table_analysis import analysis_table
from layerwise.report.old.table_distance import distance_table
from layerwise.report.old.table_measure import measure_table
from layerwise.report.old.table_probing import erasure_table, probing_table

__all__ = [
    "analysis_charts",
    "analysis_html",
    "analysis_table",
    "analysis_tables",
    "distance_table",
    "erasure_table",
    "export_analysis_charts",
    "export_measure_charts",
    "measure_charts",
    "measure_html",
    "measure_table",
    "probing_table",
]
