"""Where a record came from: versions, machine, command and time."""

import platform
import shlex
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

from layerwise.records import ABSENT


@dataclass(frozen=True)
class Provenance:
    """What made a record; `created` is UTC, ISO 8601, to the second."""

    layerwise: str
    torch: str
    transformers: str
    peft: str
    python: str
    git: Annotated[str | None, ABSENT]
    device: str
    command: str
    created: str


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _git_commit(folder: Path) -> str | None:
    """The commit checked out in `folder`, with ``-dirty`` where it differs; None outside git."""
    try:
        said = subprocess.run(  # noqa: S603  # fixed words and a path, no shell
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.strip() or None


def collect(*, device: str, command: str | None = None) -> Provenance:
    """The provenance of a record made now on `device` by `command` (default: this process)."""
    program = Path(sys.argv[0]).name
    shown = "layerwise" if program in {"layerwise", "__main__.py"} else program
    return Provenance(
        layerwise=_version("layerwise"),
        torch=_version("torch"),
        transformers=_version("transformers"),
        peft=_version("peft"),
        python=platform.python_version(),
        git=_git_commit(Path.cwd()),
        device=device,
        command=shlex.join([shown, *sys.argv[1:]]) if command is None else command,
        created=datetime.now(UTC).replace(microsecond=0).isoformat(),
    )
