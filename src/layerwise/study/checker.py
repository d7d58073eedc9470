"""Settings, models and texts as a stage's check reads them, each once."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from layerwise.data.text import TextData, read
from layerwise.errors import LayerwiseError
from layerwise.models.load import LoadedModel, load_skeleton
from layerwise.objectives import labels_for, resolve
from layerwise.options.check import known, value_of
from layerwise.options.declaration import declared, pick
from layerwise.options.groups import CALL_ONLY, TextOptions
from layerwise.profile.probe_reading import as_readout, make_reading
from layerwise.study.record import Cell


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

    def trainable(self, cell: Cell, objective: str, text: TextData) -> LoadedModel:
        """Return the cell's model without its weights, which a loss can train on `text`."""
        loaded = self.skeleton(cell, labels_for(objective, text))
        resolve(objective, loaded=loaded, data=text)
        return loaded

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


def _key(plain: Mapping[str, Any]) -> str:
    return json.dumps(plain, sort_keys=True)


def refuse_unknown(what: str, group: type, names: Iterable[str]) -> None:
    """Refuse names that the options of `group` have not.

    Raises:
        UnknownNameError: There is one.
    """
    for name in names:
        known(name, declared(group), what=f"setting of {what}")


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
