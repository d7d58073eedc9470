"""Both conditions from one start, and the verdict of runs made here or finished before."""

import json
import statistics
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

import layerwise as lw
from layerwise.capture.restore import weights_kept
from layerwise.errors import BadInputError, NonFiniteError, OutputError
from layerwise.objectives import OBJECTIVES
from layerwise.profile.control import ControlPlan, RunStorage, alike, run_control
from layerwise.profile.probe_reading import as_probe_set
from layerwise.tuning.lora import prepared
from layerwise.tuning.record import TuneRecord
from support.profiles import PROBES, READING

pytestmark = pytest.mark.slow  # Short runs, many of them.

OPTIONS = {"steps": 5, "match_steps": 3, "learning_rate": 1e-3}
OBJECTIVE = {"bert": "masked-lm", "encoder": "simcse"}


@pytest.fixture(scope="module")
def made(tuning):
    """Runs a control of a tiny model; gives the control, its log, and the model."""

    def run(name="llama", *, seeds=(0,), match="steps", reading=READING, loaded=None, **options):
        subject = loaded or tuning.loaded(name)
        heard = []

        @contextmanager
        def watch(condition, seed):
            lines = []
            heard.append((condition, seed, lines))
            yield lines.append

        keep = replace(options.pop("keep", RunStorage()), watch=watch)
        control = run_control(
            subject,
            tuning.data(),
            OBJECTIVES[OBJECTIVE.get(name, "causal-lm")],
            reading=reading,
            settings=tuning.settings(**(OPTIONS | options)),
            plan=ControlPlan(seeds, match=match),
            keep=keep,
        )
        return control, heard, subject

    return run


@pytest.fixture(scope="module")
def two_seeds(made, tmp_path_factory):
    """A control of two seeds, its log, and the folder of its runs with their weights."""
    folder = tmp_path_factory.mktemp("control")
    control, heard, _ = made(seeds=(0, 3), keep=RunStorage(folder, weights=True))
    return control, heard, folder


def figures(profile):
    """What a profile measured, without who made it when."""
    return profile.readouts, profile.probes, profile.slope, profile.stack


def test_each_seed_is_run_under_both_conditions_in_order(two_seeds):
    control, heard, _ = two_seeds
    assert [(condition, seed) for condition, seed, _ in heard] == [
        ("standard", 0), ("equal-step", 0), ("standard", 3), ("equal-step", 3),
    ]  # fmt: skip
    assert control.seeds == (0, 3)
    assert [run.seed for run in control.runs] == [0, 3]
    assert all(len(lines) == 5 for _, _, lines in heard)


def test_both_runs_of_a_seed_begin_alike_and_seeds_do_not(two_seeds):
    """The first loss is of the first weights, batch, order and dropout."""
    _, heard, _ = two_seeds
    first = {(condition, seed): lines[0]["loss"] for condition, seed, lines in heard}
    assert first["standard", 0] == first["equal-step", 0]
    assert first["standard", 3] == first["equal-step", 3]
    assert first["standard", 0] != first["standard", 3]


@pytest.mark.parametrize("name", ["bert", "t5"])
def test_other_architectures(made, name):
    control, _, _ = made(name, steps=2)
    assert control.standard.depths[-1].procrustes > 0.0


@pytest.mark.parametrize("bf16", [False, True])
def test_each_run_is_the_run_that_it_would_be_alone(made, tuning, tmp_path, bf16):
    """Nothing of a run is left for the next: not its weights, nor what is laid around the model."""
    control, _, _ = made("encoder", keep=RunStorage(tmp_path, weights=True), bf16=bf16)
    (run,) = control.runs
    for condition, settings in (("standard", {}), ("equal-step", {"tau": run.tau})):
        alone = tuning.tune(
            "encoder", objective="simcse", condition=condition, steps=5, learning_rate=1e-3,
            bf16=bf16, **settings,
        )  # fmt: skip
        kept = tuning.loaded("encoder").model.from_pretrained(
            tmp_path / "runs" / f"{condition}-0", attn_implementation="sdpa"
        )
        assert tuning.same(tuning.weights(alone), tuning.weights(replace(alone.loaded, model=kept)))


def test_only_the_records_and_logs_are_left_where_weights_are_not_wanted(
    made, two_seeds, tuning, tmp_path
):
    """The model has its own again, to the last bit, and the readout is the one asked for."""
    subject, reading = tuning.loaded(), replace(READING, readout="residual")
    before = tuning.weights(subject)
    control, _, _ = made(loaded=subject, reading=reading, keep=RunStorage(tmp_path))
    assert tuning.same(before, tuning.weights(subject))
    assert not subject.model.training
    assert all(p.requires_grad and p.grad is None for p in subject.model.parameters())
    for name in ("standard-0", "equal-step-0"):
        assert {p.name for p in (tmp_path / "runs" / name).iterdir()} == {"tune.json", "log.jsonl"}
        assert TuneRecord.load(tmp_path / "runs" / name).files == {}
    whole = two_seeds[0].runs[0]
    assert control.slopes["standard"].slope == whole.standard.readouts["residual"].slope
    assert control.slopes["equal_step"].slope == whole.equal_step.readouts["residual"].slope


