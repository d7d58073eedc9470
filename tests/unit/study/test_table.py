"""Tables hold what results say, sorted, and nothing of when or where."""

import io
import re

import pandas as pd
import pytest

from layerwise.analysis.names import DEPTHS
from layerwise.errors import BadInputError, SchemaError
from layerwise.study.expand import study_from
from layerwise.study.ledger import create
from layerwise.study.table import as_files, frames, tables
from support.studies import MADE, end, matrix

PLAIN = matrix(
    models={"b": MADE, "a": "x"},
    objectives=["simcse", "causal-lm"],
    conditions=["standard", "lora"],
    placements={"whole": None, "low": "0,1"},
    seeds=[1, 0],
    distance={},
)
STUDY = study_from(PLAIN)
TUNED = next(c for c in STUDY.cells if c.placement == "low")
NAMES = ["model", "objective", "condition", "placement", "seed"]
PLACES = {"a": ("decoder", "sequential", 4), "b": ("decoder", "parallel", 2)}


def result(cell):
    """What a stage would say of a run; numbers follow from its id."""
    family, block, layers = PLACES[cell.model]
    made = {"model": {"family": family, "block": block, "layers": layers, "parameters": 9}}
    number = int(cell.id[-4:], 16) / 7
    if cell.stage == "distance":
        near = {"name": "causal-lm", "procrustes": 0.0, "cosine": 0.0}
        far = {"name": "simcse", "procrustes": number, "cosine": 0.25 + cell.seed / 2}
        return made | {"reference": "causal-lm", "objectives": [far, near]}
    made |= {"training": {"objective": cell.objective, "loss": number, "halvings": 0}}
    if cell.stage == "pretrain":
        return made
    seven = [number + i for i in range(7)]
    profile = {"procrustes": seven, "cka": seven[::-1], "slope": number, "width": []}
    other = {"procrustes": [0.0] * 7, "cka": [0.0] * 7, "slope": 0.0, "width": []}
    return made | {
        "readout": "hf",
        "probes": "5a at 64",
        "profile": {"hf": profile, "normed": other},
        "untrained_modules": 0,
    }


def filled(root, *, seconds=1, backwards=False, skip=()):
    ledger = create(root, STUDY)
    for cell in reversed(STUDY.cells) if backwards else STUDY.cells:
        if cell not in skip:
            end(ledger, cell, result(cell), seconds=seconds)
    return ledger


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    return filled(tmp_path_factory.mktemp("one") / "ledger")


def test_frames_are_those_of_an_analysis(ledger):
    profiles, distances, models = frames(ledger.root)
    names = [*NAMES, "metric"]
    assert list(profiles) == [*names, *DEPTHS]
    assert DEPTHS == ("d0.10", "d0.25", "d0.40", "d0.60", "d0.75", "d0.90", "d1.00")
    assert len(profiles) == 2 * (2 * 2 * 3 * 2)
    assert profiles[names].to_numpy().tolist() == sorted(profiles[names].to_numpy().tolist())
    assert set(profiles["placement"]) == {"all", "low"}
    assert list(distances) == ["model", "objective", "cosine", "procrustes"]
    mean = distances.set_index(["model", "objective"])["cosine"]
    assert mean["a", "simcse"] == 0.25
    assert mean["b", "simcse"] == 0.5
    assert mean["b", "causal-lm"] == 0.0
    assert models.to_numpy().tolist() == [
        ["a", "decoder", "sequential", 4],
        ["b", "decoder", "parallel", 2],
    ]


def test_values_are_those_of_the_result(ledger):
    profiles, _, _ = frames(ledger)
    found = result(TUNED)["profile"]["hf"]
    values = [getattr(TUNED, name) for name in NAMES]
    mine = profiles[(profiles[NAMES] == values).all(axis=1)].set_index("metric")
    assert mine.loc["procrustes", list(DEPTHS)].tolist() == found["procrustes"]
    assert mine.loc["cka", list(DEPTHS)].tolist() == found["cka"]


