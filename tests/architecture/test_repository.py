"""The pinned versions: all that is needed, the same on every machine."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
#: What `make install` brings.
BROUGHT = ("charts", "datasets", "erase", "gguf", "evidence", "dev")
OWN = "layerwise[charts,datasets,erase,gguf]"
NEEDED = [*PROJECT["dependencies"], *(r for name in BROUGHT for r in EXTRAS[name])]
NEEDED.remove("layerwise[all,evidence]")


def read_pins(file):
    lines = file.read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


@pytest.fixture(scope="module")
def pins():
    return read_pins(ROOT / "constraints.txt")


def test_pins_are_bare_versions(pins):
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in pins)
    assert all(re.fullmatch(r"[0-9][0-9a-z.]*", pinned) for pinned in pins.values())


def test_every_dependency_is_pinned_within_its_range(pins):
    needed = map(Requirement, NEEDED)
    outside = [r for r in needed if not r.specifier.contains(pins[canonicalize_name(r.name)])]
    assert outside == []


def test_all_is_what_one_may_want_to_do_without():
    assert EXTRAS["all"] == [OWN]


def test_what_a_dependency_needs_is_pinned_too(pins):
    """The versions that run here are those that were pinned."""
    assert {name: version(name).partition("+")[0] for name in pins} == pins


def test_torch_is_installed_first_at_its_pin(pins):
    makefile = (ROOT / "Makefile").read_text()
    assert f"TORCH := torch=={pins['torch']}" in makefile
    assert makefile.index("$(TORCH)\n") < makefile.index("-e '.[dev]'")


def test_make_test_quick_covers_every_package():
    """Each package of the source has unit tests that are not slow as a file."""
    marked = re.compile(r"^pytestmark = .*\b(slow|real_model)\b", re.MULTILINE)
    units, packages = ROOT / "tests" / "unit", ROOT / "src" / "layerwise"

    def quick(name):
        files = [*(units / name).rglob("test_*.py"), *units.glob(f"test_{name}*.py")]
        return any(not marked.search(file.read_text()) for file in files)

    assert [p.parent.name for p in packages.glob("*/__init__.py") if not quick(p.parent.name)] == []


MATRIX = {file.stem: read_pins(file) for file in sorted((ROOT / ".ci" / "matrix").glob("*.txt"))}


@pytest.mark.parametrize("name", MATRIX)
def test_each_set_of_libraries_is_within_what_is_asked_for(name):
    asked = [Requirement(line) for line in NEEDED if not line.startswith("trl")]
    held = {r: MATRIX[name].get(canonicalize_name(r.name)) for r in asked}
    assert [str(r) for r, found in held.items() if found and found not in r.specifier] == []


def test_the_lowest_set_is_at_the_floors():
    asked = [Requirement(line) for line in NEEDED if line not in EXTRAS["dev"]]
    floors = {canonicalize_name(r.name): str(r.specifier).removeprefix(">=") for r in asked}
    held = {
        name: (floors[name], MATRIX["lowest"][name]) for name in floors & MATRIX["lowest"].keys()
    }
    assert len(held) > 12
    assert {n: pair for n, pair in held.items() if not pair[1].startswith(pair[0])} == {}
