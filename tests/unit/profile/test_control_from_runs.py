"""The control of runs that are over: the one made in place, or a refusal that says why."""

import json
import shutil
from dataclasses import replace

import pytest

from layerwise.errors import BadInputError, ModelError, SchemaError
from layerwise.models.load import from_config, load
from layerwise.objectives import OBJECTIVES
from layerwise.profile.control import ControlPlan, RunStorage, run_control
from layerwise.profile.control_from_runs import control_from_runs
from layerwise.tuning.results import keep_initial, save
from support.profiles import READING

pytestmark = pytest.mark.slow  # Short runs, many of them.

CPU = {"device": "cpu"}


@pytest.fixture(scope="module")
def study(tuning, tiny_text, tmp_path_factory):
    """A control of two seeds made in place, and the folder that its runs are in."""
    folder = tmp_path_factory.mktemp("study")
    control = run_control(
        load(str(tiny_text.save(folder / "base")), device="cpu"),
        tuning.data(),
        OBJECTIVES["causal-lm"],
        reading=READING,
        settings=tuning.settings(learning_rate=1e-3),
        plan=ControlPlan((0, 1)),
        keep=RunStorage(folder, weights=True),
    )
    return control, folder


def judged(runs, reading=READING):
    return control_from_runs(runs, reading=reading, loading=CPU)


def pairs(folder, *seeds):
    return [(folder / f"runs/standard-{s}", folder / f"runs/equal-step-{s}") for s in seeds]


@pytest.fixture
def copied(study, tmp_path):
    """A copy of the study that may be spoiled; its base stays where it is."""
    folder = tmp_path / "study"
    shutil.copytree(study[1], folder)
    return folder


@pytest.fixture
def edited(copied):
    """Changes a run's record: `edited("standard-0", "settings", "steps", 7)`."""

    def edit(run, *keys_and_value):
        *keys, value = keys_and_value
        file = copied / "runs" / run / "tune.json"
        record = json.loads(file.read_text())
        held = record
        for key in keys[:-1]:
            held = held[key]
        held[keys[-1]] = value
        file.write_text(json.dumps(record))
        return copied

    return edit


def test_one_pair_of_several_may_be_judged_alone_and_under_another_reading(study):
    made, folder = study
    files = [tuple(run / "tune.json" for run in pair) for pair in pairs(folder, 1)]
    found = judged(files, replace(READING, readout="residual"))
    assert (found.seeds, found.standard.readout) == ((1,), "residual")
    assert found.slopes["standard"].slope == made.runs[1].standard.readouts["residual"].slope


def test_finished_runs_give_the_control_that_was_made_in_place(study):
    made, folder = study
    found = judged(pairs(folder, 0, 1))
    assert found.seeds == made.seeds
    for again, run in zip(found.runs, made.runs, strict=True):
        for condition in ("standard", "equal_step"):
            mine, theirs = getattr(again, condition), getattr(run, condition)
            assert mine.readouts == theirs.readouts
            assert mine.before == theirs.before
            assert mine.after.source == theirs.after.source
        assert again.tau == run.tau
        assert again.standard_steps == run.standard_steps
        assert again.equal_step_steps == run.equal_step_steps
        assert (again.standard_loss, again.equal_step_loss) == (
            run.standard_loss, run.equal_step_loss,
        )  # fmt: skip
    assert (found.slopes, found.ratio, found.verdict) == (made.slopes, made.ratio, made.verdict)
    assert (found.tau, found.data, found.reason) == (made.tau, made.data, made.reason)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (("settings", "steps", 7), r"differ in steps: .*equal-step-0 has: '7'; expected 3, as in"),
        (("settings", "seed", 5), r"differ in seed: .*has: '5'; expected 0, as in .*standard-0"),
        (("settings", "batch_size", 8), r"differ in batch_size"),
        (("settings", "learning_rate", 0.5), r"differ in learning_rate: .*'0\.5'; expected 0\.001"),
        (("data", "sha256", "ff"), r"differ in data: .*has: 'made'; expected made"),
        (("data", "objective", "sft"), r"differ in objective: .*'sft'; expected causal-lm"),
        (("model", "files", {"a": "b"}), r"differ in model"),
        (("outcome", "processes", 2), r"differ in processes: .*has: '2'; expected 1"),
        (("condition", "uniform"), r"equal-step run of another condition: .*'uniform'.*--runs"),
        (("tau", None), "equal-step run without a tau"),
        (("files", {}), r"weights were not kept: .*--keep-weights"),
    ],
)
def test_runs_of_a_pair_that_differ_or_lack_something_are_refused_by_the_key(edited, change, match):
    with pytest.raises((BadInputError, SchemaError), match=match):
        judged(pairs(edited("equal-step-0", *change), 0))


