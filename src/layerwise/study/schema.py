"""The JSON Schema of a study file, for editors: keys, settings, types and bounds."""

from collections.abc import Iterable
from typing import Any

from layerwise.options.check import schema
from layerwise.options.commands import ProfileSettings
from layerwise.options.stages import PlacementSettings
from layerwise.study.stages import STAGES, probing

__all__ = ["study_schema"]


def study_schema() -> dict[str, Any]:
    """Return the JSON Schema of a study file, with the settings of every stage."""
    stages = {name: schema(stage.settings) for name, stage in STAGES.items()}
    profile = schema(ProfileSettings)
    settings = {k: v for k, v in stages["tune"]["properties"].items() if k not in _OWN}
    names = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
    blocks = {"type": ["string", "integer", "array", "null"]}
    shared = {
        "objectives": names,
        "conditions": names,
        "placements": {
            "type": "object",
            "additionalProperties": {"anyOf": [blocks, schema(PlacementSettings)]},
        },
        "seeds": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "profile": profile,
        "distance": {"anyOf": [stages["distance"], {"type": "null"}]},
        "probing": {
            "type": "object",
            "additionalProperties": False,
            "properties": {name: stages[name] for name in probing()},
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
