"""layerwise: where in depth to adapt a model, what it costs, and why."""

__version__ = "0.1.0"
