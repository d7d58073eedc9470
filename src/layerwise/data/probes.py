"""The probe set: short inputs that a model is shown before and after, to see what moved."""

from importlib.resources import files


def probes() -> tuple[str, ...]:
    """Return 290 short true English statements, mathematical and relational, in a fixed order.

    Sums, comparisons, family, places, parts and wholes, causes. The file beside this module has a
    heading, ``# kind``, over each group.
    """
    lines = files("layerwise.data").joinpath("probes.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))
