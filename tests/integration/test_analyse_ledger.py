"""`layerwise analyse` of a study's own ledger, with placements, seeds and distances."""

import pytest

from layerwise.analysis.record import Analysis
from layerwise.depths import RELATIVE_DEPTHS
from layerwise.study.expand import study_from
from layerwise.study.ledger import create

STEEP = {"causal-lm": 0.1, "causal-span": 0.2, "simcse": 0.4}
STUDY = {
    "schema": "layerwise/study/1",
    "name": "matrix",
    "defaults": {"data": "demo"},
    "models": {"seq": {"source": "x"}, "par": {"source": "y"}},
    "objectives": list(STEEP),
    "conditions": ["standard", "lora", "equal-step"],
    "placements": {"all": None, "low": "0,1"},
    "seeds": [0, 1, 2],
    "distance": {},
}


def slope(cell):
    """What a run is planted with."""
    steep = STEEP[cell.objective] + 0.01 * cell.seed
    left = {"seq": 1.0, "par": -0.5}[cell.model] if cell.condition == "equal-step" else 1.0
    return -steep if cell.settings.get("placement") else left * steep


def result(cell):
    """What a stage would say of a run."""
    block = {"seq": "sequential", "par": "parallel"}[cell.model]
    made = {"model": {"family": "decoder", "block": block, "layers": 4, "parameters": 9}}
    if cell.stage == "distance":
        far = [
            {"name": name, "procrustes": s - 0.1, "cosine": 0.5 - s} for name, s in STEEP.items()
        ]
        return made | {"reference": "causal-lm", "objectives": far}
    line = [0.7 + slope(cell) * (depth - 0.6) for depth in RELATIVE_DEPTHS]
    profile = {"procrustes": line, "cka": line, "slope": slope(cell), "width": []}
    return made | {"readout": "hf", "profile": {"hf": profile}, "untrained_modules": 0}


def filled(root, *, done=lambda _cell: True):
    study = study_from(STUDY)
    ledger = create(root, study)
    for cell in study.cells:
        if done(cell):
            ledger.prepare(cell)
            ledger.finish(cell.id, result(cell), lease=ledger.begin(cell.id), seconds=1)
    return ledger.root


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    from layerwise.cli import main

    folder = tmp_path_factory.mktemp("ledgers")
    ledger = filled(folder / "ledger")
    command = ["analyse", str(ledger), "--out", str(folder / "out"), "--format", "quiet"]
    assert main(command) == 0
    return Analysis.load(folder / "out")


def test_slopes_are_those_of_the_runs(made):
    found = {(r.model, r.objective, r.condition, r.metric): r for r in made.mean_slopes}
    assert len(found) == 2 * 3 * 3 * 2
    row = found["seq", "simcse", "lora", "cka"]
    assert (row.slope, row.seeds) == (pytest.approx(0.41), 3)
    assert row.low < row.slope < row.high
    assert made.absent == {}


def test_runs_of_a_placement_are_apart(made):
    assert {run.placement for run in made.negative} == {"low"}
    assert made.notes == (
        "of other placements: 18 runs, among the slopes and their signs and in no other part",
    )


def test_equal_step_by_block(made):
    counts = {c.block: c for c in made.sign_counts if c.metric == "cka" and c.family is None}
    assert (counts["sequential"].positive, counts["parallel"].negative) == (3, 3)
    assert {round(row.ratio, 9) for row in made.equal_step} == {1.0, -0.5}


def test_distances_are_joined_to_slopes(made):
    rhos = {(row.model, row.distance): row.rho for row in made.concordance if row.metric == "cka"}
    assert rhos == {
        ("seq", "procrustes"): pytest.approx(1),
        ("par", "procrustes"): pytest.approx(1),
        ("seq", "cosine"): pytest.approx(-1),
        ("par", "cosine"): pytest.approx(-1),
    }


def test_a_study_under_way_is_analysed_as_far_as_it_is(run, tmp_path):
    ledger = filled(tmp_path / "ledger", done=lambda cell: cell.condition == "standard")
    assert run("analyse", ledger, "--out", tmp_path / "out", "--format", "quiet").code == 0
    made = Analysis.load(tmp_path / "out")
    assert set(made.absent) == {"equal_step", "concordance"}
    assert {share.runs for share in made.shares} == {18}


def test_a_study_without_a_finished_run(refused, tmp_path):
    ledger = filled(tmp_path / "ledger", done=lambda _cell: False)
    assert "no finished run to analyse" in refused("analyse", ledger, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_result_that_was_changed_is_refused(refused, tmp_path):
    ledger = filled(tmp_path / "ledger", done=lambda cell: cell.condition == "standard")
    file = next(ledger.glob("runs/*/result.json"))
    file.write_text(file.read_text().replace("0.", "1.", 1)[:-20])
    assert file.parent.name in refused("analyse", ledger, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