def test_a_table_has_a_row_a_run(ledger):
    made = tables(ledger.root)
    runs = made["runs"]
    assert len(runs) == 2 + 24
    assert runs["run"].is_unique
    assert {"family", "block", "layers", "loss", "slope", "procrustes_d0.10"} <= set(runs)
    assert not {"seconds", "width", "width_d0.10", "source"} & set(runs)
    assert runs[runs["stage"] == "pretrain"]["slope"].isna().all()
    apart = made["distances"]
    assert len(apart) == 2 * 3
    assert list(apart)[:5] == ["run", "model", "seed", "reference", "objective"]


def test_seeds_are_summed_up(ledger):
    made = tables(ledger.root)
    runs, summary = made["runs"], made["summary"]
    assert len(summary) == 24 / 2
    assert set(summary["seeds"]) == {2}
    for row in summary.to_dict("records"):
        alike = runs[runs["stage"] == "tune"]
        for name in NAMES[:-1]:
            alike = alike[alike[name] == row[name]]
        first, second = alike["loss"]
        assert row["loss_mean"] == pytest.approx((first + second) / 2)
        assert row["loss_sd"] == pytest.approx(abs(first - second) / 2**0.5)
    assert "accuracy_mean" not in summary


def test_equal_results_give_equal_bytes(ledger, tmp_path):
    other = filled(tmp_path / "elsewhere", seconds=77.7, backwards=True)
    assert as_files(tables(other.root)) == as_files(tables(ledger.root))


def test_files_say_what_the_tables_do(ledger):
    files = as_files(tables(ledger))
    names = ("runs", "summary", "distances")
    assert set(files) == {f"{name}.{suffix}" for name in names for suffix in ("csv", "parquet")}
    for name, frame in tables(ledger).items():
        for read, suffix in ((pd.read_csv, "csv"), (pd.read_parquet, "parquet")):
            again = read(io.BytesIO(files[f"{name}.{suffix}"]))
            pd.testing.assert_frame_equal(again, frame, check_dtype=False)


def test_what_is_not_done_or_not_of_the_study_is_left_out(tmp_path):
    left = [c for c in STUDY.cells if c.stage == "distance" or c.seed == 1]
    ledger = filled(tmp_path / "ledger", skip=left)
    assert set(tables(ledger)["runs"]["seed"]) == {0}
    assert "distances" not in tables(ledger)
    _, distances, _ = frames(ledger)
    assert list(distances) == ["model", "objective", "cosine", "procrustes"]
    create(ledger.root, study_from(PLAIN | {"defaults": {"data": "other"}}))
    profiles, _, models = frames(ledger.root)
    assert (len(profiles), len(models)) == (0, 1)  # Pretraining is as it was.


def test_nothing_done_gives_empty_tables(tmp_path):
    ledger = create(tmp_path / "ledger", STUDY)
    assert [len(frame) for frame in frames(ledger)] == [0, 0, 0]
    assert len(tables(ledger)["runs"]) == 0
    assert as_files(tables(ledger))["runs.csv"].startswith(b"run,stage,model,")
    assert as_files(tables(ledger))["summary.csv"] == b"model,objective,condition,placement,seeds\n"


def test_a_result_that_was_changed_is_refused(tmp_path):
    ledger = filled(tmp_path / "ledger")
    run_id = next(iter(ledger.begun()))
    (ledger.folder(run_id) / "spec.json").write_text("{}")
    with pytest.raises(SchemaError, match=f"not what was written: '.*{re.escape(run_id)}"):
        frames(ledger)


def test_profiles_of_different_probes_are_no_table_of_an_analysis(tmp_path):
    ledger = filled(tmp_path / "ledger", skip=[TUNED])
    end(ledger, TUNED, result(TUNED) | {"probes": "5a at 32"})
    with pytest.raises(BadInputError, match="profiles of a study of different probes: '5a at 64'"):
        frames(ledger)
    assert set(tables(ledger)["runs"]["probes"].dropna()) == {"5a at 32", "5a at 64"}


ODD = {"hf": {"procrustes": [0.0] * 7, "cka": [1.0]}}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"readout": "odd"}, "result without a profile"),
        ({"profile": None}, "result without a profile"),
        ({"profile": ODD}, "profile of 1 depths.*expected 7"),
    ],
)
def test_a_result_without_a_profile_is_refused(tmp_path, change, match):
    ledger = create(tmp_path / "ledger", STUDY)
    end(ledger, TUNED, result(TUNED) | change)
    with pytest.raises(SchemaError, match=match):
        frames(ledger)
