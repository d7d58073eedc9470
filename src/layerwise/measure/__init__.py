"""Rival arms fine-tuned at an equal budget, paired seed by seed, and how they compare."""
