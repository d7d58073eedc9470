"""Sizes and habits that keep the code readable."""

import ast
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "layerwise"


def sources(*folders):
    """Every Python file below `folders` of the repository and its text."""
    found = [path for name in folders for path in sorted((ROOT / name).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): path.read_text() for path in found}


def body_lines(function: ast.FunctionDef) -> int:
    """Lines of a function's body, without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def test_functions_are_short():
    """There is no lower bound: straight logic is not cut into shreds."""
    trees = map(ast.parse, sources("src").values())
    functions = (n for tree in trees for n in ast.walk(tree) if isinstance(n, ast.FunctionDef))
    lengths = [body_lines(function) for function in functions]
    assert median(lengths) <= 8
    assert quantiles(lengths, n=10)[-1] <= 35


def test_modules_fit_in_a_head():
    lengths = {name: len(text.splitlines()) for name, text in sources("src").items()}
    assert {name: length for name, length in lengths.items() if length > 500} == {}


def test_annotations_are_real():
    late = "from __future__ import annotations"
    assert [name for name, text in sources("src").items() if late in text] == []


def test_tests_are_no_longer_than_the_code():
    tests, code = (
        sum(len(text.splitlines()) for text in sources(name).values()) for name in ("tests", "src")
    )
    assert tests <= code


def test_helpers_of_tests_are_imported():
    """They are the package `support`; a file that is run for its names hides who uses them."""
    files = sources("src", "tests", "experiments", "benchmarks", "examples")
    assert [name for name, text in files.items() if "import " + "runpy" in text] == []


def test_docstrings_say_what_functions_do_or_return():
    """They open with a verb; "What ..." leaves the reader to find it."""
    words = {"What", "That", "Where", "How", "Whether"}
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    found = [
        f"{name}: {node.name}"
        for name, text in sources("src").items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, kinds) and (ast.get_docstring(node) or "-").split()[0] in words
    ]
    assert found == []


def test_class_names_are_unique():
    """With or without an underscore: one name, one meaning."""
    found = [
        node.name.lstrip("_")
        for text in sources("src").values()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef)
    ]
    assert {name for name in found if found.count(name) > 1} == set()
