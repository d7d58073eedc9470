"""Tiny models, and a ledger of runs that take a blink."""

from functools import partial

import pytest

from support import studies


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    return studies.files(tmp_path_factory.mktemp("files"), "llama", "bert")


@pytest.fixture(scope="session")
def plain(files):
    return partial(studies.plain, files)


@pytest.fixture
def opened(plain, tmp_path):
    """The ledger of a study with these keys, and its runs."""
    return lambda **keys: studies.opened(tmp_path / "ledger", plain(**keys))
