"""A package that is missing, or broken, is named in one line with what brings it."""

import sys

import pytest

from layerwise.errors import BadInputError, DataError
from layerwise.extras import locate, require

READ = {"extra": "datasets", "purpose": "read Parquet files"}
MISSING = (
    "package that is needed to read Parquet files is not installed: '{}'; "
    "try: pip install 'layerwise[datasets]'"
)


def test_what_is_there_is_the_module():
    assert require("json.decoder", **READ) is sys.modules["json.decoder"]


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    for ask in (require, locate):
        with pytest.raises(BadInputError) as error:
            ask("datasets", **READ)
        assert str(error.value) == MISSING.format("datasets")
        assert error.value.exit_code == 2


def test_the_culprit_is_what_a_package_lacks(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "needs_more.py").write_text("import no_such_package_here")
    (tmp_path / "is_broken.py").write_text("from json import no_such_name")
    with pytest.raises(BadInputError) as error:
        require("needs_more", **READ)
    assert str(error.value) == MISSING.format("no_such_package_here")
    with pytest.raises(BadInputError, match=r"cannot be imported \(cannot import name 'no_such_n"):
        require("is_broken", **READ)


def test_a_folder_is_found_without_running_anything(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "holds_data").mkdir()
    (tmp_path / "holds_data" / "__init__.py").write_text("raise SystemExit")
    assert locate("holds_data", **READ) == tmp_path / "holds_data"
    with pytest.raises(DataError, match="not installed: 'holds_nothing'"):
        locate("holds_nothing", **READ, error=DataError)
