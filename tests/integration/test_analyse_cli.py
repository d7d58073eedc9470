"""`layerwise analyse` from the command line."""

import csv

from layerwise.analysis.record import Analysis


def test_the_atlas_is_a_ledger(run, tmp_path, atlas_analysis):
    out = tmp_path / "here"
    said = run("analyse", "atlas", "--out", out)
    assert (said.code, said.err) == (0, "")
    assert "189 of 190" in said.out
    assert Analysis.load(out).slopes == atlas_analysis.slopes
    with (out / "slopes.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == len(atlas_analysis.slopes) == 420


def test_options_reach_the_record(run, tmp_path):
    args = ["--threshold", "2", "--placement", "low"]
    assert run("analyse", "atlas", "--out", tmp_path, "--format", "quiet", *args).code == 0
    chosen = Analysis.load(tmp_path).settings
    assert (chosen.threshold, chosen.placement) == (2.0, "low")
