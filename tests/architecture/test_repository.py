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
BROUGHT = ("charts", "datasets", "erase", "gguf", "dev")
OWN = f"layerwise[{','.join(BROUGHT[:-1])}]"
NEEDED = [*PROJECT["dependencies"], *(r for name in BROUGHT for r in EXTRAS[name])]
NEEDED.remove("layerwise[all]")


@pytest.fixture(scope="module")
def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


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
