import pandas as pd
import pytest

from layerwise.analysis.names import DEPTHS
from layerwise.analysis.record import PARTS, Analysis, MeanSlope, rows_of
from layerwise.errors import UnknownNameError


def test_there_and_back(atlas_analysis, tmp_path):
    (tmp_path / "analysis.json").write_bytes(atlas_analysis.to_json())
    assert Analysis.load(tmp_path) == atlas_analysis
    assert Analysis.load(tmp_path / "analysis.json").to_json() == atlas_analysis.to_json()


@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_a_table_with_its_columns_even_when_empty(atlas_analysis, planted_runs, part):
    full = atlas_analysis.frame(part)
    assert len(full) == len(getattr(atlas_analysis, part)) > 0
    one = planted_runs.study(models=("a",), metrics=("procrustes",), distant=False)
    bare = planted_runs.analysed(one).frame(part)
    assert list(bare.columns) == list(full.columns)


def test_widths_have_a_column_a_depth(atlas_analysis):
    table = atlas_analysis.frame("widths")
    assert list(table.columns)[-7:] == list(DEPTHS)
    assert table[list(DEPTHS)].sum(axis=1).tolist() == pytest.approx([1] * 9)


def test_an_unknown_part_has_a_neighbour(atlas_analysis):
    with pytest.raises(UnknownNameError, match="did you mean 'widths'"):
        atlas_analysis.frame("width")


def test_rows_have_none_for_what_is_missing():
    table = pd.DataFrame(
        {
            "model": ["a", "b"],
            "objective": "o",
            "condition": "c",
            "metric": "cka",
            "seeds": [1, 2],
            "slope": [0.5, 0.25],
            "low": [float("nan"), 0.125],
            "unused": 1,
        }
    )
    first, second = rows_of(table, MeanSlope)
    assert first == MeanSlope("a", "o", "c", "cka", 1, 0.5)
    assert second.low == 0.125
    assert type(second.seeds) is int
