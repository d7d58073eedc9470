"""How far apart objectives are at a model, measured without training."""
