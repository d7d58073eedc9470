"""Shape checks for the whole suite, offline hubs, and the two real models."""

import os
import runpy
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from jaxtyping import install_import_hook

# Before the package is first imported, so that every annotated shape is checked at run time.
install_import_hook(
    ["layerwise.capture", "layerwise.signals", "layerwise.analysis", "layerwise.data.batches"],
    "beartype.beartype",
)


@pytest.fixture(scope="session")
def planted_card():
    """The function that makes a Layer Card with planted columns; see planted_cards.py."""
    return runpy.run_path(str(Path(__file__).with_name("planted_cards.py")))["planted_card"]
