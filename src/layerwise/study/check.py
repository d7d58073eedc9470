"""What cannot work, found before anything runs: for all runs at once, and without weights."""

import inspect
import json
import logging
import tempfile
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from layerwise.data.text import TextData, read
from layerwise.distance.choose import choose
from layerwise.distance.make import make_distance
from layerwise.errors import BadInputError, LayerwiseError, UnknownNameError
from layerwise.models.blank import tokenizer_source
from layerwise.models.load import LoadedModel, load, load_skeleton
from layerwise.models.roles import roles
from layerwise.objectives import OBJECTIVES, labels_for, resolve
from layerwise.objectives.classification import label_names
from layerwise.probing.ladder import rungs_of
from layerwise.probing.pairs import read_pairs
from layerwise.profile.probe_reading import ProbeReading, as_readout, make_reading
from layerwise.study.depthwise import LABELLED, SETTINGS
from layerwise.study.placing import Wanted, check_placement
from layerwise.study.record import CALL_ONLY, Cell, Study
from layerwise.tuning.conditions import CONDITIONS, Condition, places
from layerwise.tuning.record import TuneSettings

__all__ = ["Fault", "check", "refuse_faults", "settings_of"]

log = logging.getLogger(__name__)

#: Settings that the stages' functions have no argument for, or not one that users give.
_BESIDE: Mapping[str, Mapping[str, Any]] = {
    "pretrain": {"data": str, "config": Mapping, "tokenizer": str},
    "source": {"data": str, "source": str, "pretrained": str},
    "tune": {"data": str, "source": str, "pretrained": str, "placement": str | Mapping | None},
    "distance": {
        "data": str,
        "source": str,
        "pretrained": str,
        "objectives": Sequence[str] | None,
        "reference": str | None,
    },
    **{
        stage: {"pairs" if stage == "erase" else "data": str, "source": str, "pretrained": str}
        for stage in SETTINGS
    },
}

_SHOWN = 3


@dataclass(frozen=True)
class Fault:
    """Why some runs cannot work.

    Attributes:
        model: Their model.
        objective: Their objective; None where the fault is of all.
        condition: Their condition, likewise.
        runs: How many they are.
        message: The reason, in one line.
    """

    model: str
    objective: str | None
    condition: str | None
    runs: int
    message: str

    def __str__(self) -> str:
        """The fault in one line."""
        where = " ".join(part for part in (self.model, self.objective, self.condition) if part)
        return f"{where} ({self.runs} {'run' if self.runs == 1 else 'runs'}): {self.message}"


def refuse_faults(study: Study, cells: Iterable[Cell], *, trust_remote_code: bool = False) -> None:
    """Every one of `cells`, runs of `study`, can work, as far as that shows without weights.

    Raises:
        UnknownNameError: A setting does not exist.
        BadInputError: Some cannot; every reason is logged before.
    """
    cells = list(cells)
    for stage, names in dict.fromkeys((cell.stage, tuple(cell.settings)) for cell in cells):
        _refuse_unknown(stage, names)
    for names in dict.fromkeys(tuple(cell.settings.get("profile", ())) for cell in cells):
        _refuse_unknown("profile", names)
    faults = check(study, cells, trust_remote_code=trust_remote_code)
    if not faults:
        return
    for fault in faults:
        log.error("cannot work: %s", fault)
    wrong = sum(fault.runs for fault in faults)
    told = " | ".join(map(str, faults[:_SHOWN])) + (" | …" if len(faults) > _SHOWN else "")
    message = f"runs of the study that cannot work, {wrong} of {len(study.cells)}"
    hint = "exclude them, or correct the study"
    raise BadInputError(message, value=told, hint=hint)


def check(
    study: Study, cells: Iterable[Cell], *, trust_remote_code: bool = False
) -> tuple[Fault, ...]:
    """Why which of `cells` cannot work; empty where all can.

    Looked at are settings (names, types, ranges), models and data (that they are there, and what
    the models' configurations say), objectives, conditions and placements.

    Args:
        study: The study.
        cells: Those of its runs that are looked at.
        trust_remote_code: Whether code that a model's repository brings may run.
    """
    alike: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        alike.setdefault(_likeness(cell), []).append(cell)
    found: dict[tuple[str, str | None, str | None, str], int] = {}
    with tempfile.TemporaryDirectory() as folder, _quiet():
        checker = _Checker(_configurations(study, Path(folder)), trust_remote_code)
        for same in alike.values():
            first = same[0]
            message = checker.fault(first)
            if message is not None:
                key = (first.model, first.objective, first.condition, message)
                found[key] = found.get(key, 0) + len(same)
    return tuple(_gathered(found))


