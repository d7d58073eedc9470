"""A study as a user types it, YAML or a mapping, checked key by key and made complete in itself."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Never

from layerwise.errors import BadInputError, SchemaError, UnknownNameError
from layerwise.options.config import read_yaml, reason
from layerwise.options.declaration import declared
from layerwise.options.groups import CALL_ONLY
from layerwise.study.record import DIMENSIONS, STUDY_SCHEMA, safe_name
from layerwise.study.stages import Stage, makers, probing

_MOST_VALUES = 100_000
"""Values in a study, each alias counted where it stands; more is a file made to fill the memory."""

_EXACT = 2**53
_WHOLE = "study"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_BLOCKS = re.compile(r"([^,:\s]+:)?\d+(,([^,:\s]+:)?\d+)*")


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

    What only the stages know (settings, objectives, conditions) is not looked at here. Files that
    it names are looked for in `folder`.

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
    takers: dict[str, _Taker] = {
        "schema": lambda schema, _where: schema,
        "name": lambda name, _where: safe_name(name, what="study"),
        "defaults": _settings,
        "profile": _settings,
        "models": lambda models, where: _models(models, where, folder),
        **_AXES,
        **_PARTS,
        "exclude": lambda rules, where: _listed(rules, where, _rule),
        "override": lambda rules, where: _listed(rules, where, _override),
        "keep_weights": _bool,
    }
    _refuse_unknown(plain, takers, "key of a study")
    return {key: take(plain.get(key), key) for key, take in takers.items()}


def model_keys() -> tuple[str, ...]:
    """Return the keys of a model beside settings of its runs."""
    return ("source", *(stage.makes for stage in makers()), *_AXES, *_PARTS)


# --- YAML -------------------------------------------------------------------------------------


def _plain(value: Any, where: str, budget: Iterator[int]) -> Any:
    """Return `value` as JSON has it, whole numbers as such: 1.0 and 1 are one setting."""
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
    is_float = isinstance(value, float) and math.isfinite(value)
    if not (is_float or value is None or isinstance(value, bool | int)):
        _refuse(value, where, "text, a finite number, a list or a mapping")
    return int(value) if is_float and value.is_integer() and abs(value) < _EXACT else value


def _text(value: Any, where: str) -> str:
    if isinstance(value, str) and not _CONTROL.search(value):
        return value
    message = f"{where} that is not plain text"
    hint = "quotes around it" if not isinstance(value, str) else ""
    raise BadInputError(message, value=value, expected="text", hint=hint)


# --- Keys: a function each, from a value and the name of its place to what is kept of it ------


def _models(value: Any, where: str, folder: Path) -> dict[str, dict[str, Any]]:
    models = _mapping(value, where)
    if not models:
        message = "study without models"
        raise BadInputError(message, expected="models: {NAME: {source: MODEL}}")
    return {
        safe_name(name, what="model"): _model(model, f"{where}.{name}", folder)
        for name, model in models.items()
    }


def _model(value: Any, where: str, folder: Path) -> dict[str, Any]:
    plain = _mapping({"source": value} if isinstance(value, str) else value, where)
    if ("source" in plain) == ("pretrain" in plain):
        message = f"{where} needs one of source and pretrain"
        expected = "source: a model, or pretrain: {config: ..., tokenizer: ..., data: ...}"
        raise BadInputError(message, expected=expected)
    known = model_keys()
    made = _settings({key: found for key, found in plain.items() if key not in known}, where)
    if "source" in plain:
        made["source"] = _string(plain["source"], f"{where}.source")
    for stage in makers():
        if stage.makes in plain:
            made[stage.makes] = _making(plain[stage.makes], f"{where}.{stage.makes}", stage, folder)
    for key, take in {**_AXES, **_PARTS}.items():
        if key in plain and not (key in _AXES and plain[key] is None):
            made[key] = take(plain[key], f"{where}.{key}")
    return made


def _making(value: Any, where: str, stage: Stage, folder: Path) -> dict[str, Any]:
    """Return how a model is made before runs of the matrix start from it, complete in itself."""
    deep = [name for name in ("config",) if name in declared(stage.settings)]
    beside = ("objective", "condition")
    plain = _settings(_mapping(value, where), where, beside=beside, deep=deep)
    if deep:
        config, place = plain.get("config"), folder
        if isinstance(config, str):
            place = (folder / config).parent
            config = _json(folder / config, f"{where}.config")
        config = dict(_mapping(config, f"{where}.config"))
        own = config.pop("tokenizer", None)
        if own is not None and "tokenizer" not in plain:
            plain["tokenizer"] = str(place / own) if (place / own).is_dir() else own
        plain["config"] = config
    for key in stage.needs:
        if key not in deep:
            _string(plain.get(key), f"{where}.{key}")
    return plain


def _json(file: Path, where: str) -> Any:
    try:
        return _plain(json.loads(file.read_text("utf-8")), where, iter(range(_MOST_VALUES)))
    except (OSError, ValueError, RecursionError) as error:
        message = f"{where} that cannot be read ({reason(error)})"
        expected = "a transformers configuration (JSON)"
        raise BadInputError(message, value=file, expected=expected) from error


def _placements(value: Any, where: str) -> dict[str, Any]:
    """Return each placement: blocks as ``tune`` takes them, None for all, or its description."""
    return {
        safe_name(name, what="placement"): _placement(found, f"{where}.{name}")
        for name, found in _optional(value, where).items()
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
    text = ",".join(str(part).strip() for part in parts).replace(" ", "")
    if _BLOCKS.fullmatch(text):
        return text
    message = f"blocks of {where}"
    raise BadInputError(message, value=value, expected='null for all, or such as "3,7,11"')


def _distance(value: Any, where: str) -> dict[str, Any] | None:
    """Return the settings of `distance`; None where it is not asked for."""
    if value is None:
        return None
    settings = _settings(value, where, beside=DIMENSIONS)
    _names(settings.get("objectives"), f"{where}.objectives")
    return settings


def _probing(value: Any, where: str) -> dict[str, dict[str, Any]]:
    """Return the settings of each stage that looks at models by depth, where one is asked for."""
    named = _optional(value, where)
    _refuse_unknown(named, probing(), f"key in {where}")
    return {
        stage: _settings(found, f"{where}.{stage}", beside=("objective",))
        for stage, found in named.items()
    }


def _override(value: Any, where: str) -> dict[str, Any]:
    plain = _mapping(value, where)
    _refuse_unknown(plain, ("where", "set"), f"key in {where}")
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
    _refuse_unknown(plain, DIMENSIONS, f"key in {where}")
    if not plain:
        message = f"{where} selects every run"
        raise BadInputError(message, expected="one or more of " + ", ".join(DIMENSIONS))
    return {
        key: _different(
            found if isinstance(found, list) else [found],
            f"{where}.{key}",
            _seed if key == "seed" else _string,
        )
        for key, found in plain.items()
    }


def _settings(
    value: Any, where: str, *, beside: Collection[str] = (), deep: Collection[str] = ()
) -> dict[str, Any]:
    """Return `value` as settings: names with plain values, or lists of text.

    Of names that the matrix gives, it may have those `beside`; of mappings, those called `deep`.
    """
    plain = dict(_optional(value, where))
    for key, found in plain.items():
        if key in DIMENSIONS and key not in beside:
            message = f"{where}.{key}: the matrix sets it"
            raise BadInputError(message, value=found, hint=f"{key}s: [...]")
        members = found if isinstance(found, list) else ()
        is_nested = isinstance(found, Mapping) or any(
            isinstance(v, Mapping | list) for v in members
        )
        if is_nested and key not in deep:
            hint = "a key too deep? settings stand beside each other"
            _refuse(found, f"{where}.{key}", "one value, or a list", hint=hint)
    if isinstance(plain.get("where"), str):
        plain["where"] = [plain["where"]]
    return plain


# --- Values -----------------------------------------------------------------------------------


def _refuse(value: Any, where: str, expected: str, *, hint: str = "") -> Never:
    message = f"value of {where}"
    raise BadInputError(message, value=value, expected=expected, hint=hint)


def _refuse_unknown(plain: Mapping[str, Any], known: Collection[str], what: str) -> None:
    for key in plain:
        if key not in known:
            raise UnknownNameError(what, value=key, known=known)


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        _refuse(value, where, "a mapping, such as {key: value}")
    if CALL_ONLY in value:
        message = f"{CALL_ONLY} in {where}, which a file cannot give"
        hint = "layerwise study run --trust-remote-code, once you have read that code"
        expected = "a study without it"
        raise BadInputError(message, value=value[CALL_ONLY], expected=expected, hint=hint)
    return value


def _optional(value: Any, where: str) -> Mapping[str, Any]:
    return {} if value is None else _mapping(value, where)


def _listed(value: Any, where: str, take: "_Taker") -> list[Any]:
    if value is not None and not isinstance(value, list):
        _refuse(value, where, "a list of rules")
    return [take(member, f"{where}[{i}]") for i, member in enumerate(value or ())]


def _different(value: Any, where: str, take: "_Taker") -> list[Any]:
    """Return the members of a list, each once."""
    if not isinstance(value, list):
        _refuse(value, where, "a list, such as [a, b]")
    found = [take(member, where) for member in value]
    twice = [member for member, times in Counter(found).items() if times > 1]
    if twice:
        message = f"{where} with a member that stands twice"
        raise BadInputError(message, value=twice[0], expected="each once")
    return found


def _names(value: Any, where: str) -> list[str]:
    return _different([] if value is None else value, where, _string)


def _seeds(value: Any, where: str) -> list[int]:
    return _different([0] if value is None else value, where, _seed)


def _string(value: Any, where: str) -> str:
    if isinstance(value, str) and value.strip():
        return value
    _refuse(value, where, "text")


def _seed(value: Any, where: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31:
        return value
    _refuse(value, where, "whole numbers from 0 to 2147483647")


def _bool(value: Any, where: str) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    _refuse(value, where, "true or false")


_Taker = Callable[[Any, str], Any]

#: What a matrix is spanned by, beside the models; and what else both a study and a model say.
_AXES: Mapping[str, _Taker] = {
    "objectives": _names,
    "conditions": _names,
    "placements": _placements,
    "seeds": _seeds,
}
_PARTS: Mapping[str, _Taker] = {"profile": _settings, "distance": _distance, "probing": _probing}
