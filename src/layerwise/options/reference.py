"""The options as tables for the docs."""

from collections.abc import Iterable

from layerwise.options import commands
from layerwise.options.check import expected
from layerwise.options.declaration import declared
from layerwise.options.signature import shown_default

_COMMANDS = {
    "card": (commands.CardOptions,),
    "place": (commands.GoalOptions, commands.PlaceOptions, commands.ExportOptions),
    "measure": (commands.MeasureOptions,),
    "tune": (commands.TuneOptions,),
    "profile": (commands.ProfileOptions,),
    "control": (commands.ControlOptions,),
    "distance": (commands.DistanceOptions,),
    "probe": (commands.ProbeOptions,),
    "erase": (commands.EraseOptions,),
    "study": (commands.StudyOptions,),
    "analyse": (commands.AnalyseOptions,),
    "compare": (commands.CompareOptions,),
}


def option_tables() -> str:
    """Return a Markdown table of the options of each command."""
    parts = [f"## {name}\n\n{_table(groups)}" for name, groups in _COMMANDS.items()]
    return "\n\n".join(parts) + "\n"


def _table(groups: Iterable[type]) -> str:
    rows = [
        f"| `{', '.join(o.flags)}` | `{o.name}` | {expected(o)} | {shown_default(o)} | {o.help()} |"
        for group in groups
        for o in declared(group).values()
    ]
    return "\n".join(["| option | Python | takes | default | |", "|---|---|---|---|---|", *rows])
