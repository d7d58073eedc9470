"""The placement stage."""