def _likeness(cell: Cell) -> tuple[Any, ...]:
    """What decides whether a cell can work: all but its seed."""
    settings = {key: value for key, value in cell.settings.items() if key != "pretrained"}
    told = json.dumps(settings, sort_keys=True)
    return cell.stage, cell.model, cell.objective, cell.condition, cell.placement, told


def _gathered(
    found: Mapping[tuple[str, str | None, str | None, str], int],
) -> Iterator[Fault]:
    """A fault for each reason that a model has, with the objective and condition if it has one."""
    reasons: dict[tuple[str, str], list[tuple[str | None, str | None, int]]] = {}
    for (model, objective, condition, message), runs in found.items():
        reasons.setdefault((model, message), []).append((objective, condition, runs))
    for (model, message), cases in reasons.items():
        objectives, conditions = {case[0] for case in cases}, {case[1] for case in cases}
        yield Fault(
            model,
            objectives.pop() if len(objectives) == 1 else None,
            conditions.pop() if len(conditions) == 1 else None,
            sum(case[2] for case in cases),
            message,
        )


def _configurations(study: Study, folder: Path) -> dict[str, str]:
    """What models that the study makes itself are made of: sources, or files in `folder`."""
    files = {}
    for cell in study.cells:
        if cell.stage == "pretrain" and cell.model not in files:
            file = folder / f"{cell.model}.json"
            file.write_text(json.dumps(cell.settings["config"]), encoding="utf-8")
            files[cell.model] = str(file)
        elif cell.stage == "source" and "source" in cell.settings:
            files[cell.model] = cell.settings["source"]
    return files


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, layerwise says nothing of what it reads: the runs will."""
    logger = logging.getLogger("layerwise")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


# --- Settings ---------------------------------------------------------------------------------


def settings_of(stage: str) -> dict[str, Any]:
    """The types of the settings that a stage knows, by name; ``profile`` and ``placement`` too."""
    if stage == "profile":
        return {f.name: f.type for f in fields(ProbeReading)} | _arguments(make_reading)
    if stage == "placement":
        return {f.name: f.type for f in fields(Wanted)}
    loading = {
        name: kind
        for name, kind in _arguments(load).items()
        if name not in {"source", "labels", "seed", CALL_ONLY}
    }
    if stage == "erase":
        return {**_BESIDE[stage], **SETTINGS[stage], **loading}
    shared = {**_BESIDE[stage], **_arguments(read, without=("source", "seed")), **loading}
    if stage == "probe":
        return {**shared, **SETTINGS[stage]}
    if stage == "distance":
        without = ("loaded", "data", "objectives", "progress", "seed")
        return {**shared, **_arguments(make_distance, without=without)}
    shared |= SETTINGS.get(stage, {})
    training = {f.name: f.type for f in fields(TuneSettings) if f.name != "seed"}
    profile = {"profile": Mapping} if stage in {"tune", "interventions"} else {}
    return {**shared, **training, **profile}


def _arguments(function: Callable[..., Any], *, without: Sequence[str] = ()) -> dict[str, Any]:
    """The types of the named arguments of `function`."""
    return {
        name: parameter.annotation
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD and name not in without
    }


def _refuse_unknown(stage: str, names: Iterable[str]) -> None:
    """Settings of these names are known to the stage.

    Raises:
        UnknownNameError: One is not.
    """
    known = settings_of(stage)
    for name in names:
        if name not in known:
            what = f"setting of {stage}"
            raise UnknownNameError(what, value=name, known=sorted(known))


def _refuse_settings(stage: str, settings: Mapping[str, Any]) -> None:
    """Settings are known to the stage, of their type, and in range.

    Raises:
        UnknownNameError: One is not known.
        BadInputError: A value cannot be used.
    """
    known = settings_of(stage)
    _refuse_unknown(stage, settings)
    for name, value in settings.items():
        if not _is_a(value, known[name]):
            message = f"value of {name}"
            raise BadInputError(message, value=value, expected=_type_name(known[name]))
        least = _LEAST.get(name, 0)
        if isinstance(value, int | float) and not isinstance(value, bool) and value < least:
            message = f"value of {name}"
            raise BadInputError(message, value=value, expected=f"{least} or more")


def _leasts() -> Iterator[tuple[str, int]]:
    """Whole numbers that are positive by default count something that there must be."""
    for known in (*fields(TuneSettings), *fields(ProbeReading)):
        if isinstance(known.default, int) and not isinstance(known.default, bool):
            yield known.name, min(known.default, 1)


_LEAST = {**dict(_leasts()), "examples": 1}


_JSON: Mapping[Any, tuple[type, ...]] = {
    float: (int, float),
    int: (int,),
    str: (str,),
    Mapping: (dict,),
}


def _is_a(value: Any, kind: Any) -> bool:
    """Whether a JSON value is of the annotated type; types that JSON has not are not looked at."""
    origin = get_origin(kind)
    if origin in {Union, types.UnionType}:
        return any(_is_a(value, each) for each in get_args(kind))
    if origin is not None:
        return _is_generic(value, origin, get_args(kind))
    if kind in {None, type(None), Any}:
        return kind is Any or value is None
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, _JSON.get(kind, ()))


def _is_generic(value: Any, origin: Any, arguments: tuple[Any, ...]) -> bool:
    """Whether `value` is a list of the members' type, or one of the literals."""
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return isinstance(value, list) and all(_is_a(each, arguments[0]) for each in value)
    return value in arguments