def test_the_model_has_them_again_where_a_run_fails(made, tuning):
    subject = tuning.loaded()
    before = tuning.weights(subject)
    with pytest.raises(NonFiniteError, match="non-finite"):
        made(loaded=subject, learning_rate=1e30, max_grad_norm=1e30)
    assert tuning.same(before, tuning.weights(subject))


def test_tau_is_the_median_over_groups_and_first_steps_of_that_seed_s_standard_run(
    two_seeds, tuning
):
    control, heard, _ = two_seeds
    for run in control.runs:
        (lines,) = (ls for c, seed, ls in heard if (c, seed) == ("standard", run.seed))
        ratios = [ratio for line in lines[:3] for ratio in line["step_ratio"].values()]
        assert run.tau == statistics.median(ratios)
    assert control.runs[0].tau != control.runs[1].tau
    alone = tuning.tune(condition="equal-step", **OPTIONS)
    assert control.tau == control.runs[0].tau == alone.record.tau


def test_a_tau_that_is_given_is_every_seed_s(made):
    control, _, _ = made(seeds=(0, 1), tau=2e-3)
    assert [run.tau for run in control.runs] == [2e-3, 2e-3]


@pytest.mark.parametrize("exponent", [1.0, 0.5, 2.0])
def test_a_tau_is_found_at_which_all_depths_move_as_far(exponent):
    tried = []

    def moved(tau):
        tried.append(tau)
        return (tau / 3e-3) ** exponent

    tau, told = alike(moved, 1e-3)
    if exponent == 1.0:
        assert len(tried) == 2
    assert abs(moved(tau) - 1) < 0.5
    assert "tau by movement" in told
    assert alike(lambda _: None, 1e-3) == (1e-3, "nothing moved, so that tau is matched by steps")


@pytest.mark.slow
def test_movement_is_matched_by_trial_runs_that_are_not_kept(made, tmp_path):
    control, _, _ = made(keep=RunStorage(tmp_path), match="movement")
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["equal-step-0", "standard-0"]
    assert control.movement == pytest.approx(1.0, abs=0.2)
    assert any(note.startswith("seed 0: tau by movement") for note in control.notes)


def test_the_steps_are_those_of_the_log(two_seeds):
    control, heard, _ = two_seeds
    for run in control.runs:
        found = {"standard": run.standard_steps, "equal-step": run.equal_step_steps}
        for condition, sizes in found.items():
            (lines,) = (ls for c, seed, ls in heard if (c, seed) == (condition, run.seed))
            for size in sizes:
                ratios = [line["step_ratio"][size.group] for line in lines]
                expected = np.percentile(ratios, [50, 5, 95])
                assert [size.median, size.low, size.high] == pytest.approx(expected)
        assert {size.asked for size in run.standard_steps} == {None}
        assert {size.asked for size in run.equal_step_steps} == {run.tau}
        assert [size.median for size in run.equal_step_steps] == pytest.approx(
            [run.tau] * len(run.equal_step_steps), rel=1e-3
        )
        assert [size.row for size in run.standard_steps] == [0, 1, None]


def test_profiles_and_losses_are_those_of_the_runs(two_seeds, tuning):
    control, heard, folder = two_seeds
    subject = tuning.loaded()
    before = READING.states(subject)
    for run in control.runs:
        for condition, profile in (("standard", run.standard), ("equal-step", run.equal_step)):
            kept = type(subject.model).from_pretrained(folder / "runs" / f"{condition}-{run.seed}")
            after = READING.states(replace(subject, model=kept.eval()))
            again = READING.profile(before, after, provenance=profile.provenance)
            assert figures(again) == figures(profile)
            assert profile.after.source == str(folder / "runs" / f"{condition}-{run.seed}")
            assert profile.before.source == "llama"
        (lines,) = (ls for c, seed, ls in heard if (c, seed) == ("standard", run.seed))
        assert run.standard_loss == lines[-1]["loss"]
    assert control.data.objective == "causal-lm"


def test_each_run_leaves_its_record_and_log(two_seeds):
    _, heard, folder = two_seeds
    for condition, seed, lines in heard:
        run = folder / "runs" / f"{condition}-{seed}"
        record = TuneRecord.load(run)
        assert (record.condition, record.settings.seed) == (condition, seed)
        assert "model.safetensors" in record.files
        logged = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        assert [line["loss"] for line in logged] == [line["loss"] for line in lines]


