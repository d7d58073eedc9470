import pandas as pd

from layerwise.report.renderers.frames import csv, frame


def test_a_frame_has_raw_values_and_the_ends_of_intervals(planted_document):
    found = frame(planted_document().tables()["sizes"])
    assert list(found) == ["name", "size", "low", "high", "share", "memory", "count", "dead"]
    assert list(found["size"]) == [0.5, 1.0, 1.5]
    assert list(found["dead"]) == [False, True, False]


def test_a_cell_of_csv_is_neither_a_formula_nor_two_lines():
    data = pd.DataFrame({"a": ["=1+1", "@x", "x\ny", "-"], "b": [-1.0, 2.0, 3.0, None]})
    assert csv(data).decode().splitlines() == ["a,b", "'=1+1,-1.0", "'@x,2.0", "x y,3.0", "'-,"]
