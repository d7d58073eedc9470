"""The help names every member of what it lists by hand, so that heavy imports stay out of it."""

import click
import pytest

from layerwise.cli.measure import measure
from layerwise.cli.place import place
from layerwise.cli.tune import tune
from layerwise.measure.scores import SCORES
from layerwise.placement import ADVISED, GOALS, POLICIES, TRAINERS
from layerwise.tuning.conditions import CONDITIONS


@pytest.mark.parametrize(
    ("command", "names"),
    [(place, POLICIES), (place, TRAINERS), (place, GOALS), (measure, SCORES), (tune, CONDITIONS)],
)
def test_the_help_names_every_member(command, names):
    said = command.get_help(click.Context(command))
    assert [name for name in names if name not in said] == []


def test_the_help_says_what_is_advised():
    assert f"[default: {ADVISED}]" in place.get_help(click.Context(place))
