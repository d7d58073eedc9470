"""One pass over some batches, and every statistic of it: model and text in, `LayerStats` out."""

from layerwise.capture.plan import SIGNALS, Plan, plan
from layerwise.capture.run import capture
from layerwise.capture.stats import AdaptedModule, LayerStats

__all__ = ["SIGNALS", "AdaptedModule", "LayerStats", "Plan", "capture", "plan"]
