"""The JSON Schema of a study file, for editors: keys, settings, types and bounds."""

from typing import Any

from layerwise.options.check import schema
from layerwise.options.commands import ProfileSettings
from layerwise.options.stages import PlacementSettings
from layerwise.study.record import STUDY_SCHEMA
from layerwise.study.stages import STAGES, makers, probing

#: Settings of a run that the matrix gives, or that stand under their own key.
_OWN = ("source", "pretrained", "placement", "profile")


def study_schema() -> dict[str, Any]:
    """Return the JSON Schema of a study file, with the settings of every stage."""
    stages = {name: schema(stage.settings) for name, stage in STAGES.items()}
    settings = {k: v for k, v in stages["tune"]["properties"].items() if k not in _OWN}
    names = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
    blocks = {"type": ["string", "integer", "array", "null"]}
    placement = {"anyOf": [blocks, schema(PlacementSettings)]}
    shared = {
        "objectives": names,
        "conditions": names,
        "placements": {"type": "object", "additionalProperties": placement},
        "seeds": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "profile": schema(ProfileSettings),
        "distance": {"anyOf": [stages["distance"], {"type": "null"}]},
        "probing": _object({name: stages[name] for name in probing()}),
    }
    making = {"objective": {"type": "string"}, "condition": {"type": "string"}}
    model: dict[str, Any] = {"source": {"type": "string"}}
    for stage in makers():
        found = stages[stage.name]["properties"] | making
        if "config" in found:
            found["config"] = {"type": ["string", "object"]}
        model[stage.makes] = _object(found)
    rule = {"type": "object", "minProperties": 1}
    override = {"where": rule, "set": {**rule, "properties": settings}}
    models = {"anyOf": [{"type": "string"}, _object({**settings, **shared, **model})]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A study of layerwise",
        "type": "object",
        "required": ["schema", "name", "models"],
        "additionalProperties": False,
        "properties": {
            "schema": {"const": STUDY_SCHEMA},
            "name": {"type": "string"},
            "defaults": _object(settings),
            "models": {"type": "object", "minProperties": 1, "additionalProperties": models},
            **shared,
            "exclude": {"type": "array", "items": rule},
            "override": {"type": "array", "items": _object(override)},
            "keep_weights": {"type": "boolean"},
        },
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}
