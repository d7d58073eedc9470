"""Text as examples, and examples as batches."""

from layerwise.data.batches import Batch, BatchSet
from layerwise.data.text import Example, TextData, probes, read

__all__ = ["Batch", "BatchSet", "Example", "TextData", "probes", "read"]
