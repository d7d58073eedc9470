"""`layerwise distance` from the command line, and `lw.distance`."""

import json

import pytest

import layerwise as lw
from layerwise.distance.record import Distance


@pytest.fixture(scope="module")
def encoder_folder(tiny_text, tmp_path_factory):
    """An encoder without a head."""
    return tiny_text.save(tmp_path_factory.mktemp("models") / "tiny-encoder", "encoder")


SMALL = ["--batch-size", "6", "--max-length", "12", "--text-column", "text"]


def test_options_reach_the_record(run, model_folder, text_file, tmp_path):
    args = [model_folder, text_file, *SMALL, "--out", tmp_path, "--seed", "3"]
    said = run("distance", *args)
    assert said.code == 0
    assert "the model has no dropout: 0.1 was put on its input embeddings" in said.err
    made = Distance.load(tmp_path)
    assert [o.name for o in made.objectives] == [
        "causal-lm", "causal-span", "simcse", "barlow-twins",
    ]  # fmt: skip
    assert (made.settings.seed, made.settings.batch_size, made.data.max_length) == (3, 6, 12)
    assert made.data.examples == 24


def test_json_is_the_record_of_those_asked_for(run, model_folder, text_file, tmp_path):
    said = run(
        "distance", model_folder, text_file, *SMALL, "--out", tmp_path, "--format", "json",
        "--objectives", "barlow-twins,simcse", "--reference", "simcse", "--examples", "15",
        "--where", "stars=1",
    )  # fmt: skip
    record = json.loads(said.out)
    assert record["reference"] == "simcse"
    assert [o["name"] for o in record["objectives"]] == ["simcse", "barlow-twins"]
    assert record["data"]["examples"] == 12
    assert "15 examples were asked for, 12 are there" in record["notes"]


def test_python_gives_what_the_command_line_writes(run, model_folder, text_file, tmp_path):
    out = tmp_path / "out"
    run("distance", model_folder, text_file, *SMALL, "--out", out, "--format", "quiet")
    made = lw.distance(
        str(model_folder), str(text_file), batch_size=6, max_length=12, text_column="text"
    )
    assert isinstance(made, lw.Distance)
    assert made.objectives == lw.Distance.load(out).objectives
    assert str(made).startswith("Objective distances: ")


def test_an_encoder_without_a_head_needs_a_reference(
    run, refused, encoder_folder, text_file, tmp_path
):
    args = ["distance", encoder_folder, text_file, *SMALL, "--out", tmp_path / "out"]
    args += ["--examples", "24"]
    error = refused(*args)
    assert "no usual reference objective" in error
    assert "try: --reference simcse" in error
    assert run(*args, "--reference", "simcse").code == 0


def test_a_wrong_name_is_said_before_a_model_is_looked_for(run, text_file, tmp_path):
    args = [tmp_path / "none", text_file, "--objectives", "simsce", "--out", tmp_path]
    assert "unknown objective" in run("distance", *args).error


def test_a_model_in_hand_is_left_as_it_was(tiny_text, text_file):
    model = tiny_text.model("gpt2").train()
    made = lw.distance(
        model, str(text_file), tokenizer=tiny_text.tokenizer(frame="causal"), batch_size=6,
        text_column="text", max_length=12, objectives=["causal-span"],
    )  # fmt: skip
    assert [o.name for o in made.objectives] == ["causal-lm", "causal-span"]
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
