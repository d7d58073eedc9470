"""One pass over some batches, and every statistic of it: model and text in, `LayerStats` out."""

from layerwise.capture.plan import MEASUREMENTS, Plan, plan
from layerwise.capture.run import capture
from layerwise.capture.stats import AdaptedModule, LayerStats

__all__ = ["MEASUREMENTS", "AdaptedModule", "LayerStats", "Plan", "capture", "plan"]
