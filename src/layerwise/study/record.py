"""What a study is made of: cells, each one run with a name that follows from what it does."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

from layerwise.errors import BadInputError

LONGEST = 64
"""Characters of a name that a user may give, of a study, model or placement."""

_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")

SPEC_SCHEMA = "layerwise/run/1"
STUDY_SCHEMA = "layerwise/study/1"

FailureKind = Literal["oom", "diverged", "interrupted", "bad-input", "error"]
"""Why a run ended without a result: memory, a loss that is not finite, a signal, what was asked
for, or anything else."""

DIMENSIONS = ("model", "objective", "condition", "placement", "seed")
"""What a run is told apart by, and what rules select by."""

#: Characters of a run's id before its hash; with it, an id is one file name everywhere.
_LONGEST = 120


def is_safe(name: object, *, longest: int = LONGEST) -> bool:
    """Return whether `name` is one file name everywhere: no path, hidden file or option."""
    return isinstance(name, str) and len(name) <= longest and bool(_SAFE.fullmatch(name))


def safe_name(name: object, *, what: str) -> str:
    """Return the `name` of a `what`, which can be a part of a file name.

    Raises:
        BadInputError: It is empty, too long, a path, or has characters that file names must not.
    """
    if isinstance(name, str) and is_safe(name):
        return name
    message = f"name of a {what} that cannot be a file name"
    expected = f"1 to {LONGEST} of A-Z a-z 0-9 . _ -, the first a letter, a digit or _"
    raise BadInputError(message, value=name, expected=expected)


def slug(*parts: str, longest: int) -> str:
    """`parts` joined by dashes, cut to `longest` characters, safe as the start of a file name."""
    return _UNSAFE.sub("_", "-".join(parts))[:longest].strip("-.")


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        stage: What is done, by its name in `layerwise.study.stages`.
        model: The model's name in the study.
        objective: What is trained; None for ``distance``, which compares several, and for what
            looks at a model by depth, whose settings say it.
        condition: How it is optimised; None likewise.
        placement: The name of the blocks that LoRA goes to; None where none were chosen.
        seed: Fixes all randomness of the run.
        settings: All else that the stage needs, as plain JSON values. Of all but ``pretrain``:
            ``source`` or ``pretrained`` (the id of the run that makes the model); of all:
            ``data``. Of ``tune``: ``placement`` (the blocks, a description of them, or None),
            ``profile`` (how the profile is taken), and settings of `tune` by name. Of
            ``pretrain``: ``config`` (a transformers configuration), ``tokenizer``, and settings of
            `tune`. Of ``source``, which fine-tunes what others start from: settings of `tune`. Of
            ``distance``: ``objectives``, and settings of `distance`. Of ``erase``: ``pairs`` in the
            place of ``data``.
        after: The ids of the runs that must be done before.
        rule: Which rule the condition's name stands for, where it was another once.
    """

    stage: str
    model: str
    objective: str | None
    condition: str | None
    placement: str | None
    seed: int
    settings: Mapping[str, Any] = field(hash=False)
    after: tuple[str, ...] = ()
    rule: int | None = None

    def spec(self) -> dict[str, Any]:
        """Return the cell as JSON values, complete: the content of ``spec.json``."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        if self.rule is None:  # Ids of conditions that always were what they are stay.
            del own["rule"]
        return {"schema": SPEC_SCHEMA, **own}

    @cached_property
    def id(self) -> str:
        """Return a file name that starts with what people look for and ends with the spec's hash.

        The hash alone, 16 hexadecimal digits of the SHA-256 of the spec with its keys in order,
        decides whether two cells are the same.
        """
        told = (self.objective, self.condition, self.placement)
        parts = told if self.stage == "tune" else (self.stage,)
        shown = (self.model, *(part for part in parts if part), f"s{self.seed}")
        text = json.dumps(
            self.spec(), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
        )
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        return f"{slug(*shown, longest=_LONGEST)}-{digest}"


@dataclass(frozen=True)
class Failure:
    """Why a run ended without a result.

    Attributes:
        kind: What it ended by.
        message: One line for people.
        where: The part of the work that it came up in (``"training"``, ``"profile"``).
        disk_full: Whether there was no room on a disk: no other run can go on then.
    """

    kind: FailureKind
    message: str
    where: str
    disk_full: bool = False


@dataclass(frozen=True)
class Study:
    """A matrix of runs.

    Attributes:
        name: Its name, a safe file name.
        cells: Every run, those that others wait for first; no two with the same id.
        keep_weights: Whether the weights after each run stay in the ledger.
        plain: The study as it was read, complete in itself: files that it names are in it.
        text: The file that it was read from.
    """

    name: str
    cells: tuple[Cell, ...]
    keep_weights: bool = False
    plain: Mapping[str, Any] = field(default_factory=dict, hash=False)
    text: bytes = b""
