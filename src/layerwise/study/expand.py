"""A study's matrix as cells: every combination that is left after exclusions, with its settings."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layerwise.errors import BadInputError, UnknownNameError
from layerwise.study.read import MODEL_KEYS, checked, read
from layerwise.study.record import Cell, Study
from layerwise.study.stages import READING, STAGES

__all__ = ["MOST", "expand", "study_from"]

MOST = 1_000_000
"""Runs of a study, counted before exclusions."""

#: The stages that make what runs start from, one after the other, and a model's keys for them.
_MAKING = (("pretrain", "pretrain"), ("source", "source_tuning"))
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

    Pretraining comes first, then training by model, objective, condition, placement and seed as
    they are listed, then distances, then what looks at models by depth. A model that is pretrained,
    or fine-tuned on other text first, is so once a seed.

    Raises:
        BadInputError: There are no runs or too many, or a rule selects none.
        UnknownNameError: A rule names what the study does not have.
    """
    _check_size(plain)
    matrix = _Matrix(plain)
    matrix.check_rules()
    trained = list(matrix.trained())
    matrix.check_use()
    probed = list(matrix.probed())
    if not trained and not probed:
        message = "matrix without a run"
        expected = "models, objectives, conditions and seeds, not all of them excluded"
        raise BadInputError(message, value=plain["name"], expected=expected)
    cells = (*matrix.made.values(), *trained, *matrix.distances(trained), *probed)
    return Study(plain["name"], cells, plain["keep_weights"], plain, text)


def _check_size(plain: Mapping[str, Any]) -> None:
    """Each model has something to do, and all together not too much.

    Raises:
        BadInputError: Otherwise.
    """
    total = 0
    for name, model in plain["models"].items():
        spans = [_axis(plain, model, axis) for axis in ("objectives", "conditions")]
        if _looks(plain, model) and not any(spans):
            continue  # It is looked at, and not trained.
        for axis, members in zip(("objectives", "conditions"), spans, strict=True):
            if not members:
                message = f"model {name} without {axis}"
                raise BadInputError(message, expected=f"{axis}: [...], of the study or the model")
        placed = max(1, len(_axis(plain, model, "placements")))
        sizes = [len(_axis(plain, model, a)) for a in ("objectives", "conditions", "seeds")]
        total += math.prod(sizes) * placed
    if total > MOST:
        message = "matrix of too many runs"
        raise BadInputError(message, value=f"{total:,}", expected=f"at most {MOST:,}")


def _axis(plain: Mapping[str, Any], model: Mapping[str, Any], name: str) -> Any:
    """Return the members of an axis for a model: its own, else the study's."""
    return model[name] if name in model else plain[name]


def _looks(plain: Mapping[str, Any], model: Mapping[str, Any]) -> Any:
    """The stages that look at a model by depth, with their settings; none in older studies."""
    return model.get("probing", plain.get("probing", {}))


