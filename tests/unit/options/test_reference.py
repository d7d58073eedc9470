"""The docs' tables and the schema of a study file are what the declarations say."""

import json
import os
from pathlib import Path

import pytest

import layerwise
from layerwise.api import cards
from layerwise.options.check import expected
from layerwise.options.commands import GoalOptions
from layerwise.options.config import read_yaml
from layerwise.options.declaration import declared
from layerwise.options.signature import group_of, shown_default
from layerwise.study.schema import study_schema
from layerwise.study.stages import STAGES

ROOT = Path(__file__).parents[3]
HEAD = """# Options

Every option of every command, from `layerwise.options`. Names that a registry
has (signals, policies, conditions, trainers) are listed by `layerwise COMMAND --help`.

"""


COMMANDS = [
    "card", "place", "check", "measure", "tune", "profile", "audit", "control", "distance", "probe",
    "erase", "study", "analyse", "compare",
]  # fmt: skip


def option_tables():
    """A Markdown table of the options of each command."""
    parts = []
    for name in COMMANDS:
        groups = [group_of(getattr(layerwise, name))]
        if name == "place":
            groups = [GoalOptions, *groups, group_of(cards.export)]
        parts += [
            "",
            f"## {name}",
            "",
            "| option | Python | takes | default | |",
            "|---|---|---|---|---|",
        ]
        for option in (o for group in groups for o in declared(group).values()):
            flags, says = ", ".join(option.flags), (expected(option), shown_default(option))
            parts += [" | ".join([f"| `{flags}`", f"`{option.name}`", *says, f"{option.told()} |"])]
    return "\n".join(parts[1:]) + "\n"


def in_step(file, text):
    """The file says `text`; it is written anew with LAYERWISE_WRITE_DOCS=1."""
    if os.environ.get("LAYERWISE_WRITE_DOCS"):
        file.write_text(text)
    assert file.read_text() == text, "LAYERWISE_WRITE_DOCS=1 writes it anew"


def test_the_docs_have_every_option():
    in_step(ROOT / "docs" / "options.md", HEAD + option_tables())


def test_the_schema_of_a_study_is_kept_beside_the_docs():
    file, made = ROOT / "docs" / "study.schema.json", study_schema()
    if os.environ.get("LAYERWISE_WRITE_DOCS"):
        file.write_text(json.dumps(made, indent=1) + "\n")

    def read(text):  # Older versions of pydantic write 0.0 for 0, and leave out what is so anyway.
        said = "additionalProperties"
        return json.loads(
            text, object_hook=lambda o: {k: v for k, v in o.items() if (k, v) != (said, True)}
        )

    assert read(file.read_text()) == read(json.dumps(made)), "LAYERWISE_WRITE_DOCS=1 writes it anew"


def test_no_file_may_say_that_code_may_run():
    assert "trust_remote_code" not in json.dumps(study_schema())
    assert all("trust_remote_code" not in declared(stage.settings) for stage in STAGES.values())


@pytest.mark.parametrize("file", sorted(ROOT.glob("examples/studies/*.yaml")), ids=lambda f: f.stem)
def test_the_examples_are_of_the_schema(file):
    jsonschema = pytest.importorskip("jsonschema")
    study, _ = read_yaml(file, what="study", expected="YAML")
    jsonschema.validate(study, study_schema())
