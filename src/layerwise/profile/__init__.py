"""The profile stage: what moved in fine-tuning, at which depth, and for whose reason."""
