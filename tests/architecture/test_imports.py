"""What may import what: the way of the data, one direction only."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "layerwise"

GROUND = {
    "columns", "compat", "depths", "distributed", "errors", "extras", "files", "interrupts",
    "intervals", "options", "progress", "provenance", "records", "registry", "resources", "seeds",
    "shapes", "late_methods",
}  # fmt: skip

#: From the start of the way to its end: a stage sees those before it, and ground.
STAGES = (
    "models", "data", "objectives", "capture", "signals", "card", "distance", "placement",
    "tuning", "profile", "measure", "probing", "analysis", "study", "report", "api", "cli",
)  # fmt: skip

#: Stages that see less than all before them.
NARROW = {
    "signals": {"capture.stats"},
    "analysis": set(),
    "report": {"distance", "card", "placement", "profile", "measure", "probing", "analysis"}
    | {"tuning.record", "tuning.columns", "study.status"},
}

#: Packages that are imported at one edge only, as prefixes of module names.
EDGES = {
    "peft": {"compat", "models.adapters", "models.targets", "placement.check.adapted"}
    | {"placement.verify", "profile.audit_files", "tuning.adapters"},
    "datasets": {"data"},
    "altair": {"report"},
    "jinja2": {"report", "data.chat"},  # Chat templates raise its exceptions.
    "vl_convert": {"report"},
    "scipy": {"analysis", "intervals", "signals", "data.sounds"},
    "click": {"cli"},
    "concept_erasure": {"probing"},
    "lm_eval": {"measure.quality"},
    "rouge_score": {"measure.quality"},
    "sacrebleu": {"measure.quality"},
    "ray": {"study.engines"},
    "rich": {"cli", "report"},
    "submitit": {"study.engines"},
    "yaml": {"options.config"},
    "pydantic": {"options.check", "records", "card.record"},
}


@cache
def modules() -> dict[str, Path]:
    """Every module by its name inside the package; '' is the package itself."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(name: str) -> frozenset[str]:
    """Every module that `name` imports anywhere in its text, function bodies included."""
    found = set()
    tree = ast.parse(modules()[name].read_text())
    if name.startswith("options."):  # They name, for type checkers, what Python takes too.
        tree.body = [n for n in tree.body if not is_for_types(n)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "later":
            found.add(ast.literal_eval(node.args[0]))  # What `registry.later` imports when called.
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            known = {i for i in inner if i.removeprefix("layerwise.") in modules()}
            found |= known or {str(node.module)}
    return frozenset(found)


def is_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def own(name: str) -> set[str]:
    """The modules of this package that `name` imports."""
    return {
        i.removeprefix("layerwise").removeprefix(".")
        for i in imports(name)
        if i == "layerwise" or i.startswith("layerwise.")
    }


def within(name: str, prefixes: set[str]) -> bool:
    return any(name == p or name.startswith(p + ".") for p in prefixes)


def may_import(importer: str, imported: str) -> bool:
    """Whether the way of the data allows it."""
    stage, other = (name.partition(".")[0] for name in (importer, imported))
    if stage in {"", "__main__"}:
        return True
    if other in GROUND or other == stage:
        return stage not in GROUND or other in GROUND
    if stage in GROUND or other not in STAGES:
        return imported == "" and stage == "cli"  # The version, for --version.
    if stage in NARROW:
        return within(imported, NARROW[stage])
    return STAGES.index(other) < STAGES.index(stage)


def test_every_module_has_its_place():
    tops = {name.split(".")[0] for name in modules()} - {"", "__main__"}
    assert tops == GROUND | set(STAGES)


def test_imports_point_one_way():
    upward = {
        (name, other) for name in modules() for other in own(name) if not may_import(name, other)
    }
    assert upward == set()


def test_experiments_may_import_the_package_and_never_the_reverse():
    beside = ("laboratory", "experiments", "benchmarks", "tests")
    found = {name: i for name in modules() for i in imports(name) if i.split(".")[0] in beside}
    assert found == {}


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("card.make", "signals.gain", True),
        ("signals.gain", "card.record", False),
        ("signals.gain", "capture.run", False),
        ("signals.gain", "capture.stats", True),
        ("report.html", "models.load", False),
        ("errors", "models.load", False),
        ("errors", "late_methods", True),
        ("card.record", "", False),
        ("placement.record", "api", False),
        ("cli.main", "", True),
    ],
)
def test_the_rule_itself(importer, imported, allowed):
    assert may_import(importer, imported) is allowed


def test_no_import_cycle():
    def reaches(start):
        seen, todo = set(), list(own(start))
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += own(name) if name else []  # The package's own front imports lazily.
        return seen

    assert [name for name in modules() if name and name in reaches(name)] == []


def test_heavy_packages_are_imported_at_their_edges():
    outside = {
        (name, package)
        for name in modules()
        for package in {i.partition(".")[0] for i in imports(name)} & EDGES.keys()
        if not within(name, EDGES[package])
    }
    assert outside == set()


def test_no_module_needs_what_only_unix_has():
    """To be imported: the package is of use on Windows too."""
    unix = re.compile(r"^(import|from) (fcntl|grp|posix|pwd|resource|termios)\b", re.MULTILINE)
    assert [name for name, path in modules().items() if unix.search(path.read_text())] == []


def test_what_runs_on_a_device_asks_for_no_precision_that_it_lacks():
    """`compat.torch` knows that Apple's GPUs have no float64; accumulators are on the CPU."""
    asked = re.compile(r"(?<!cpu\(\))\.double\(\)|dtype=torch\.float64")
    found = {
        name: lines
        for name, path in modules().items()
        if within(name, {"capture", "tuning", "profile", "objectives"})
        and name != "capture.accumulators"
        and (lines := [x for x in path.read_text().splitlines() if asked.search(x)])
    }
    assert found == {}


def test_one_function_removes_what_earlier_runs_left():
    """`files.remove`, which touches nothing outside the folder that it is told."""
    removing = re.compile(r"\.(unlink|rmtree|rmdir)\(")
    removers = {name for name, path in modules().items() if removing.search(path.read_text())}
    assert removers == {"files"}


def test_hugging_face_module_names_stay_in_models():
    """The names under which architectures keep their blocks are known in one stage."""
    names = ("model.layers", "transformer.h", "encoder.layer", "gpt_neox.layers", "decoder.layers")
    found = {
        name: node.value
        for name, path in modules().items()
        if not within(name, {"models"})
        for node in ast.walk(strip_docstrings(ast.parse(path.read_text())))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.startswith(names)
    }
    assert found == {}


def strip_docstrings(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:]
    return tree
