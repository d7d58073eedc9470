"""`layerwise control` on a small model: what it writes, prints and refuses."""

import json
import shutil
from dataclasses import replace

import pytest

import layerwise as lw

SHORT = ("--steps", 3, "--batch-size", 4, "--max-length", 16, "--learning-rate", "1e-3")
TEXT = ("--text-column", "text", "--examples", 16)
PROBES = [f"w{i} w{(3 * i + 1) % 50} w{(7 * i + 2) % 50} w{i % 5}" for i in range(12)]


@pytest.fixture(scope="module")
def probes(tmp_path_factory):
    """A file of probes that the small model has words for."""
    file = tmp_path_factory.mktemp("probes") / "probes.txt"
    file.write_text("\n".join(PROBES))
    return file


@pytest.fixture
def control(run, model_folder, text_file, probes, tmp_path):
    """Runs `layerwise control` with the model and text; writes into `out`."""

    def command(*options, out=tmp_path / "out"):
        shared = (*TEXT, *SHORT, "--probes", probes, "--out", out)
        return run("control", model_folder, text_file, *shared, *options)

    return command


@pytest.fixture(scope="module")
def made(model_folder, text_file, probes, tmp_path_factory):
    """The folder of a control of two seeds whose models were kept."""
    from layerwise.cli import main

    folder = tmp_path_factory.mktemp("controls") / "made"
    options = ("--seeds", "0,2", "--probes", probes, "--keep-weights", "--charts")
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


def test_it_says_the_verdict_and_where_the_files_are(control, tmp_path):
    said = control()
    assert said.code == 0, said.err
    out = tmp_path / "out"
    assert names(out) == {"control.json", "report.html", "runs"}
    assert names(out / "runs") == {"standard-0", "equal-step-0"}
    assert names(out / "runs" / "standard-0") == {"tune.json", "log.jsonl"}
    found = lw.Control.load(out)
    assert found.verdict in said.out
    assert str(out / "control.json") in said.out
    assert "run 1 of 2: standard, seed 0" in said.err
    assert "run 2 of 2: equal-step, seed 0" in said.err
    assert "tau matched to" in said.err


def test_charts_and_the_report_lie_beside_it(made):
    assert {"chart-both-profiles.svg", "chart-slopes.png", "report.html"} <= names(made)
    assert b"equal-step" in (made / "report.html").read_bytes()


def test_it_is_what_python_gives(made, model_folder, text_file, tmp_path):
    found = lw.control(
        str(model_folder), str(text_file), text_column="text", examples=16, seeds=(0, 2),
        probes=PROBES, steps=3, batch_size=4, max_length=16, learning_rate=1e-3,
    )  # fmt: skip
    first, second = measured(found), measured(lw.Control.load(made))
    for run, other in zip(first.runs, second.runs, strict=True):
        assert run.standard.readouts == other.standard.readouts
        assert run.equal_step.readouts == other.equal_step.readouts
    assert (first.slopes, first.verdict, first.tau) == (second.slopes, second.verdict, second.tau)
    assert str(found).startswith("Control: tiny-llama")
    assert "<iframe" in found._repr_html_()


def test_options_come_from_a_file_too_and_json_is_the_record_alone(
    run, model_folder, text_file, probes, tmp_path
):
    config = tmp_path / "options.yaml"
    lines = ["text-column: text", "examples: 16", "steps: 2", "batch-size: 4", "seeds: [4]"]
    config.write_text("\n".join([*lines, f"probes: {probes}", "tau: 0.002", "readout: residual"]))
    out = tmp_path / "out"
    options = ("--config", config, "--out", out, "--format", "json")
    said = run("control", model_folder, text_file, *options)
    assert said.code == 0, said.err
    assert said.out.encode() == (out / "control.json").read_bytes()
    assert json.loads(said.out)["schema"] == "layerwise/control/1"
    found = lw.Control.load(out)
    assert (found.seeds, found.tau, found.standard.readout) == ((4,), 0.002, "residual")


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


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "Missing argument 'MODEL', or --runs STANDARD EQUAL_STEP; try: layerwise control -"),
        (["demo"], "Missing argument 'DATA', or --runs"),
        (["demo", "demo", "--runs", "a", "b"], "MODEL and DATA have no meaning beside --runs"),
        (["--runs", "a"], "Option '--runs' requires 2 arguments"),
        (["demo", "demo", "--tau", "0"], "value of --tau: '0'; expected a number, above 0"),
        (["demo", "demo", "--tau", "-1"], "value of --tau: '-1'; expected a number, above 0"),
        (["demo", "demo", "--seeds", ""], "value of --seeds: ''; expected whole numbers"),
        (["demo", "demo", "--seeds", "0,one"], "value of --seeds: '0,one'; expected whole numbers"),
        (
            ["demo", "demo", "--seeds", "1,1"],
            "--seeds: '1,1'; expected whole numbers, such as 0,1,2, each once",
        ),
        (["demo", "demo", "--readout", "last"], "value of --readout: 'last'; expected one of hf"),
        (
            ["demo", "demo", "--steps", "0"],
            "value of --steps: '0'; expected a whole number, 1 or more",
        ),
        (["demo", "demo", "--condition", "lora"], "No such option '--condition'"),
    ],
)
def test_usage(run, args, says):
    said = run("control", *args)
    assert said.code == 2
    assert says in said.error


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--probes", "nowhere.txt"), "nowhere.txt"),
        (("--objective", "masked-lm"), "objective is not for a model of kind causal: 'masked-lm'"),
        (("--stack", "encoder"), "unknown stack: 'encoder'"),
        (("--batch-size", 400), "fewer training examples than a batch holds: '16'"),
        (("--where", "stars=9"), "stars=9"),
    ],
)
def test_bad_input_is_one_line(control, options, says):
    said = control("--format", "quiet", *options)
    assert said.code == 2
    assert says in said.error


def test_a_result_that_is_there_is_kept_and_quiet_says_nothing(control, made, tmp_path):
    taken = tmp_path / "out"
    taken.mkdir()
    shutil.copy(made / "control.json", taken)
    said = control("--format", "quiet")
    assert said.code == 2
    assert "already holds a control.json" in said.error
    assert names(taken) == {"control.json"}
    said = control("--format", "quiet", "--overwrite")
    assert (said.code, said.out, said.err) == (0, "", "")
    assert lw.Control.load(taken).seeds == (0,)


def test_runs_that_do_not_belong_together_are_named(run, made, tmp_path):
    options = ("--out", tmp_path, "--format", "quiet")
    pair = ("--runs", made / "runs/standard-0", made / "runs/equal-step-2")
    said = run("control", *pair, *options)
    assert said.code == 2
    assert "runs of a control that differ in seed" in said.error
    assert list(tmp_path.iterdir()) == []
    swapped = ("--runs", made / "runs/equal-step-0", made / "runs/standard-0")
    assert "standard run of another condition" in run("control", *swapped, *options).error
    missing = ("--runs", tmp_path / "a", tmp_path / "b")
    assert "no such file" in run("control", *missing, *options).error


def test_settings_that_a_control_decides_are_not_taken(model_folder, text_file):
    for name in ("seed_of_runs", "log_every", "save_every", "top"):
        with pytest.raises(lw.LayerwiseError, match=f"unknown option of control: '{name}'"):
            lw.control(str(model_folder), str(text_file), text_column="text", **{name: 3})
