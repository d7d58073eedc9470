"""Records as tables, charts and one self-contained HTML file."""
