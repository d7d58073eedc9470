"""What each stage of a study needs, looked at without weights: settings, models, data, blocks."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from layerwise.data.text import TextData, read
from layerwise.distance.choose import choose
from layerwise.errors import BadInputError, LayerwiseError
from layerwise.models.blank import tokenizer_source
from layerwise.models.load import LoadedModel, load_skeleton
from layerwise.models.roles import roles
from layerwise.objectives import OBJECTIVES, labels_for, resolve
from layerwise.objectives.classification import label_names
from layerwise.options.check import known, value_of
from layerwise.options.commands import ProfileSettings
from layerwise.options.declaration import declared, pick
from layerwise.options.groups import CALL_ONLY, TextOptions
from layerwise.options.stages import PlacementSettings
from layerwise.probing.ladder import rungs_of
from layerwise.probing.pairs import read_pairs
from layerwise.profile.probe_reading import as_readout, make_reading
from layerwise.study.depthwise import LABELLED
from layerwise.study.placing import check_placement
from layerwise.study.record import Cell
from layerwise.tuning.conditions import CONDITIONS, Condition, places
from layerwise.tuning.record import TuneSettings

__all__ = [
    "Checker",
    "check_distance",
    "check_erase",
    "check_interventions",
    "check_ladder",
    "check_pretrain",
    "check_probe",
    "check_training",
    "check_tune",
    "refuse_settings",
]


def refuse_settings(what: str, group: type, settings: Mapping[str, Any]) -> None:
    """Refuse settings that `group` has not, of another type, or out of range.

    Raises:
        UnknownNameError: One is not known.
        BadInputError: A value cannot be used.
    """
    options = declared(group)
    for name, value in settings.items():
        option = known(name, options, what=f"setting of {what}")
        value_of(option, value, label=name, texts=False)


@dataclass
class Checker:
    """Looks at one cell after another, at each model and each text once.

    Attributes:
        made: The configuration files of models that the study makes itself.
        trusts: Whether code that a model's repository brings may run.
        known: What was read, or why it could not be, by what was asked for.
    """

    made: Mapping[str, str]
    trusts: bool
    known: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    def reading(self, options: Mapping[str, Any]) -> None:
        """Read the probes of a profile once.

        Raises:
            LayerwiseError: They cannot be read, or there is no such readout.
        """
        as_readout(str(options.get("readout", "hf")))
        if options.get("probes") is not None:
            self.once(("probes", _key(options)), lambda: make_reading(**options))

    def text(self, cell: Cell, **unsaid: Any) -> TextData:
        """Return the text that the cell names, read once; `unsaid` where its settings do not."""
        options = unsaid | pick(TextOptions, cell.settings)
        source = cell.settings["data"]
        key = ("text", source, _key(options))
        found: TextData = self.once(key, lambda: read(source, **options))
        return found

    def skeleton(self, cell: Cell, labels: tuple[str, ...] | None = None) -> LoadedModel:
        """Return the cell's model without its weights, with a head for `labels`."""
        source = cell.settings.get("source", self.made.get(cell.model))
        found: LoadedModel = self.once(
            ("model", source, labels),
            lambda: load_skeleton(source, labels=labels, **{CALL_ONLY: self.trusts}),
        )
        return found

    def once(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """Return what `make` gives, called when first asked for; its error is kept likewise.

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


def check_pretrain(checker: Checker, cell: Cell) -> None:
    """Raise where a model cannot be made of its configuration."""
    words = cell.settings["tokenizer"]
    checker.once(("tokenizer", words), lambda: tokenizer_source(words, folder=Path()))
    check_training(checker, cell)


def check_tune(checker: Checker, cell: Cell) -> None:
    """Raise where a run of the matrix cannot work."""
    OBJECTIVES[str(cell.objective)]  # `auto` would hide in tables what was trained.
    refuse_settings("profile", ProfileSettings, cell.settings["profile"])
    checker.reading(cell.settings["profile"])
    check_training(checker, cell)


def check_training(checker: Checker, cell: Cell) -> None:
    """Raise where a training cannot work."""
    condition, text = CONDITIONS[str(cell.condition)], checker.text(cell)
    settings = _refuse_unread(condition, cell.settings)
    labels = labels_for(str(cell.objective), text)
    loaded = checker.skeleton(cell, labels)
    resolve(str(cell.objective), loaded=loaded, data=text)
    if condition.adapters:
        described = cell.settings.get("placement")
        if isinstance(described, Mapping):
            refuse_settings("placement", PlacementSettings, described)
        check_placement(described, loaded)
    else:
        condition.trained(places(roles(loaded.model, loaded.stacks), loaded.stacks), settings)


def check_distance(checker: Checker, cell: Cell) -> None:
    """Raise where objectives cannot be compared."""
    text, asked = checker.text(cell), cell.settings
    loaded = checker.skeleton(cell, labels_for("auto", text))
    choose(loaded, text, objectives=asked.get("objectives"), reference=asked.get("reference"))


def check_probe(checker: Checker, cell: Cell) -> None:
    """Raise where no probe can be trained."""
    label_names(checker.text(cell, **LABELLED))
    checker.skeleton(cell)


def check_erase(checker: Checker, cell: Cell) -> None:
    """Raise where no concept can be erased."""
    source = cell.settings["pairs"]
    checker.once(("pairs", source), lambda: read_pairs(source))
    checker.skeleton(cell)


def _trainable(checker: Checker, cell: Cell) -> LoadedModel:
    """Return the model that the loss of the cell's settings trains.

    Raises:
        LayerwiseError: It cannot train it, or there is none.
    """
    text, loss = checker.text(cell), str(cell.settings.get("objective", ""))
    loaded = checker.skeleton(cell, labels_for(loss, text))
    resolve(loss, loaded=loaded, data=text)
    return loaded


def check_ladder(checker: Checker, cell: Cell) -> None:
    """Raise where the ladder has no such rungs."""
    loaded = _trainable(checker, cell)
    rungs_of(cell.settings.get("tops"), loaded)


def check_interventions(checker: Checker, cell: Cell) -> None:
    """Raise where there are not as many blocks."""
    loaded = _trainable(checker, cell)
    checker.reading(cell.settings.get("profile", {}))
    blocks, most = cell.settings.get("blocks"), max(len(stack.blocks) for stack in loaded.stacks)
    if blocks is None or blocks > most:
        message = "number of blocks of the interventions"
        raise BadInputError(message, value=blocks, expected=f"1 to {most}", hint="blocks: K")


def _key(options: Mapping[str, Any]) -> str:
    return json.dumps(options, sort_keys=True)


def _refuse_unread(condition: Condition, given: Mapping[str, Any]) -> TuneSettings:
    """Return the settings of training; none is there that another condition alone reads.

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
