"""The public names, and what importing them costs."""

import subprocess
import sys
import time

import pytest

HEAVY = {"torch", "transformers", "peft", "datasets", "altair", "pandas", "scipy", "numpy"}

PUBLIC = [
    "Analysis", "Audit", "Check", "Control", "DepthCallback", "Distance", "EqualStep", "Erasure",
    "LayerCard", "LayerwiseError", "Measure", "Placement", "Probing", "Profile",
    "ShallowBackward", "__version__", "analyse", "audit", "card", "check", "compare", "control",
    "control_from_runs", "distance", "erase", "measure", "measured", "place", "probe", "profile",
    "study", "study_status", "study_tables", "tune",
]  # fmt: skip


def python(code, *, check=True):
    return subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", "-c", code],
        capture_output=True,
        text=True,
        check=check,
    )


def test_public_names():
    import layerwise

    assert sorted(layerwise.__all__) == PUBLIC
    assert dir(layerwise) == PUBLIC
    assert all(getattr(layerwise, name) for name in PUBLIC)


def test_an_unknown_name_is_an_attribute_error():
    import layerwise

    with pytest.raises(AttributeError, match="module 'layerwise' has no attribute 'crad'"):
        layerwise.crad  # noqa: B018


def test_version_is_the_package_s():
    from importlib.metadata import version

    import layerwise

    assert layerwise.__version__ == version("layerwise")


# In one process, each order of import begins with a package that knows no module of ours.
ORDERS = """
import sys
from importlib import import_module

names = ["card", "distance", "measure", "profile", "study", "control"]
firsts = ["", *(f"layerwise.{n}" for n in names[:-1]), "layerwise.card.record", "layerwise.api"]
for first in firsts:
    for known in [name for name in sys.modules if name.partition(".")[0] == "layerwise"]:
        del sys.modules[known]
    if first:
        import_module(first)
    import layerwise as lw
    import layerwise.card.record, layerwise.distance.make, layerwise.profile.control
    for name in names:
        assert type(getattr(lw, name)).__name__ == "function", (first, name)
print(len(firsts))
"""


@pytest.mark.slow
def test_a_function_is_the_function_whatever_was_imported_before():
    assert python(ORDERS).stdout == "8\n"


# One process for all: what one of them loads would be there for the rest, which are not asked.
LIGHT = [
    "import layerwise",
    "from layerwise.cli import main",
    *(
        f"main({words.split()})"
        for words in (
            "--help", "--version", "card --help", "place --help", "check --help", "compare --help",
            "profile --help", "audit --help", "analyse --help", "control --help", "study --help",
            "study run --help", "distance --help", "probe --help", "erase --help", "tune --help",
            "measure --help",
        )
    ),
    "import layerwise.signals, layerwise.placement, layerwise.tuning.conditions",
]  # fmt: skip


def test_nothing_heavy_is_loaded_before_it_is_needed():
    check = "print('loaded', *sys.modules)"
    said = python("\n".join(["import sys", *(f"{code}\n{check}" for code in LIGHT)])).stdout
    loaded = [line.split()[1:] for line in said.splitlines() if line.startswith("loaded ")]
    heavy = [HEAVY & {name.split(".")[0] for name in names} for names in loaded]
    assert dict(zip(LIGHT, heavy, strict=True)) == {code: set() for code in LIGHT}


def seconds(*command):
    began = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - began


@pytest.mark.slow
def test_help_answers_within_half_a_second_of_a_bare_interpreter():
    """The fastest of several alternating runs: a busy machine slows both, never one alone."""
    runs = [
        (seconds(sys.executable, "-c", ""), seconds(sys.executable, "-m", "layerwise", "--help"))
        for _ in range(5)
    ]
    bare, helped = (min(times) for times in zip(*runs, strict=True))
    assert helped - bare < 0.5


# What only Unix has is refused, as Windows would, to every module and to the tests' own helpers.
ELSEWHERE = """
import importlib, pkgutil, sys

absent = {"fcntl", "grp", "posix", "pwd", "resource", "termios"}
import torch, transformers, peft, pandas, scipy.stats  # Theirs may be what they like.

class Refuse:
    def find_spec(self, name, *_):
        if name in absent:
            raise ModuleNotFoundError(name=name)

for name in absent:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Refuse())
import layerwise

found = [m.name for m in pkgutil.walk_packages(layerwise.__path__, "layerwise.")]
for name in found:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(found))
"""


@pytest.mark.slow
def test_every_module_is_imported_where_there_is_no_unix():
    assert int(python(ELSEWHERE).stdout) > 250
