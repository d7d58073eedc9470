"""Analyses from Python."""

import pytest

import layerwise
from layerwise.errors import BadInputError


def test_the_atlas_by_name(atlas_analysis):
    made = layerwise.analyse("atlas")
    assert isinstance(made, layerwise.Analysis)
    assert made.sha256 == atlas_analysis.sha256
    assert made.widths == atlas_analysis.widths


def test_tables_in_hand(planted_runs):
    made = layerwise.analyse(planted_runs.study(seeds=(0, 1)), bootstrap=20, threshold=2.0)
    assert made.source == "planted"
    assert made.settings.bootstrap == 20
    assert made.provenance.device == "cpu"


def test_a_bootstrap_needs_resamples():
    with pytest.raises(BadInputError, match="bootstrap: '0'; expected a whole number, 1 or more"):
        layerwise.analyse("atlas", bootstrap=0)


def test_what_is_printed_and_what_a_notebook_shows(atlas_analysis):
    assert "189 of 190" in str(atlas_analysis)
    shown = atlas_analysis._repr_html_()
    assert shown.startswith("<iframe")
    assert 'sandbox="allow-scripts"' in shown


def test_no_such_ledger(tmp_path):
    with pytest.raises(BadInputError, match="no such ledger"):
        layerwise.analyse(tmp_path / "none")