def test_runs_of_a_pair_may_differ_in_what_one_alone_reads(edited):
    own = {"tau": 0.1, "match_steps": 9, "equal_step": "copy", "log_every": 2, "save_every": 2}
    for name, value in own.items():
        folder = edited("equal-step-0", "settings", name, value)
    assert judged(pairs(folder, 0)).seeds == (0,)


def test_every_key_that_differs_is_named(edited):
    edited("equal-step-0", "settings", "steps", 7)
    with pytest.raises(BadInputError, match="differ in objective, steps: "):
        judged(pairs(edited("equal-step-0", "data", "objective", "sft"), 0))


def test_runs_the_wrong_way_round_are_refused(study):
    swapped = [(b, a) for a, b in pairs(study[1], 0)]
    with pytest.raises(BadInputError, match=r"standard run of another condition.*in this order"):
        judged(swapped)


def test_pairs_of_two_experiments_are_refused(edited):
    edited("standard-1", "data", "sha256", "ff")
    folder = edited("equal-step-1", "data", "sha256", "ff")
    with pytest.raises(BadInputError, match=r"differ in data: .*standard-1 has"):
        judged(pairs(folder, 0, 1))


@pytest.mark.parametrize("seeds", [(), (0, 0)])
def test_pairs_are_of_different_seeds(study, seeds):
    with pytest.raises(BadInputError, match=r"seeds of the runs: .*each of another seed"):
        judged(pairs(study[1], *seeds))


def test_weights_that_are_not_the_run_s_and_a_folder_without_a_run_are_refused(copied):
    ((standard, equal_step),) = pairs(copied, 0)
    shutil.copy(standard / "model.safetensors", equal_step)
    with pytest.raises(SchemaError, match=r"not those of its record: 'model\.safetensors in "):
        judged(pairs(copied, 0))
    with pytest.raises(SchemaError, match=r"no such file: .*tune\.json"):
        judged([(standard, copied)])


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (
            ("files", {"model.safetensors": "ab" * 32}),
            SchemaError,
            r"not what the runs started from: .*SHA-256 abababababab",
        ),
        (("source", "/gone"), ModelError, r"that .*standard-0/tune\.json started from.*gone"),
    ],
)
def test_a_base_that_is_another_by_now_or_gone_is_named(edited, change, error, match):
    for run in ("standard-0", "equal-step-0"):
        folder = edited(run, "model", *change)
    with pytest.raises(error, match=match):
        judged(pairs(folder, 0))


@pytest.fixture
def from_random(tuning, tiny_text, tmp_path):
    """Tunes from random weights, drawn by the run's seed and kept beside its result."""
    config = tiny_text.model("llama").config
    config.architectures = ["LlamaForCausalLM"]
    config.to_json_file(tmp_path / "config.json")
    tiny_text.tokenizer().save_pretrained(tmp_path / "words")

    def tune(condition, *, seed, drawn=None):
        folder = tmp_path / f"{condition}-{seed}"
        folder.mkdir()
        drawn = seed if drawn is None else drawn
        loaded = from_config(
            tmp_path / "config.json", tokenizer=str(tmp_path / "words"), seed=drawn, device="cpu"
        )
        loaded = keep_initial(loaded, folder)
        tau = {"tau": 1e-2} if condition == "equal-step" else {}
        save(tuning.tune(loaded, condition=condition, seed=seed, folder=folder, **tau), folder)
        return folder

    return tune


def test_runs_from_random_weights_are_held_against_the_weights_beside_them(from_random):
    runs = [[from_random(c, seed=seed) for c in ("standard", "equal-step")] for seed in (0, 1)]
    found = judged(runs)
    starts = [run.standard.before for run in found.runs]
    assert [start.source for start in starts] == [str(s / "initial") for s, _ in runs]
    assert starts[0].files != starts[1].files
    assert all(run.standard.depths[-1].procrustes > 0 for run in found.runs)


def test_runs_from_other_random_weights_are_refused(from_random):
    runs = [from_random("standard", seed=0), from_random("equal-step", seed=0, drawn=1)]
    with pytest.raises(BadInputError, match="differ in model"):
        judged([runs])
