"""A study's matrix as cells: every combination that is left after exclusions, with its settings."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layerwise.errors import BadInputError, UnknownNameError
from layerwise.study.read import checked, model_keys, read
from layerwise.study.record import DIMENSIONS, Cell, Study
from layerwise.study.stages import STAGES, makers
from layerwise.tuning.conditions import CONDITIONS

MOST = 1_000_000
"""Runs of a study, counted before exclusions."""

#: The condition whose adapters a placement is for.
_PLACED = "lora"


def study_from(study: Path | str | Mapping[str, Any]) -> Study:
    """Return the study in a file, or in a mapping with the file's keys, as cells.

    Raises:
        SchemaError: It is of another schema.
        BadInputError: It cannot be read, something in it cannot be used, or no run is left of it.
    """
    if isinstance(study, Mapping):
        return expand(checked(study, folder=Path()))
    plain, text = read(Path(study))
    return expand(plain, text=text)


def expand(plain: Mapping[str, Any], *, text: bytes = b"") -> Study:
    """Return the study of `plain`, which `layerwise.study.read` has checked, as cells.

    What makes models comes first, then training by model, objective, condition, placement and seed
    as they are listed, then distances, then what looks at models by depth. A model that is
    pretrained, or fine-tuned on other text first, is so once a seed.

    Raises:
        BadInputError: There are no runs or too many, or a rule selects none.
        UnknownNameError: A rule names what the study does not have.
    """
    models = [_Model(name, own, plain) for name, own in plain["models"].items()]
    total = sum(model.size() for model in models)
    if total > MOST:
        message = "matrix of too many runs"
        raise BadInputError(message, value=f"{total:,}", expected=f"at most {MOST:,}")
    rules = [
        *(_RunFilter(f"exclude[{i}]", rule) for i, rule in enumerate(plain["exclude"])),
        *(
            _RunFilter(f"override[{i}]", r["where"], r["set"])
            for i, r in enumerate(plain["override"])
        ),
    ]
    _refuse_names(rules, models)
    trained = [cell for model in models for cell in model.trained(rules)]
    _refuse_unused(rules, models, plain)
    probed = [cell for model in models for cell in model.probed()]
    if not trained and not probed:
        message = "matrix without a run"
        expected = "models, objectives, conditions and seeds, not all of them excluded"
        raise BadInputError(message, value=plain["name"], expected=expected)
    made = [cell for model in models for cell in model.made.values()]
    apart = [cell for model in models for cell in model.distances(trained)]
    cells = (*made, *trained, *apart, *probed)
    return Study(plain["name"], cells, plain["keep_weights"], plain, text)


@dataclass
class _RunFilter:
    """A choice of runs by values of dimensions: for the settings `chosen`, or None to exclude."""

    label: str
    where: Mapping[str, Sequence[Any]]
    chosen: Mapping[str, Any] | None = None
    is_used: bool = False

    def selects(self, run: Mapping[str, Any]) -> bool:
        """Return whether it selects `run`, a value of each dimension; it is used then."""
        found = all(run[axis] in values for axis, values in self.where.items())
        self.is_used = self.is_used or found
        return found


@dataclass
class _Model:
    """A model of a study, and the work of its expansion.

    `own` is what the study says of it alone, `made` the runs that make it, as far as they were
    found to be needed: by stage and seed.
    """

    name: str
    own: Mapping[str, Any]
    study: Mapping[str, Any]
    made: dict[tuple[str, int], Cell] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.asked = {"probing": {}, **self.study, **self.own}  # None in the first edition's.
        self.base = {
            **self.study["defaults"],
            **{key: value for key, value in self.own.items() if key not in model_keys()},
            "profile": {**self.study["profile"], **self.own.get("profile", {})},
        }

    def size(self) -> int:
        """Return how many runs train it, counted before exclusions."""
        axes = {axis: self.asked[axis] for axis in ("objectives", "conditions")}
        if self.asked["probing"] and not any(axes.values()):
            return 0  # It is looked at, and not trained.
        for axis, members in axes.items():
            if not members:
                message = f"model {self.name} without {axis}"
                raise BadInputError(message, expected=f"{axis}: [...], of the study or the model")
        sizes = [*map(len, axes.values()), len(self.asked["seeds"])]
        return math.prod(sizes) * max(1, len(self.asked["placements"]))

    def trained(self, rules: Sequence[_RunFilter]) -> Iterator[Cell]:
        """Yield the cells of training."""
        for objective, condition in itertools.product(
            self.asked["objectives"], self.asked["conditions"]
        ):
            named = self.asked["placements"] if condition == _PLACED else ()
            for placement, seed in itertools.product(named or [None], self.asked["seeds"]):
                values = (self.name, objective, condition, placement, seed)
                run = dict(zip(DIMENSIONS, values, strict=True))
                found = [rule for rule in rules if rule.chosen is None and rule.selects(run)]
                if found:
                    continue
                settings = self._settings(rules, run)
                start, after = self._start(seed)
                rule = CONDITIONS[condition].rule
                yield Cell("tune", *values, start | settings, after, rule)

    def _settings(self, rules: Sequence[_RunFilter], run: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a run of training."""
        made = dict(self.base)
        for rule in rules:
            if rule.chosen is not None and rule.selects(run):
                profile = {**made["profile"], **rule.chosen.get("profile", {})}
                made |= {**rule.chosen, "profile": profile}
        placement = run["placement"]
        made["placement"] = None if placement is None else self.asked["placements"][placement]
        if "data" not in made:
            message = f"model {self.name} without data"
            raise BadInputError(message, expected="defaults: {data: DATA}")
        return made

    def _start(self, seed: int) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Return what a run starts from, as settings, and the run before it, made once."""
        start = {"source": self.own["source"]} if "source" in self.own else {}
        after: tuple[str, ...] = ()
        for stage in makers():
            if stage.makes not in self.own:
                continue
            if (stage.name, seed) not in self.made:
                how = {"objective": "auto", "condition": "uniform"} | start | self.own[stage.makes]
                names = how.pop("objective"), how.pop("condition"), None
                rule = CONDITIONS[names[1]].rule
                cell = Cell(stage.name, self.name, *names, seed, how, after, rule)
                self.made[stage.name, seed] = cell
            after = (self.made[stage.name, seed].id,)
            start = {"pretrained": after[0]}
        return start, after

    def distances(self, trained: Sequence[Cell]) -> Iterator[Cell]:
        """Yield the cells of objective distances, where it is among those that are trained."""
        mine = dict.fromkeys(cell.objective for cell in trained if cell.model == self.name)
        if self.asked["distance"] is None or not mine:
            return
        taken = {key: self.base[key] for key in STAGES["distance"].takes if key in self.base}
        settings = {**taken, "objectives": [*mine], **self.asked["distance"]}
        own = settings.pop("seed", 0)
        for seed in dict.fromkeys(seed for _, seed in self.made) or [own]:
            start, after = self._start(seed)
            yield Cell("distance", self.name, None, None, None, seed, settings | start, after)

    def probed(self) -> Iterator[Cell]:
        """Yield the cells that look at it by depth: each stage that is asked for, a seed each."""
        for name, asked in self.asked["probing"].items():
            stage = STAGES[name]
            taken = {key: value for key, value in self.base.items() if key in stage.takes}
            for seed in self.asked["seeds"]:
                start, after = self._start(seed)
                settings = {**taken, **asked, **start}
                for needed in stage.needs:
                    if needed not in settings:
                        message = f"{name} of model {self.name} without {needed}"
                        expected = f"probing: {{{name}: {{{needed}: ...}}}}"
                        raise BadInputError(message, expected=expected)
                yield Cell(name, self.name, None, None, None, seed, settings, after)


def _refuse_names(rules: Sequence[_RunFilter], models: Sequence[_Model]) -> None:
    """Raise where a rule names what there is not."""
    known: dict[str, set[Any]] = {"model": {model.name for model in models}}
    for axis in DIMENSIONS[1:]:
        known[axis] = set().union(*(model.asked[f"{axis}s"] for model in models))
    for rule in rules:
        for axis, values in rule.where.items():
            for value in values:
                if value not in known[axis]:
                    names = [str(name) for name in sorted(known[axis])]
                    what = f"{axis} in {rule.label}"
                    raise UnknownNameError(what, value=str(value), known=names)


def _refuse_unused(
    rules: Sequence[_RunFilter], models: Sequence[_Model], plain: Mapping[str, Any]
) -> None:
    """Raise where a rule or a placement is without effect; a slip would go unseen."""
    for rule in rules:
        if not rule.is_used:
            message = f"{rule.label} that selects no run"
            parts = (f"{axis}: {', '.join(map(str, v))}" for axis, v in rule.where.items())
            expected = "a rule with an effect: its runs may be excluded before, or not exist"
            raise BadInputError(message, value=", ".join(parts), expected=expected)
    bare = [model for model in models if _PLACED not in model.asked["conditions"]]
    for model in bare:
        if model.own.get("placements"):
            message = f"placements of model {model.name}, which has no condition for them"
            told = ", ".join(model.asked["conditions"])
            raise BadInputError(message, value=told, expected=_PLACED)
    if plain["placements"] and len(bare) == len(models):
        message = "placements of a study that has no condition for them"
        raise BadInputError(message, expected=_PLACED, hint=f"conditions: [..., {_PLACED}]")
