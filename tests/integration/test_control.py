"""`layerwise control` on a small model: what it writes, prints and refuses."""

import json
from dataclasses import replace

import pytest

import layerwise as lw

SHORT = ("--steps", 3, "--batch-size", 4, "--max-length", 16, "--learning-rate", "1e-3")
TEXT = ("--text-column", "text", "--examples", 16)


@pytest.fixture
def control(run, model_folder, text_file, probes, tmp_path):
    """Runs `layerwise control` with the model and text; writes into `out`."""
    shared = (*TEXT, *SHORT, "--probes", probes, "--out", tmp_path / "out")
    return lambda *options: run("control", model_folder, text_file, *shared, *options)


@pytest.fixture(scope="module")
def made(model_folder, text_file, probes, tmp_path_factory):
    """The folder of a control of two seeds whose models were kept."""
    from layerwise.cli import main

    folder = tmp_path_factory.mktemp("controls") / "made"
    options = ("--seeds", "0,2", "--probes", probes, "--keep-weights")
    command = ["control", model_folder, text_file, *TEXT, *SHORT, *options, "--out", folder]
    assert main([str(part) for part in (*command, "--format", "quiet")]) == 0
    return folder


def names(folder):
    return {path.name for path in folder.iterdir()}


def measured(control):
    """A control without who made it when, and without where its runs lie."""
    anonymous = {"provenance": None}

    def bare(profile):
        return replace(profile, after=replace(profile.after, source="", files={}), **anonymous)

    runs = tuple(
        replace(run, standard=bare(run.standard), equal_step=bare(run.equal_step))
        for run in control.runs
    )
    ends = {"standard": runs[0].standard, "equal_step": runs[0].equal_step}
    return replace(control, runs=runs, **ends, **anonymous)


def test_it_says_how_far_it_is_and_its_verdict(control, tmp_path):
    said = control("--seeds", "0")
    assert said.code == 0, said.err
    runs = tmp_path / "out" / "runs"
    assert names(runs) == {"standard-0", "equal-step-0"}
    assert names(runs / "standard-0") == {"tune.json", "log.jsonl"}
    assert lw.Control.load(tmp_path / "out").verdict == "undecided"  # Of one seed.
    assert "Undecided: " in said.out
    assert "run 1 of 2: standard, seed 0" in said.err
    assert "run 2 of 2: equal-step, seed 0" in said.err
    assert "tau matched to" in said.err


def test_it_is_what_python_gives(made, model_folder, text_file, probes):
    found = lw.control(
        str(model_folder), str(text_file), text_column="text", examples=16, seeds=(0, 2),
        probes=probes.read_text().splitlines(), steps=3, batch_size=4, max_length=16,
        learning_rate=1e-3,
    )  # fmt: skip
    first, second = measured(found), measured(lw.Control.load(made))
    for run, other in zip(first.runs, second.runs, strict=True):
        assert run.standard.readouts == other.standard.readouts
        assert run.equal_step.readouts == other.equal_step.readouts
    assert (first.slopes, first.verdict, first.tau) == (second.slopes, second.verdict, second.tau)
    assert str(found).startswith("Control: tiny-llama")
    assert "<iframe" in found._repr_html_()


def runs(made, *seeds):
    pairs = [(made / f"runs/standard-{s}", made / f"runs/equal-step-{s}") for s in seeds]
    return [part for pair in pairs for part in ("--runs", *pair)]


def test_finished_runs_give_the_same_control(run, made, probes, tmp_path):
    said = run("control", *runs(made, 0, 2), "--probes", probes, "--out", tmp_path)
    assert said.code == 0, said.err
    first, second = measured(lw.Control.load(tmp_path)), measured(lw.Control.load(made))
    assert first == second
    assert names(tmp_path) == {"control.json", "report.html"}


def test_runs_of_tune_will_do(run, model_folder, text_file, probes, tmp_path):
    for condition in ("standard", "equal-step"):
        options = (*TEXT, *SHORT, "--condition", condition, "--out", tmp_path / condition)
        assert run("tune", model_folder, text_file, *options).code == 0
    pair = ("--runs", tmp_path / "standard", tmp_path / "equal-step")
    said = run("control", *pair, "--probes", probes, "--out", tmp_path / "out", "--format", "json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["seeds"] == [0]


def test_runs_that_do_not_belong_together_are_named(run, refused, made, tmp_path):
    options = ("--out", tmp_path, "--format", "quiet")
    pair = ("--runs", made / "runs/standard-0", made / "runs/equal-step-2")
    assert "runs of a control that differ in seed" in refused("control", *pair, *options)
    assert list(tmp_path.iterdir()) == []
    swapped = ("--runs", made / "runs/equal-step-0", made / "runs/standard-0")
    assert "standard run of another condition" in run("control", *swapped, *options).error


def test_settings_that_a_control_decides_are_not_taken(model_folder, text_file):
    for name in ("seed_of_runs", "log_every", "save_every", "top"):
        with pytest.raises(lw.LayerwiseError, match=f"unknown option of control: '{name}'"):
            lw.control(str(model_folder), str(text_file), text_column="text", **{name: 3})
