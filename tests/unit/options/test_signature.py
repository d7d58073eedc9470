"""A function's options from their declaration: complete, checked, and shown by ``help``."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypedDict, Unpack

import numpy as np
import pytest

import layerwise as lw
from layerwise.errors import BadInputError, UnknownNameError
from layerwise.options.check import schema
from layerwise.options.declaration import Option, declared, defaults
from layerwise.options.signature import group_of, takes_options


class Shared(TypedDict, total=False):
    """What others take too."""

    steps: Annotated[int, Option("Steps.", 100, least=1)]
    rate: Annotated[float | None, Option("The rate.", unset="found", above=0)]


@defaults(steps=7)
class Own(Shared, total=False):
    """A made-up function's."""

    names: Annotated[Sequence[str], Option("Names.", ("a",))]
    how: Annotated[Literal["x", "y"], Option("How.", "x")]
    file: Annotated["Nowhere | str | None", Option("Where.", text=Path | None)]
    call: Annotated[bool, Option("Only here.", default=False, call_only=True)]


@takes_options
def work(model, *, tokenizer=None, **options: Unpack[Own]):
    """Return what it got.

    Args:
        model: A model.
        options: Those of `Own`.

    Raises:
        BadInputError: Something is wrong.
    """
    return model, tokenizer, options


def test_a_function_gets_every_option():
    model, tokenizer, options = work("m", tokenizer=3, rate=2)
    assert (model, tokenizer) == ("m", 3)
    assert options == {
        "steps": 7, "rate": 2.0, "names": ("a",), "how": "x", "file": None, "call": False,
    }  # fmt: skip


def test_a_group_changes_a_default_and_no_other_does():
    assert declared(Own)["steps"].default == 7
    assert declared(Shared)["steps"].default == 100


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({"steps": np.int64(3)}, 3),
        ({"rate": np.float32(0.5)}, 0.5),
        ({"names": ["b", "c"]}, ("b", "c")),
        ({"names": "b, c"}, ("b", "c")),
        ({"names": None}, ("a",)),
        ({"rate": None}, None),
        ({"file": "x.json"}, Path("x.json")),
        ({"file": Path("x.json")}, Path("x.json")),
        ({"file": (1, 2)}, (1, 2)),
    ],
)
def test_values_are_taken_as_python_has_them(given, value):
    (name,) = given
    assert work("m", **given)[2][name] == value


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"steps": 0}, "value of steps: '0'; expected a whole number, 1 or more"),
        ({"steps": True}, "value of steps: 'True'; expected a whole number"),
        ({"steps": 2.0}, "value of steps: '2.0'; expected a whole number"),
        ({"rate": float("nan")}, "value of rate: 'nan'; expected a number, above 0"),
        ({"rate": 0}, "value of rate: '0'; expected a number, above 0"),
        ({"how": "z"}, "value of how: 'z'; expected one of x, y"),
        ({"names": [3]}, "expected a list of text"),
        ({"call": 1}, "value of call: '1'; expected true or false"),
    ],
)
def test_values_that_cannot_be_used(given, says):
    with pytest.raises(BadInputError) as caught:
        work("m", **given)
    assert says in str(caught.value)


def test_an_option_that_does_not_exist_is_met_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"option of work: 'setps'.*did you mean 'steps'\?"):
        work("m", setps=3)


def test_help_names_each_option_with_type_default_and_meaning():
    parameters = inspect.signature(work).parameters
    assert list(parameters) == ["model", "tokenizer", *declared(Own)]
    assert (parameters["steps"].annotation, parameters["steps"].default) == (int, 7)
    assert inspect.getdoc(work) == (
        "Return what it got.\n\nArgs:\n    model: A model.\n    steps: Steps.  [default: 7]\n"
        "    rate: The rate.  [default: found]\n    names: Names.  [default: a]\n"
        "    how: How.  [default: x]\n    file: Where.\n    call: Only here.\n\n"
        "Raises:\n    BadInputError: Something is wrong."
    )


def test_a_schema_says_types_bounds_defaults_and_nothing_that_is_for_calls():
    said = schema(Own)
    assert said["additionalProperties"] is False
    assert "call" not in said["properties"]
    assert said["properties"]["steps"] == {
        "description": "Steps.", "type": "integer", "minimum": 1, "default": 7,
    }  # fmt: skip
    assert said["properties"]["how"]["enum"] == ["x", "y"]


@pytest.mark.parametrize("name", [n for n in lw.__all__ if hasattr(vars(lw).get(n), "__wrapped__")])
def test_public_functions_declare_their_options(name):
    function = getattr(lw, name)
    options = declared(group_of(function))
    assert set(options) < set(inspect.signature(function).parameters)
    assert all(f"    {name}: {o.told()}" in function.__doc__ for name, o in options.items())
    assert not any("**" in str(p) for p in inspect.signature(function).parameters.values())
    for option in options.values():
        assert option.help.endswith(".")
        assert option.help[0].isupper() or option.help.split()[0].endswith(",")
