"""The options as tables for the docs, and the JSON Schema of a study file."""

from collections.abc import Iterable
from typing import Any

from layerwise.options import commands
from layerwise.options.check import expected, schema
from layerwise.options.declaration import declared
from layerwise.options.signature import shown_default
from layerwise.options.stages import STAGES

__all__ = ["option_tables", "study_schema"]

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


def study_schema() -> dict[str, Any]:
    """Return the JSON Schema of a study file, with the settings of every stage."""
    stages = {name: schema(group) for name, group in STAGES.items()}
    settings = {k: v for k, v in stages["tune"]["properties"].items() if k not in _OWN}
    names = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
    blocks = {"type": ["string", "integer", "array", "null"]}
    shared = {
        "objectives": names,
        "conditions": names,
        "placements": {
            "type": "object",
            "additionalProperties": {"anyOf": [blocks, stages["placement"]]},
        },
        "seeds": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "profile": stages["profile"],
        "distance": {"anyOf": [stages["distance"], {"type": "null"}]},
        "probing": {
            "type": "object",
            "additionalProperties": False,
            "properties": {n: stages[n] for n in ("probe", "erase", "ladder", "interventions")},
        },
    }
    making = {"objective": {"type": "string"}, "condition": {"type": "string"}}
    model = {
        "source": {"type": "string"},
        "pretrain": _with(stages["pretrain"], {**making, "config": {"type": ["string", "object"]}}),
        "source_tuning": _with(stages["source"], making),
    }
    rule = {"type": "object", "minProperties": 1}
    override = {"where": rule, "set": {**rule, "properties": settings}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A study of layerwise",
        "type": "object",
        "required": ["schema", "name", "models"],
        "additionalProperties": False,
        "properties": {
            "schema": {"const": "layerwise/study/1"},
            "name": {"type": "string"},
            "defaults": _with(stages["tune"], {}, without=_OWN),
            "models": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {
                    "anyOf": [{"type": "string"}, _object({**settings, **shared, **model})]
                },
            },
            **shared,
            "exclude": {"type": "array", "items": rule},
            "override": {"type": "array", "items": _object(override)},
            "keep_weights": {"type": "boolean"},
        },
    }


#: Settings of a run that the matrix gives, or that stand under their own key.
_OWN = ("source", "pretrained", "placement", "profile")


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _with(
    stage: dict[str, Any], more: dict[str, Any], *, without: Iterable[str] = ()
) -> dict[str, Any]:
    kept = {k: v for k, v in stage["properties"].items() if k not in without}
    return _object({**kept, **more})