def test_runs_that_are_there_are_refused_before_any_work(made, tmp_path):
    taken = tmp_path / "runs" / "equal-step-0"
    taken.mkdir(parents=True)
    (taken / "tune.json").write_text("{}")
    with pytest.raises(OutputError, match=r"already holds a tune\.json.*equal-step-0"):
        made(keep=RunStorage(tmp_path))
    assert not (tmp_path / "runs" / "standard-0" / "log.jsonl").exists()


def test_runs_that_may_be_replaced_leave_nothing_of_theirs(made, tmp_path):
    made(keep=RunStorage(tmp_path, weights=True), steps=2)
    (tmp_path / "runs" / "standard-0" / "mine.txt").write_text("kept")
    made(keep=RunStorage(tmp_path, overwrite=True), steps=3)
    run = tmp_path / "runs" / "standard-0"
    assert {p.name for p in run.iterdir()} == {"tune.json", "log.jsonl", "mine.txt"}
    assert TuneRecord.load(run).settings.steps == 3


@pytest.mark.parametrize("link", ["runs", "runs/standard-0"])
def test_a_link_in_the_place_of_runs_is_not_followed(made, tmp_path, link):
    """What it leads to may be another control, whose record would have its files removed."""
    other, out = tmp_path / "other", tmp_path / "out"
    made(keep=RunStorage(other, weights=True), steps=2)
    before = {path: path.stat().st_mtime_ns for path in other.rglob("*")}
    (out / link).parent.mkdir(parents=True)
    (out / link).symlink_to(other / link)
    with pytest.raises(OutputError, match=r"link where the folder of a run.*--overwrite"):
        made(keep=RunStorage(out), steps=2)
    made(keep=RunStorage(out, overwrite=True), steps=3)
    assert {path: path.stat().st_mtime_ns for path in other.rglob("*")} == before
    assert not (out / link).is_symlink()
    assert TuneRecord.load(out / "runs" / "standard-0").settings.steps == 3


def test_a_condition_s_own_settings_reach_it_alone(made, tuning):
    """`decay` is standard's, and `equal_step` the other's; neither refuses the other's."""
    control, _, _ = made(decay=0.5, equal_step="copy")
    alone = tuning.tune(condition="standard", decay=0.5, **OPTIONS | {"match_steps": 50})
    assert control.runs[0].standard_loss == alone.record.outcome.loss


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        *(("tau", tau, "a number, above 0") for tau in (0.0, -1e-3, float("nan"), float("inf"))),
        *(("seeds", seeds, "whole numbers, such as 0,1,2, each once") for seeds in ((), (1, 1))),
    ],
)
def test_a_tau_and_seeds_that_cannot_be_are_refused_before_anything_is_read(option, value, says):
    with pytest.raises(BadInputError, match=f"value of {option}: .*expected {says}"):
        lw.control("nowhere", "nothing", **{option: value})


def test_probes_are_texts_a_source_or_the_package_s_own(tmp_path):
    file = tmp_path / "probes.txt"
    file.write_text("\n".join(PROBES))
    assert as_probe_set(str(file)).texts == as_probe_set(list(PROBES)).texts == PROBES
    assert len(as_probe_set(None).texts) == len(as_probe_set(None, examples=290).texts) == 290
    drawn = [as_probe_set(str(file), examples=9, seed=seed) for seed in (0, 0, 1)]
    assert [len(probes.texts) for probes in drawn] == [9, 9, 9]
    assert drawn[0] == drawn[1] != drawn[2]


def test_of_the_package_s_own_as_many_are_drawn_as_are_asked_for():
    whole, few = as_probe_set(None).texts, as_probe_set(None, examples=40, seed=1).texts
    assert len(few) == 40
    assert list(few) == [text for text in whole if text in few]
    assert few == as_probe_set(None, examples=40, seed=1).texts
    assert few != as_probe_set(None, examples=40, seed=2).texts


def test_the_copy_of_the_weights_is_kept_in_main_memory(tuning):
    subject = tuning.loaded()
    before = tuning.weights(subject)
    with weights_kept(subject.model), torch.no_grad():
        for tensor in (*subject.model.parameters(), *subject.model.buffers()):
            tensor.zero_()
    assert tuning.same(before, tuning.weights(subject))


def test_a_model_with_adapters_is_refused_before_anything_is_read(tuning, tmp_path):
    loaded, _ = prepared(tuning.loaded("llama"), None)
    with pytest.raises(BadInputError, match="try: the base alone; layerwise profile") as refused:
        lw.control(loaded, tuning.data(8), out=tmp_path / "out", probes=PROBES, steps=1)
    assert "--condition" not in refused.value.message
    assert not (tmp_path / "out").exists()