def _type_name(kind: Any) -> str:
    """An annotated type in words that users know."""
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    if get_origin(kind) in {Union, types.UnionType}:
        told = [_type_name(each) for each in get_args(kind) if each is not type(None)]
        return " or ".join(dict.fromkeys(told))
    if isinstance(get_origin(kind), type) and issubclass(get_origin(kind), Sequence):
        return "a list of text"
    if get_args(kind):
        return "one of " + ", ".join(map(str, get_args(kind)))
    return names.get(kind, "a mapping" if kind is Mapping else str(kind))


# --- Models, data, objectives -----------------------------------------------------------------


@dataclass
class _Checker:
    """Looks at one cell after another, at each model and each text once.

    Attributes:
        made: The configuration files of models that the study makes itself.
        trusts: Whether code that a model's repository brings may run.
        known: What was read, or why it could not be, by what was asked for.
    """

    made: Mapping[str, str]
    trusts: bool
    known: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    def fault(self, cell: Cell) -> str | None:
        """Why `cell` cannot work; None where it can."""
        looks = {
            "pretrain": self._pretrain,
            "source": self._training,
            "tune": self._tune,
            "distance": self._distance,
            "probe": self._probe,
            "erase": self._erase,
            "ladder": self._ladder,
            "interventions": self._interventions,
        }
        try:
            _refuse_settings(cell.stage, cell.settings)
            looks[cell.stage](cell)
        except LayerwiseError as error:
            return error.message
        return None

    def _pretrain(self, cell: Cell) -> None:
        words = cell.settings["tokenizer"]
        self._once(("tokenizer", words), lambda: tokenizer_source(words, folder=Path()))
        self._training(cell)

    def _tune(self, cell: Cell) -> None:
        OBJECTIVES[str(cell.objective)]  # `auto` would hide in tables what was trained.
        _refuse_settings("profile", cell.settings["profile"])
        self._reading(cell.settings["profile"])
        self._training(cell)

    def _reading(self, options: Mapping[str, Any]) -> None:
        as_readout(str(options.get("readout", "hf")))
        if options.get("probes") is not None:
            self._once(("probes", _key(options)), lambda: make_reading(**options))

    def _training(self, cell: Cell) -> None:
        condition, text = CONDITIONS[str(cell.condition)], self._text(cell)
        settings = _refuse_unread(condition, cell.settings)
        labels = labels_for(str(cell.objective), text)
        loaded = self._skeleton(cell, labels)
        resolve(str(cell.objective), loaded=loaded, data=text)
        if condition.adapters:
            described = cell.settings.get("placement")
            if isinstance(described, Mapping):
                _refuse_settings("placement", described)
            check_placement(described, loaded)
        else:
            condition.trained(places(roles(loaded.model, loaded.stacks), loaded.stacks), settings)

    def _distance(self, cell: Cell) -> None:
        text, asked = self._text(cell), cell.settings
        loaded = self._skeleton(cell, labels_for("auto", text))
        choose(loaded, text, objectives=asked.get("objectives"), reference=asked.get("reference"))

    def _probe(self, cell: Cell) -> None:
        as_readout(str(cell.settings.get("readout", "hf")))
        label_names(self._text(cell))
        self._skeleton(cell, None)

    def _erase(self, cell: Cell) -> None:
        as_readout(str(cell.settings.get("readout", "hf")))
        source = cell.settings["pairs"]
        self._once(("pairs", source), lambda: read_pairs(source))
        self._skeleton(cell, None)

    def _ladder(self, cell: Cell) -> None:
        text, loss = self._text(cell), str(cell.settings.get("objective", ""))
        loaded = self._skeleton(cell, labels_for(loss, text))
        resolve(loss, loaded=loaded, data=text)
        rungs_of(cell.settings.get("tops"), loaded)

    def _interventions(self, cell: Cell) -> None:
        text, loss = self._text(cell), str(cell.settings.get("objective", ""))
        loaded = self._skeleton(cell, labels_for(loss, text))
        resolve(loss, loaded=loaded, data=text)
        self._reading(cell.settings.get("profile", {}))
        most, blocks = (
            max(len(stack.blocks) for stack in loaded.stacks),
            cell.settings.get("blocks"),
        )
        if blocks is None or blocks > most:
            message = "number of blocks of the interventions"
            raise BadInputError(message, value=blocks, expected=f"1 to {most}", hint="blocks: K")

    def _text(self, cell: Cell) -> TextData:
        names = _arguments(read, without=("source", "seed"))
        options = {name: cell.settings[name] for name in names if name in cell.settings}
        options = {**LABELLED.get(cell.stage, {}), **options}
        source = cell.settings["data"]
        found: TextData = self._once(
            ("text", source, _key(options)), lambda: read(source, **options)
        )
        return found

    def _skeleton(self, cell: Cell, labels: tuple[str, ...] | None) -> LoadedModel:
        """The cell's model without its weights, with a head for `labels`."""
        source = cell.settings.get("source", self.made.get(cell.model))
        found: LoadedModel = self._once(
            ("model", source, labels),
            lambda: load_skeleton(source, trust_remote_code=self.trusts, labels=labels),
        )
        return found

    def _once(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """What `make` gives, or the error that it raised, made when first asked for.

        Raises:
            LayerwiseError: As `make` did.
        """
        if key not in self.known:
            try:
                self.known[key] = make()
            except LayerwiseError as error:
                self.known[key] = error
        if isinstance(self.known[key], LayerwiseError):
            raise self.known[key]
        return self.known[key]


def _key(options: Mapping[str, Any]) -> str:
    return json.dumps(options, sort_keys=True)


def _refuse_unread(condition: Condition, given: Mapping[str, Any]) -> TuneSettings:
    """The settings of training; none is there that another condition alone reads.

    Raises:
        BadInputError: One is; it would have no effect.
    """
    names = {f.name for f in fields(TuneSettings)}
    settings = TuneSettings(**{k: v for k, v in given.items() if k in names})
    plain, own = asdict(settings), asdict(TuneSettings())
    unread = {name for c in CONDITIONS for name in CONDITIONS[c].reads} - condition.reads
    odd = sorted(name for name in unread if plain[name] != own[name])
    if odd:
        takers = [c for c in CONDITIONS if odd[0] in CONDITIONS[c].reads]
        message = f"{odd[0]} has no meaning under condition {condition.name}"
        hint = f"override: [{{where: {{condition: {takers[0]}}}, set: {{{odd[0]}: ...}}}}]"
        raise BadInputError(message, value=plain[odd[0]], hint=hint)
    return settings
