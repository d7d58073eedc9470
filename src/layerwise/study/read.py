"""A study as a user types it, YAML or a mapping, checked key by key and made complete in itself."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from layerwise.errors import BadInputError, SchemaError, UnknownNameError
from layerwise.options.config import read_yaml, reason
from layerwise.options.groups import CALL_ONLY
from layerwise.study.names import safe_name
from layerwise.study.record import STUDY_SCHEMA
from layerwise.study.stages import probing

__all__ = ["DIMENSIONS", "MODEL_KEYS", "checked", "read"]

#: What a run is told apart by, and what rules select by.
DIMENSIONS = ("model", "objective", "condition", "placement", "seed")

_KEYS = (
    "schema",
    "name",
    "defaults",
    "profile",
    "models",
    "objectives",
    "conditions",
    "placements",
    "seeds",
    "distance",
    "probing",
    "exclude",
    "override",
    "keep_weights",
)

#: Keys of a model beside settings of its runs.
MODEL_KEYS = (
    "source",
    "pretrain",
    "source_tuning",
    "objectives",
    "conditions",
    "placements",
    "seeds",
    "profile",
    "distance",
    "probing",
)

_PRETRAIN = ("config", "tokenizer", "data")

_MOST_VALUES = 100_000
"""Values in a study, each alias counted where it stands; more is a file made to fill the memory."""

_EXACT = 2**53
_WHOLE = "study"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def read(path: Path) -> tuple[dict[str, Any], bytes]:
    """Return the study in the file `path`, checked, and the file's own text.

    Raises:
        SchemaError: It is of another schema.
        BadInputError: It cannot be read, or a key, a name or a value in it cannot be used.
    """
    plain, text = read_yaml(path, what="study", expected="a YAML file")
    return checked(plain, folder=path.parent), text


def checked(study: Any, *, folder: Path) -> dict[str, Any]:
    """Return `study`, a mapping as it stands in the file, checked; every key is there afterwards.

    What only the stages know (settings, objectives, conditions) is not looked at here.

    Args:
        study: The mapping.
        folder: Where configuration files that it names are looked for.

    Raises:
        SchemaError: It is of another schema.
        BadInputError: A key, a name or a value cannot be used.
    """
    try:
        plain = _mapping(_plain(study, _WHOLE, iter(range(_MOST_VALUES))), _WHOLE)
    except RecursionError:
        message = "study of values inside values without end"
        raise BadInputError(message, expected="a few levels") from None
    if plain.get("schema") != STUDY_SCHEMA:
        message = "study of another schema"
        hint = f"schema: {STUDY_SCHEMA}"
        raise SchemaError(message, value=plain.get("schema"), expected=STUDY_SCHEMA, hint=hint)
    _known(plain, _KEYS, "key of a study")
    return {
        "schema": STUDY_SCHEMA,
        "name": safe_name(plain.get("name"), what="study"),
        "defaults": _settings(plain.get("defaults"), "defaults"),
        "profile": _settings(plain.get("profile"), "profile"),
        "models": _models(plain.get("models"), folder),
        **_axes(plain, ""),
        "distance": _distance(plain, "distance"),
        "probing": _probing(plain.get("probing"), "probing"),
        "exclude": [_rule(r, f"exclude[{i}]") for i, r in _listed(plain, "exclude")],
        "override": [_override(r, f"override[{i}]") for i, r in _listed(plain, "override")],
        "keep_weights": _bool(plain.get("keep_weights"), "keep_weights"),
    }


# --- YAML -------------------------------------------------------------------------------------


def _plain(value: Any, where: str, budget: Iterator[int]) -> Any:
    """Return `value` as JSON has it, whole numbers as such: 1.0 and 1 are one setting.

    Raises:
        BadInputError: It is not finite, not of JSON, or there is too much of it.
    """
    if next(budget, None) is None:
        message = f"study of more than {_MOST_VALUES:,} values"
        raise BadInputError(message, value=where, expected="fewer")
    if isinstance(value, Mapping):
        for key in value:
            _text(key, f"key in {where}")
        inside = "" if where == _WHOLE else f"{where}."
        return {key: _plain(v, f"{inside}{key}", budget) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, f"{where}[{i}]", budget) for i, v in enumerate(value)]
    if isinstance(value, str):
        return _text(value, where)
    if isinstance(value, float) and math.isfinite(value):
        return int(value) if value.is_integer() and abs(value) < _EXACT else value
    if value is None or isinstance(value, bool | int):
        return value
    message = f"value of {where}"
    raise BadInputError(message, value=value, expected="text, a finite number, a list or a mapping")


def _text(value: Any, where: str) -> str:
    if isinstance(value, str) and not _CONTROL.search(value):
        return value
    message = f"{where} that is not plain text"
    hint = "quotes around it" if not isinstance(value, str) else ""
    raise BadInputError(message, value=value, expected="text", hint=hint)


# --- Keys -------------------------------------------------------------------------------------


def _models(value: Any, folder: Path) -> dict[str, dict[str, Any]]:
    models = _mapping(value, "models")
    if not models:
        message = "study without models"
        raise BadInputError(message, expected="models: {NAME: {source: MODEL}}")
    return {safe_name(name, what="model"): _model(m, name, folder) for name, m in models.items()}


def _model(value: Any, name: str, folder: Path) -> dict[str, Any]:
    where = f"models.{name}"
    plain = _mapping({"source": value} if isinstance(value, str) else value, where)
    if ("source" in plain) == ("pretrain" in plain):
        message = f"{where} needs one of source and pretrain"
        expected = "source: a model, or pretrain: {config: ..., tokenizer: ..., data: ...}"
        raise BadInputError(message, expected=expected)
    made: dict[str, Any] = {
        **_settings({k: v for k, v in plain.items() if k not in MODEL_KEYS}, where, MODEL_KEYS),
        **{k: v for k, v in _axes(plain, f"{where}.").items() if plain.get(k) is not None},
    }
    if "source" in plain:
        made["source"] = _string(plain["source"], f"{where}.source")
    else:
        made["pretrain"] = _pretrain(plain["pretrain"], f"{where}.pretrain", folder)
    if "source_tuning" in plain:
        made["source_tuning"] = _tuning(plain["source_tuning"], f"{where}.source_tuning")
    if "profile" in plain:
        made["profile"] = _settings(plain["profile"], f"{where}.profile")
    if "distance" in plain:
        made["distance"] = _distance(plain, f"{where}.distance")
    if "probing" in plain:
        made["probing"] = _probing(plain["probing"], f"{where}.probing")
    return made


def _pretrain(value: Any, where: str, folder: Path) -> dict[str, Any]:
    """Return how a model is made, its configuration in full."""
    beside_data = ("config", "tokenizer", "objective", "condition")
    plain = _settings(_mapping(value, where), where, beside_data, deep=("config",))
    config, beside = plain.get("config"), folder
    if isinstance(config, str):
        beside = (folder / config).parent
        config = _json(folder / config, f"{where}.config")
    config = dict(_mapping(config, f"{where}.config"))
    own = config.pop("tokenizer", None)
    if own is not None and "tokenizer" not in plain:
        plain = {**plain, "tokenizer": str(beside / own) if (beside / own).is_dir() else own}
    for key in _PRETRAIN[1:]:
        _string(plain.get(key), f"{where}.{key}")
    return {**plain, "config": config}


def _tuning(value: Any, where: str) -> dict[str, Any]:
    """Return how a model is fine-tuned before the runs of the matrix start from it."""
    plain = _settings(_mapping(value, where), where, ("objective", "condition"))
    _string(plain.get("data"), f"{where}.data")
    return plain


def _json(file: Path, where: str) -> Any:
    try:
        return _plain(json.loads(file.read_text("utf-8")), where, iter(range(_MOST_VALUES)))
    except (OSError, ValueError, RecursionError) as error:
        message = f"{where} that cannot be read ({reason(error)})"
        expected = "a transformers configuration (JSON)"
        raise BadInputError(message, value=file, expected=expected) from error


def _axes(plain: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return what a matrix is spanned by, beside the models."""
    seeds = plain.get("seeds")
    return {
        "objectives": _names(plain.get("objectives"), f"{where}objectives"),
        "conditions": _names(plain.get("conditions"), f"{where}conditions"),
        "placements": _placements(plain.get("placements"), f"{where}placements"),
        "seeds": _different([0] if seeds is None else seeds, f"{where}seeds", _seed),
    }


