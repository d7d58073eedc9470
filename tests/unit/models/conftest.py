"""What the tests of the models stage share."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest


def _families():
    return runpy.run_path(str(Path(__file__).with_name("families.py")))


@pytest.fixture(scope="session")
def families():
    """Tiny models of many families and what is known of each; see families.py."""
    return SimpleNamespace(**_families())


def pytest_generate_tests(metafunc):
    """`one_stack`, `two_stacks`, `refused` and `family` run over every family of their kind."""
    kinds = {"one_stack": ["ONE_STACK"], "two_stacks": ["TWO_STACKS"], "refused": ["REFUSED"]}
    kinds["family"] = ["ONE_STACK", "TWO_STACKS"]
    for argument in kinds.keys() & set(metafunc.fixturenames):
        known = _families()
        names = [name for kind in kinds[argument] for name in known[kind]]
        metafunc.parametrize(argument, names)
