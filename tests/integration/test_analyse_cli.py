"""`layerwise analyse` from the command line."""

import csv
import json

import pytest

from layerwise.analysis.record import Analysis
from layerwise.files import canonical_json


@pytest.fixture(scope="module")
def atlas_folder(tmp_path_factory):
    from layerwise.cli import main

    folder = tmp_path_factory.mktemp("analyses") / "atlas"
    assert main(["analyse", "atlas", "--out", str(folder), "--format", "quiet"]) == 0
    return folder


def test_the_atlas_is_a_ledger(run, tmp_path, atlas_analysis):
    out = tmp_path / "here"
    said = run("analyse", "atlas", "--out", out)
    assert (said.code, said.err) == (0, "")
    assert "Analysis of many runs: atlas (arXiv 2604.17177)" in said.out
    assert "189 of 190" in said.out
    assert str(out / "analysis.json") in said.out.replace("\n", "")
    assert Analysis.load(out).slopes == atlas_analysis.slopes


def test_everything_is_written(atlas_folder):
    names = {path.name for path in atlas_folder.iterdir()}
    assert {"analysis.json", "report.html", "slopes.csv", "widths.csv", "widths.tex"} <= names
    assert {"equal-step.tex", "slopes-procrustes.tex", "slopes-cka.tex"} <= names
    assert (atlas_folder / "report.html").read_bytes().startswith(b"<!DOCTYPE html>")
    with (atlas_folder / "slopes.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 420


def test_json_is_the_record(run, tmp_path):
    said = run("analyse", "atlas", "--out", tmp_path / "out", "--format", "json")
    record = json.loads(said.out)
    assert record["schema"] == "layerwise/analysis/1"
    assert len(record["slopes"]) == 420
    assert (tmp_path / "out" / "analysis.json").read_text() == said.out


def test_options_reach_the_record(run, tmp_path):
    args = ["--threshold", "2", "--bootstrap", "7", "--seed", "3", "--placement", "low"]
    assert run("analyse", "atlas", "--out", tmp_path, "--format", "quiet", *args).code == 0
    chosen = Analysis.load(tmp_path).settings
    assert (chosen.threshold, chosen.bootstrap, chosen.seed) == (2.0, 7, 3)
    assert chosen.placement == "low"


def test_charts_are_files_too(run, tmp_path):
    args = ["--out", tmp_path, "--charts", "--format", "quiet"]
    assert run("analyse", "atlas", *args).code == 0
    assert {p.suffix for p in tmp_path.glob("chart-*")} == {".png", ".svg"}


def test_a_result_is_not_replaced_unasked(run, atlas_folder):
    before = (atlas_folder / "analysis.json").read_bytes()
    again = run("analyse", "atlas", "--out", atlas_folder)
    assert again.code == 2
    assert "already holds a analysis.json" in again.error
    assert (atlas_folder / "analysis.json").read_bytes() == before
    assert run("analyse", "atlas", "--out", atlas_folder, "--overwrite").code == 0


def ledger(folder, schema):
    folder.mkdir()
    (folder / "ledger.json").write_bytes(canonical_json({"schema": schema, "name": "n"}))
    return folder


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere"], "no such ledger: 'nowhere'; expected the folder of a study's runs, or atlas"),
        (["atlas\0"], "no such ledger"),
        (["atlas", "--threshold", "0"], "threshold of anomalies: '0.0'"),
        (["atlas", "--threshold", "nan"], "value of --threshold: 'nan'; expected a number"),
        (["atlas", "--threshold", "much"], "value of --threshold: 'much'; expected a number"),
        (["atlas", "--bootstrap", "0"], "value of --bootstrap: '0'; expected a whole number"),
        (["atlas", "--seed", "-1"], "seed of the resamples: '-1'"),
        ([], "Missing argument"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(run, tmp_path, args, message):
    said = run("analyse", *args, "--out", tmp_path / "out")
    assert said.code == 2
    assert message in said.error
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_ledger(run, tmp_path):
    (tmp_path / "stuff").mkdir()
    said = run("analyse", tmp_path / "stuff", "--out", tmp_path / "out")
    assert said.code == 2
    assert "ledger" in said.error
    assert not (tmp_path / "out").exists()


def test_a_ledger_of_another_schema(run, tmp_path):
    said = run("analyse", ledger(tmp_path / "l", "layerwise/ledger/9"), "--out", tmp_path / "out")
    assert said.code == 2
    assert "layerwise/ledger/9" in said.error
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_is_a_file(run, tmp_path):
    (tmp_path / "out").write_text("mine")
    said = run("analyse", "atlas", "--out", tmp_path / "out")
    assert said.code == 2
    assert "cannot write to the output folder" in said.error
    assert (tmp_path / "out").read_text() == "mine"
