"""The Layer Card: signals by blocks, with intervals, costs and provenance."""
