import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

import pytest

from layerwise.provenance import collect


def git(folder, *args):
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *args]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_versions_and_device_are_those_that_run():
    made = collect(device="cpu")
    assert (made.device, made.layerwise) == ("cpu", version("layerwise"))
    assert (made.torch, made.transformers) == (version("torch"), version("transformers"))
    assert made.peft == version("peft")
    assert made.python == ".".join(map(str, sys.version_info[:3]))


def test_created_is_now_in_utc():
    created = datetime.fromisoformat(collect(device="cpu").created)
    assert created.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - created) < timedelta(seconds=30)


@pytest.mark.parametrize(
    ("program", "name"),
    [
        ("/usr/bin/layerwise", "layerwise"),
        ("/somewhere/layerwise/__main__.py", "layerwise"),
        ("study.py", "study.py"),
    ],
)
def test_command_can_be_typed_again(monkeypatch, program, name):
    monkeypatch.setattr(sys, "argv", [program, "card", "demo", "my file.csv", "--where", "a=b;c"])
    assert collect(device="cpu").command == f"{name} card demo 'my file.csv' --where 'a=b;c'"
    assert collect(device="cpu", command="given").command == "given"


@pytest.mark.parametrize(("text", "suffix"), [("one", ""), ("two", "-dirty")])
def test_git_commit_of_where_one_works_says_when_files_differ(
    monkeypatch, repository, text, suffix
):
    (repository / "file").write_text(text)
    monkeypatch.chdir(repository)
    assert collect(device="cpu").git == git(repository, "rev-parse", "HEAD") + suffix


def test_no_git_is_none(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert collect(device="cpu").git is None


def test_no_git_program_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert collect(device="cpu").git is None
