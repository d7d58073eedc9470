"""Sizes that keep the code readable."""

import ast
from pathlib import Path
from statistics import median, quantiles

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "layerwise"
FILES = sorted(PACKAGE.rglob("*.py"))


def body_lines(function: ast.FunctionDef) -> int:
    """Lines of a function's body, without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


@pytest.fixture(scope="module")
def lengths():
    trees = (ast.parse(path.read_text()) for path in FILES)
    functions = (n for tree in trees for n in ast.walk(tree) if isinstance(n, ast.FunctionDef))
    return [body_lines(function) for function in functions]


def test_functions_are_short(lengths):
    assert 3 <= median(lengths) <= 8
    assert quantiles(lengths, n=10)[-1] <= 35


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_fit_in_a_head(path):
    assert len(path.read_text().splitlines()) <= 500


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_annotations_are_real(path):
    assert "from __future__ import annotations" not in path.read_text()
