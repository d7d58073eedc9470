"""Evidence for placements: rivals fine-tuned at an equal budget, and the tables that they give."""
