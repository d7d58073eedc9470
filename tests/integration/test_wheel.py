"""What is built has all that it needs, and runs where there is no clone."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def python(*arguments, cwd, path=""):
    environment = os.environ | {"PYTHONPATH": str(path)}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, env=environment, check=True, timeout=300,
    ).stdout  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of the wheel and the source distribution."""
    folder = tmp_path_factory.mktemp("built")
    python("-m", "hatchling", "build", "-d", folder, cwd=ROOT)
    return folder


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """A folder with the wheel in it and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    (wheel,) = built.glob("*.whl")
    pip = ("pip", "install", "--quiet", "--no-deps", "--no-index", "--target", folder)
    python("-m", *pip, wheel, cwd=folder)
    return folder


def test_the_wheel_makes_a_card_outside_the_clone(installed, model_folder, text_file, tmp_path):
    where = python(
        "-c", "import layerwise; print(layerwise.__file__)", cwd=tmp_path, path=installed
    )
    assert Path(where.strip()).parent == installed / "layerwise"
    command = ["-m", "layerwise", "card", model_folder, text_file, "--text-column", "text"]
    size = ["--examples", "8", "--max-length", "16", "--rank", "2"]
    python(*command, *size, "--out", "card", cwd=tmp_path, path=installed)
    made = {file.name for file in (tmp_path / "card").iterdir()}
    assert made >= {"card.json", "arrays.safetensors", "report.html"}


def test_the_wheel_has_every_file_that_lies_beside_the_code(installed):
    source, copy = ROOT / "src" / "layerwise", installed / "layerwise"

    def files(folder):
        found = (path for path in folder.rglob("*") if path.is_file())
        return {str(f.relative_to(folder)) for f in found if f.suffix != ".pyc"}

    assert files(copy) == files(source)


def test_the_source_distribution_builds_the_same_wheel(built, installed, tmp_path):
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as held:
        held.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    python("-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "again", cwd=source)
    (one,), (other,) = built.glob("*.whl"), (tmp_path / "again").glob("*.whl")
    assert one.read_bytes() == other.read_bytes()
