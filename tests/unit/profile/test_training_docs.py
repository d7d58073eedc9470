"""The files that docs/training.md shows for other trainers, run beside stand-ins of these.

What each project calls was read in its own source: Axolotl's plugins, LLaMA-Factory's `run_exp`,
ms-swift's map of callbacks.
"""

import re
import sys
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest

from layerwise.profile.callback import DepthCallback

DOCS = (Path(__file__).parents[3] / "docs" / "training.md").read_text(encoding="utf-8")
FILES = re.findall(r"^    # depth\.py\n(?:    .*\n|\n(?=    ))+", DOCS, re.MULTILINE)


@pytest.fixture
def stand_in(monkeypatch):
    """Puts a module in the place of one of another project."""

    def put(name, **members):
        module = ModuleType(name)
        vars(module).update(members)
        parts = name.split(".")
        for end in range(1, len(parts)):
            monkeypatch.setitem(sys.modules, ".".join(parts[:end]), ModuleType(parts[0]))
        monkeypatch.setitem(sys.modules, name, module)

    return put


def run(project, name="depth"):
    """The names that the file for `project` defines."""
    (file,) = (text for text in FILES if project in text)
    names = {"__name__": name}
    exec(dedent(file.partition("    swift sft")[0]), names)  # noqa: S102  # It is ours.
    return names


def test_there_is_a_file_for_each():
    assert len(FILES) == 3


def test_axolotl_s_plugin(stand_in):
    stand_in("axolotl.integrations.base", BasePlugin=type("BasePlugin", (), {}))
    plugin = run("axolotl")["Depth"]()  # As its manager does, by the path.
    (callback,) = plugin.add_callbacks_post_trainer({}, None)
    assert isinstance(callback, DepthCallback)


def test_llama_factory_s_entry(stand_in):
    asked = []
    stand_in(
        "llamafactory.train.tuner",
        run_exp=lambda callbacks: asked.extend([callbacks]),
    )
    run("llamafactory", name="depth")
    assert asked == []  # What its workers import must not begin anew.
    run("llamafactory", name="__main__")
    ((callback,),) = asked
    assert isinstance(callback, DepthCallback)


def test_ms_swift_s_map(stand_in):
    callbacks = {}
    stand_in("swift.callbacks", callbacks_map=callbacks)
    run("swift")
    assert isinstance(callbacks["depth"]("arguments", "trainer"), DepthCallback)
