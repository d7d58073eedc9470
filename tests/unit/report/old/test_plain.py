from rich.table import Table
from rich.text import Text

from layerwise.report.old.plain import as_text


def test_text_without_colours_or_blanks_at_the_ends():
    assert as_text(Text("red", style="red")) == "red"
    assert "\x1b" not in as_text(Text("red", style="red"))


def test_width_is_kept():
    table = Table()
    table.add_column("words")
    table.add_row("word " * 30)
    assert max(map(len, as_text(table, width=40).splitlines())) <= 40


def test_brackets_are_brackets():
    assert as_text(Text("[bold]x[/bold]")) == "[bold]x[/bold]"
