import csv
import io
import re

import pandas as pd
import pytest

from layerwise.analysis.record import PARTS
from layerwise.report.documents.analysis_files import analysis_files

SPECIAL = r"50%_of & the $cost #1 {a} ~b^2 \input{x} <i>|j"


def read(content):
    return list(csv.DictReader(io.StringIO(content.decode())))


def body(latex):
    """The cells between the rules of a table."""
    rows = latex.split(r"\endlastfoot")[-1].split(r"\midrule")[-1]
    inner = rows.split(r"\bottomrule")[0].split(r"\end{")[0]
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)&", line.removesuffix(r"\\"))]
        for line in inner.strip().splitlines()
    ]


@pytest.fixture(scope="module")
def files(atlas_analysis):
    return analysis_files(atlas_analysis)


def test_every_part_is_a_csv_with_every_number_in_full(files, atlas_analysis):
    for part in PARTS:
        rows, table = read(files[f"{part.replace('_', '-')}.csv"]), atlas_analysis.frame(part)
        assert len(rows) == len(table)
        assert list(rows[0]) == list(table.columns)
    assert [float(row["slope"]) for row in read(files["slopes.csv"])] == [
        row.slope for row in atlas_analysis.slopes
    ]
    assert read(files["models.csv"])[0]["layers"] == "12"


def test_the_latex_is_booktabs_with_balanced_rows(files):
    tables = {name: c.decode() for name, c in files.items() if name.endswith(".tex")}
    assert {"widths.tex", "equal-step.tex", "slopes-procrustes.tex", "slopes-cka.tex"} <= set(
        tables
    )
    for name, latex in tables.items():
        assert r"\toprule" in latex, name
        columns = len(re.search(r"\{([lr]+)\}", latex)[1])
        assert {len(row) for row in body(latex) if len(row) > 1} == {columns}, name
        assert latex.count("{") == latex.count("}")
        assert "nan" not in latex.lower()
        assert "None" not in latex


def test_slopes_are_a_column_a_condition(files, atlas_analysis):
    latex = files["slopes-procrustes.tex"].decode()
    head = "Model & Objective & standard & uniform & lora & frozen-norm & frozen-lower & equal-step"
    assert head in latex
    rows = {tuple(row[:2]): row[2:] for row in body(latex)}
    own = {
        r.condition: r.slope
        for r in atlas_analysis.mean_slopes
        if (r.model, r.objective, r.metric) == ("pythia-160m", "simcse", "procrustes")
    }
    row = rows["pythia-160m", "simcse"]
    assert row[0] == f"{own['standard']:.3f}"
    assert row[-1] == f"$-${abs(own['equal-step']):.3f}"


def test_small_p_values_are_not_rounded_to_zero(files):
    assert "0.0039" in files["sign-tests.tex"].decode()
    assert "$<$ 0.0001" in files["pooled.tex"].decode()


def test_latex_specials_are_escaped(planted_runs):
    runs = planted_runs.study(models=(SPECIAL,), metrics=("cka",))
    latex = analysis_files(planted_runs.analysed(runs))["widths.tex"].decode()
    (row,) = body(latex)
    assert row[0] == (
        r"50\%\_of \& the \$cost \#1 \{a\} \textasciitilde b\textasciicircum 2 "
        r"\textbackslash input\{x\} $<$i$>$$|$j"
    )


@pytest.mark.parametrize("name", ["[0.5em]", "*"])
def test_a_cell_is_no_argument_of_the_line_end_before_it(planted_runs, name):
    made = planted_runs.analysed(planted_runs.study(models=("a", name), metrics=("cka",)))
    assert f"\n{{{name}}} & " in analysis_files(made)["widths.tex"].decode()


def test_a_name_cannot_break_a_line(planted_runs):
    made = planted_runs.analysed(planted_runs.study(models=("a\nb\r\n% c",), metrics=("cka",)))
    (row,) = body(analysis_files(made)["widths.tex"].decode())
    assert row[0] == r"a b \% c"


@pytest.mark.parametrize("name", ["=1+1", "+x", "-2", "@SUM(A1)", "\tx", "\rx", '=cmd|"/c x"!A0'])
def test_a_spreadsheet_runs_no_name(planted_runs, name):
    made = planted_runs.analysed(planted_runs.study(models=(name,)))
    for file, content in analysis_files(made).items():
        if file.endswith(".csv"):
            cells = [
                cell
                for row in csv.reader(io.StringIO(content.decode(), newline=""))
                for cell in row
            ]
            assert name not in cells, file
    assert read(analysis_files(made)["models.csv"])[0]["model"].lstrip("'") == name.strip()


def test_negative_numbers_stay_numbers(files):
    table = pd.read_csv(io.BytesIO(files["negative.csv"]))
    assert (table["slope"] < 0).all()


def test_what_there_is_not_is_a_comment_in_latex_and_headings_in_csv(planted_runs):
    made = planted_runs.analysed(planted_runs.study(metrics=("cka",), distant=False))
    files = analysis_files(made)
    for name in ("concordance.tex", "negative.tex", "slopes-procrustes.tex"):
        assert files[name].startswith(b"%")
        assert files[name].count(b"\n") == 1
    assert files["concordance.csv"].startswith(b"model,distance,metric,")


def test_conditions_may_be_called_as_columns_are(planted_runs):
    runs = planted_runs.study(conditions=("model", "objective", "standard"), metrics=("cka",))
    latex = analysis_files(planted_runs.analysed(runs))["slopes-cka.tex"].decode()
    assert "standard & model (condition) & objective (condition)" in latex
