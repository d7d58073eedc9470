"""What an export is: a trainer's files, and what the trainer will make of them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerwise.card.record import ModelInfo
    from layerwise.placement.record import Placement


#: What LLaMA-Factory has to be told besides.
FACTORY_SETTINGS = "stage=sft do_train=true template=NAME dataset=DATA output_dir=DIR"


@dataclass(frozen=True)
class Export:
    """A placement as a trainer's configuration.

    Attributes:
        files: What to write, by name.
        lora: The arguments of PEFT's `LoraConfig` that the trainer makes of the files; none where
            blocks train whole.
        usage: How to use each file, by its name.
        trained: For each file that names weights to train instead of modules to adapt, what the
            trainer searches for in their names, as a regular expression.
        notes: What could not be said to every trainer that the files are for.
    """

    files: Mapping[str, bytes]
    lora: Mapping[str, Any]
    usage: Mapping[str, str]
    trained: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def without(self, file: str, *, why: str) -> "Export":
        """Return the same export without `file`, and a note that says why."""
        return replace(
            self,
            files={name: content for name, content in self.files.items() if name != file},
            usage={name: line for name, line in self.usage.items() if name != file},
            trained={name: pattern for name, pattern in self.trained.items() if name != file},
            notes=(*self.notes, f"no {file}: {why}"),
        )


@dataclass(frozen=True)
class Trainer:
    """A trainer in whose configuration a placement can be written.

    Attributes:
        name: What a user types.
        meaning: What its files are for, in a line.
        export: Makes its files from a placement and the model that it is for. They have the keys
            of the trainer's own configuration; beside them stand the arguments that it hands to
            PEFT's `LoraConfig`, which are what is verified. Data only: it imports no trainer.
        whole: Whether its files train blocks whole, without adapters.
    """

    name: str
    meaning: str
    export: Callable[["Placement", "ModelInfo"], Export]
    whole: bool = False


def yaml_lines(values: Mapping[str, Any], *, about: str) -> bytes:
    """`values` as YAML, a line a key, under the comment `about`; those that are None are left out.

    A value is written as JSON, which is YAML: every character of a pattern keeps its meaning.
    """
    kept = {key: value for key, value in values.items() if value is not None}
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in kept.items()]
    return "\n".join([f"# {about}", *lines, ""]).encode()