def _placements(value: Any, where: str) -> dict[str, Any]:
    """Each placement: its blocks as ``tune`` takes them, None for all, or how it is described."""
    named = _mapping({} if value is None else value, where)
    return {
        safe_name(name, what="placement"): _placement(found, f"{where}.{name}")
        for name, found in named.items()
    }


def _placement(value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        return _blocks(value, where)
    plain = _settings(value, where)
    if "blocks" in plain:
        plain["blocks"] = _blocks(plain["blocks"], f"{where}.blocks")
    return plain


def _blocks(value: Any, where: str) -> str | None:
    if value is None:
        return None
    parts = value if isinstance(value, list) else [value]
    text = ",".join(str(part).strip() for part in parts)
    if re.fullmatch(r"([^,:\s]+:)?\d+(,([^,:\s]+:)?\d+)*", text.replace(" ", "")):
        return text.replace(" ", "")
    message = f"blocks of {where}"
    raise BadInputError(message, value=value, expected='null for all, or such as "3,7,11"')


def _distance(plain: Mapping[str, Any], where: str) -> dict[str, Any] | None:
    """Return the settings of `distance`; None where it is not asked for."""
    if plain.get("distance") is None:
        return None
    settings = _settings(plain["distance"], where, ("objectives",))
    if settings.get("objectives") is not None:
        _names(settings["objectives"], f"{where}.objectives")
    return settings


def _probing(value: Any, where: str) -> dict[str, dict[str, Any]]:
    """The settings of each stage that looks at models by depth; none is asked for where empty."""
    named = _mapping({} if value is None else value, where)
    _known(named, probing(), f"key in {where}")
    return {
        stage: _settings(found, f"{where}.{stage}", ("objective",))
        for stage, found in named.items()
    }


def _override(value: Any, where: str) -> dict[str, Any]:
    plain = _mapping(value, where)
    _known(plain, ("where", "set"), f"key in {where}")
    given = dict(_mapping(plain.get("set"), f"{where}.set"))
    profile = _settings(given.pop("profile", None), f"{where}.set.profile")
    chosen = _settings(given, f"{where}.set") | ({"profile": profile} if profile else {})
    if not chosen:
        message = f"{where} sets nothing"
        raise BadInputError(message, expected="set: {SETTING: VALUE}")
    return {"where": _rule(plain.get("where"), f"{where}.where"), "set": chosen}


def _rule(value: Any, where: str) -> dict[str, list[Any]]:
    """Return what selects runs: for each dimension that is named, the values that fit."""
    plain = _mapping(value, where)
    _known(plain, DIMENSIONS, f"key in {where}")
    if not plain:
        message = f"{where} selects every run"
        raise BadInputError(message, expected="one or more of " + ", ".join(DIMENSIONS))
    return {
        key: _different(found if isinstance(found, list) else [found], f"{where}.{key}", take)
        for key, found in plain.items()
        for take in (_seed if key == "seed" else _string,)
    }


def _settings(
    value: Any, where: str, beside: Collection[str] = (), *, deep: Collection[str] = ()
) -> dict[str, Any]:
    """Return `value` as settings: names with plain values, or lists of text.

    Raises:
        BadInputError: The matrix gives a setting of that name its value, or it is no such value.
    """
    plain = _mapping({} if value is None else value, where)
    for key, found in plain.items():
        if key in DIMENSIONS and key not in beside and not where.endswith("distance"):
            message = f"{where}.{key}: the matrix sets it"
            raise BadInputError(message, value=found, hint=f"{key}s: [...]")
        nested = isinstance(found, Mapping) or (
            isinstance(found, list) and any(isinstance(v, Mapping | list) for v in found)
        )
        if nested and key not in deep:
            message = f"value of {where}.{key}"
            hint = "a key too deep? settings stand beside each other"
            raise BadInputError(message, value=found, expected="one value, or a list", hint=hint)
    one = plain.get("where")
    return {**plain, "where": [one]} if isinstance(one, str) else dict(plain)


# --- Values -----------------------------------------------------------------------------------


def _known(plain: Mapping[str, Any], known: Sequence[str], what: str) -> None:
    for key in plain:
        if key not in known:
            raise UnknownNameError(what, value=key, known=known)


def _listed(plain: Mapping[str, Any], key: str) -> Iterator[tuple[int, Any]]:
    value = plain.get(key)
    if value is not None and not isinstance(value, list):
        message = f"value of {key}"
        raise BadInputError(message, value=value, expected="a list of rules")
    return enumerate(value or ())


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        if CALL_ONLY in value:
            message = f"{CALL_ONLY} in {where}, which a file cannot give"
            expected = "a study without it"
            hint = "layerwise study run --trust-remote-code, once you have read that code"
            raise BadInputError(message, value=value[CALL_ONLY], expected=expected, hint=hint)
        return value
    message = f"value of {where}"
    raise BadInputError(message, value=value, expected="a mapping, such as {key: value}")


def _names(value: Any, where: str) -> list[str]:
    return _different([] if value is None else value, where, _string)


def _different(value: Any, where: str, take: Callable[[Any, str], Any]) -> list[Any]:
    """Return the members of a list, each once."""
    if not isinstance(value, list):
        message = f"value of {where}"
        raise BadInputError(message, value=value, expected="a list, such as [a, b]")
    found = [take(member, where) for member in value]
    twice = _twice(found)
    if twice:
        message = f"{where} with a member that stands twice"
        raise BadInputError(message, value=twice[0], expected="each once")
    return found


def _twice(members: Sequence[Any]) -> list[Any]:
    """Return those of `members` that stand there more than once."""
    return [member for member, times in Counter(map(_hashable, members)).items() if times > 1]


def _hashable(member: Any) -> Any:
    return member if isinstance(member, str | int) else repr(member)


def _string(value: Any, where: str) -> str:
    if isinstance(value, str) and value.strip():
        return value
    message = f"value of {where}"
    raise BadInputError(message, value=value, expected="text")


def _seed(value: Any, where: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31:
        return value
    message = f"value of {where}"
    raise BadInputError(message, value=value, expected="whole numbers from 0 to 2147483647")


def _bool(value: Any, where: str) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    message = f"value of {where}"
    raise BadInputError(message, value=value, expected="true or false")
