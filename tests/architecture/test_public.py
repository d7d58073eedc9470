"""The public names, and what importing them costs."""

import subprocess
import sys
import time

import pytest

HEAVY = {"torch", "transformers", "peft", "datasets", "altair", "pandas", "scipy", "numpy"}

PUBLIC = [
    "Analysis",
    "Control",
    "DepthCallback",
    "Distance",
    "EqualStep",
    "Erasure",
    "LayerCard",
    "LayerwiseError",
    "Measure",
    "Placement",
    "Probing",
    "Profile",
    "ShallowBackward",
    "__version__",
    "analyse",
    "card",
    "compare",
    "control",
    "control_from_runs",
    "distance",
    "erase",
    "measure",
    "measured",
    "place",
    "probe",
    "profile",
    "study",
    "study_status",
    "study_tables",
    "tune",
]


def python(code, *, check=True):
    return subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", "-c", code],
        capture_output=True,
        text=True,
        check=check,
    )


def test_public_names():
    import layerwise

    assert sorted(layerwise.__all__) == PUBLIC
    assert dir(layerwise) == PUBLIC
    assert all(getattr(layerwise, name) for name in PUBLIC)


def test_an_unknown_name_is_an_attribute_error():
    import layerwise

    with pytest.raises(AttributeError, match="module 'layerwise' has no attribute 'crad'"):
        layerwise.crad  # noqa: B018


def test_version_is_the_package_s():
    from importlib.metadata import version

    import layerwise

    assert layerwise.__version__ == version("layerwise")


@pytest.mark.slow
@pytest.mark.parametrize(
    "first",
    ["", "from layerwise.card.record import LayerCard", "import layerwise.card.record"],
    ids=["alone", "after its stage", "after its stage by dots"],
)
def test_card_is_the_function_whatever_was_imported_before(first):
    code = f"{first}\nimport layerwise as lw\nprint(type(lw.card).__name__)\nlw.card\n"
    assert python(code).stdout == "function\n"


@pytest.mark.parametrize(
    "code",
    [
        "import layerwise",
        "from layerwise.cli import main; main(['--help'])",
        "from layerwise.cli import main; main(['--version'])",
        "from layerwise.cli import main; main(['card', '--help'])",
        "from layerwise.cli import main; main(['place', '--help'])",
        "from layerwise.cli import main; main(['compare', '--help'])",
        "from layerwise.cli import main; main(['profile', '--help'])",
        "from layerwise.cli import main; main(['analyse', '--help'])",
        "from layerwise.cli import main; main(['control', '--help'])",
        "from layerwise.cli import main; main(['study', '--help'])",
        "from layerwise.cli import main; main(['study', 'run', '--help'])",
        "from layerwise.cli import main; main(['distance', '--help'])",
        "from layerwise.cli import main; main(['probe', '--help'])",
        "from layerwise.cli import main; main(['erase', '--help'])",
        "from layerwise.cli import main; main(['tune', '--help'])",
        "import layerwise.signals, layerwise.placement, layerwise.tuning.conditions",
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(code):
    loaded = python(f"{code}\nimport sys\nprint('loaded', *sys.modules)").stdout
    assert HEAVY & {m.split(".")[0] for m in loaded.rpartition("loaded ")[2].split()} == set()


def seconds(*command):
    began = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - began


@pytest.mark.slow
def test_help_answers_within_half_a_second_of_a_bare_interpreter():
    """The fastest of several alternating runs: a busy machine slows both, never one alone."""
    runs = [
        (seconds(sys.executable, "-c", ""), seconds(sys.executable, "-m", "layerwise", "--help"))
        for _ in range(5)
    ]
    bare, helped = (min(times) for times in zip(*runs, strict=True))
    assert helped - bare < 0.5
