"""Shape checks for the whole suite, offline hubs, and the two real models."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from jaxtyping import install_import_hook

# Before the package is first imported, so that every annotated shape is checked at run time.
install_import_hook(
    ["layerwise.capture", "layerwise.signals", "layerwise.analysis", "layerwise.data.batches"],
    "beartype.beartype",
)
