"""The objectives stage."""