@dataclass
class _Matrix:
    """The work of one expansion.

    Attributes:
        plain: The study.
        made: The runs that make models, which were found to be needed: by stage, model and seed.
        used: The rules that selected a run, as (``exclude`` or ``override``, number).
        merged: Settings that many cells share, by what they follow from.
    """

    plain: Mapping[str, Any]
    made: dict[tuple[str, str, int], Cell] = field(default_factory=dict)
    used: set[tuple[str, int]] = field(default_factory=set)
    merged: dict[tuple[Any, ...], dict[str, Any]] = field(default_factory=dict)

    def trained(self) -> Iterator[Cell]:
        """Yield the cells of training."""
        for name, model in self.plain["models"].items():
            objectives, conditions, seeds = (
                _axis(self.plain, model, axis) for axis in ("objectives", "conditions", "seeds")
            )
            for objective, condition in itertools.product(objectives, conditions):
                for placement, seed in itertools.product(self._places(model, condition), seeds):
                    where = (name, objective, condition, placement, seed)
                    if not self._matching("exclude", where):
                        yield self._cell(model, where)

    def _places(self, model: Mapping[str, Any], condition: str) -> Sequence[str | None]:
        """Return the placements of a condition: none but where adapters are placed."""
        named = list(_axis(self.plain, model, "placements"))
        return named if condition == _PLACED and named else [None]

    def _matching(self, kind: str, where: tuple[Any, ...]) -> tuple[int, ...]:
        """Return the numbers of the rules that select the run at `where`."""
        found = []
        for number, rule in enumerate(self.plain[kind]):
            if _selects(rule["where"] if kind == "override" else rule, where):
                self.used.add((kind, number))
                found.append(number)
        return tuple(found)

    def _cell(self, model: Mapping[str, Any], where: tuple[Any, ...]) -> Cell:
        name, objective, condition, placement, seed = where
        settings = self._settings(model, name, placement, self._matching("override", where))
        if "data" not in settings:
            message = f"model {name} without data"
            raise BadInputError(message, expected="defaults: {data: DATA}")
        start, after = self._start(model, name, seed)
        return Cell("tune", name, objective, condition, placement, seed, start | settings, after)

    def _settings(
        self, model: Mapping[str, Any], name: str, placement: str | None, rules: tuple[int, ...]
    ) -> dict[str, Any]:
        """Return the settings of a cell, one object for all that have the same."""
        key = (name, placement, rules)
        if key not in self.merged:
            made = _base(self.plain, model)
            for number in rules:
                given = dict(self.plain["override"][number]["set"])
                made["profile"] = {**made["profile"], **given.pop("profile", {})}
                made |= given
            blocks = _axis(self.plain, model, "placements")
            made["placement"] = None if placement is None else blocks[placement]
            self.merged[key] = made
        return self.merged[key]

    def _start(
        self, model: Mapping[str, Any], name: str, seed: int
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Return what a run of the model `name` starts from, as settings, and the run before it."""
        start: dict[str, Any] = {}
        after: tuple[str, ...] = ()
        if "source" in model:
            start = {"source": model["source"]}
        for stage, key in _MAKING:
            if key in model:
                made = self._make(stage, name, seed, {**start, **model[key]}, after)
                after = (made.id,)
                start = {"pretrained": made.id}
        return start, after

    def _make(
        self,
        stage: str,
        name: str,
        seed: int,
        settings: dict[str, Any],
        after: tuple[str, ...],
    ) -> Cell:
        """Return the run that makes the model called `name` from `seed`, once."""
        key = (stage, name, seed)
        if key not in self.made:
            objective = settings.pop("objective", "auto")
            condition = settings.pop("condition", "uniform")
            cell = Cell(stage, name, objective, condition, None, seed, settings, after)
            self.made[key] = cell
        return self.made[key]

    def distances(self, trained: Sequence[Cell]) -> Iterator[Cell]:
        """Yield the cells of objective distances, of each model that is trained."""
        objectives: dict[str, dict[str, None]] = {}
        for cell in trained:
            objectives.setdefault(cell.model, {})[str(cell.objective)] = None
        for name, model in self.plain["models"].items():
            asked = model.get("distance", self.plain["distance"])
            if asked is not None and name in objectives:
                yield from self._distance(model, name, {"objectives": [*objectives[name]], **asked})

    def _distance(
        self, model: Mapping[str, Any], name: str, asked: Mapping[str, Any]
    ) -> Iterator[Cell]:
        base = _base(self.plain, model)
        settings = {key: base[key] for key in READING if key in base} | dict(asked)
        own = settings.pop("seed", 0)
        seeds = list(dict.fromkeys(seed for _, n, seed in self.made if n == name))
        for seed in seeds or [own]:
            start, after = self._start(model, name, seed)
            yield Cell("distance", name, None, None, None, seed, {**settings, **start}, after)

    def probed(self) -> Iterator[Cell]:
        """The cells that look at models by depth: each stage that is asked for, a seed each."""
        for name, model in self.plain["models"].items():
            stages = _looks(self.plain, model)
            for stage, seed in itertools.product(stages, _axis(self.plain, model, "seeds")):
                start, after = self._start(model, name, seed)
                row, base = STAGES[stage], _base(self.plain, model)
                taken = {key: value for key, value in base.items() if key in row.takes}
                settings = {**taken, **stages[stage], **start}
                if row.needs and row.needs not in settings:
                    message = f"{stage} of model {name} without {row.needs}"
                    expected = f"probing: {{{stage}: {{{row.needs}: ...}}}}"
                    raise BadInputError(message, expected=expected)
                yield Cell(stage, name, None, None, None, seed, settings, after)

    def check_rules(self) -> None:
        """Rules name what there is.

        Raises:
            UnknownNameError: One does not.
        """
        models = self.plain["models"]
        known: dict[str, set[Any]] = {"model": set(models)}
        for axis in ("objective", "condition", "placement", "seed"):
            for model in models.values():
                known.setdefault(axis, set()).update(_axis(self.plain, model, f"{axis}s"))
        for kind, number, rule in self._rules():
            for axis, values in rule.items():
                for value in values:
                    if value not in known[axis]:
                        what = f"{axis} in {kind}[{number}]"
                        names = [str(name) for name in sorted(known[axis])]
                        raise UnknownNameError(what, value=str(value), known=names)

    def check_use(self) -> None:
        """Every rule selected a run, and every placement has a condition that it is for.

        Raises:
            BadInputError: One is without effect; a slip would go unseen.
        """
        for kind, number, rule in self._rules():
            if (kind, number) not in self.used:
                message = f"{kind}[{number}] that selects no run"
                expected = "a rule with an effect: its runs may be excluded before, or not exist"
                raise BadInputError(message, value=_told(rule), expected=expected)
        for name, model in self.plain["models"].items():
            conditions = _axis(self.plain, model, "conditions")
            if model.get("placements") and _PLACED not in conditions:
                message = f"placements of model {name}, which has no condition for them"
                raise BadInputError(message, value=", ".join(conditions), expected=_PLACED)
        if self.plain["placements"] and not any(
            _PLACED in _axis(self.plain, model, "conditions")
            for model in self.plain["models"].values()
        ):
            message = "placements of a study that has no condition for them"
            raise BadInputError(message, expected=_PLACED, hint=f"conditions: [..., {_PLACED}]")

    def _rules(self) -> Iterator[tuple[str, int, Mapping[str, Sequence[Any]]]]:
        for number, rule in enumerate(self.plain["exclude"]):
            yield "exclude", number, rule
        for number, rule in enumerate(self.plain["override"]):
            yield "override", number, rule["where"]


def _base(plain: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a model's training before rules."""
    own = {key: value for key, value in model.items() if key not in MODEL_KEYS}
    profile = {**plain["profile"], **model.get("profile", {})}
    return {**plain["defaults"], **own, "profile": profile}


_PLACES = {"model": 0, "objective": 1, "condition": 2, "placement": 3, "seed": 4}


def _selects(rule: Mapping[str, Sequence[Any]], where: tuple[Any, ...]) -> bool:
    return all(where[_PLACES[axis]] in values for axis, values in rule.items())


def _told(rule: Mapping[str, Sequence[Any]]) -> str:
    """Return a rule in one line."""
    return ", ".join(f"{axis}: {', '.join(map(str, values))}" for axis, values in rule.items())
