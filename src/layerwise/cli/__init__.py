"""The command line: one module a command; each parses, calls one library function, and prints."""

from layerwise.cli.main import main

__all__ = ["main"]
