"""The card stage."""
