"""A command from its declaration: the line, a file in its place, and errors of one line."""

from collections.abc import Sequence
from typing import Annotated, Literal

import pytest

from layerwise.cli.derive import command
from layerwise.errors import BadInputError, UnknownNameError
from layerwise.options.declaration import Option, defaults, pick
from layerwise.options.groups import Batches, Loading, TextOptions


@defaults(batch_size=4)
class Made(TextOptions, Batches, Loading, total=False):
    """A made-up command."""

    names: Annotated[Sequence[str] | None, Option("Some.", unset="all", metavar="A,B")]
    rates: Annotated[Sequence[float], Option("Each.", (1e-3,), above=0, once=True, metavar="R")]
    kind: Annotated[Literal["a", "b"], Option("Which.", "a", flags=("-k", "--for"))]
    fast: Annotated[bool, Option("Haste.", default=False)]


@command(Made, arguments={"data": "DATA"})
def made(**options):
    """Do nothing."""
    return options


def parse(*args):
    return made.main(["text.csv", *map(str, args)], standalone_mode=False)


@pytest.fixture
def config(tmp_path):
    def write(text):
        file = tmp_path / "options.yaml"
        file.write_text(text)
        return file

    return write


def test_defaults_are_the_declared_ones():
    parsed = parse()
    assert parsed == {
        "data": "text.csv",
        **pick(TextOptions, parsed),
        **pick(Loading, parsed),
        "batch_size": 4,
        "max_length": 128,
        "names": None,
        "rates": (1e-3,),
        "kind": "a",
        "fast": False,
    }
    assert (parsed["seed"], parsed["examples"], parsed["where"]) == (0, 64, ())


def test_values_are_of_their_types():
    line = ("--names", " a , b ,", "--rates", "1e-4,2", "-k", "b", "--fast", "--where", "x=1,2")
    parsed = parse(*line, "--where", "y=3", "--batch-size", "7")
    assert parsed["names"] == ("a", "b")
    assert parsed["rates"] == (1e-4, 2.0)
    assert (parsed["kind"], parsed["fast"], parsed["batch_size"]) == ("b", True, 7)
    assert parsed["where"] == ("x=1,2", "y=3")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (("--batch-size", "0"), "value of --batch-size: '0'; expected a whole number, 1 or more"),
        (("--batch-size", "1.5"), "value of --batch-size: '1.5'; expected a whole number"),
        (("--batch-size", "many"), "'many'; expected a whole number, 1 or more; try: "),
        (("--names", " , "), "value of --names: ','; expected a list of text, such as a,b"),
        (("--rates", "1,1"), "expected numbers, such as 1e-4,1e-3, above 0, each once"),
        (("--rates", "0"), "above 0"),
        (("--rates", "nan"), "value of --rates: 'nan'"),
        (("--for", "c"), "value of --for: 'c'; expected one of a, b"),
    ],
)
def test_a_value_that_cannot_be_used_is_said_in_one_line(line, says):
    with pytest.raises(BadInputError) as caught:
        parse(*line)
    assert says in str(caught.value)


def test_help_tells_defaults_bounds_and_choices():
    told = " ".join(made.get_help(made.make_context("made", ["x"])).split())
    assert "--batch-size N Examples in a batch. [default: 4; 1 or more]" in told
    assert "--names A,B Some. [default: all]" in told
    assert "-k, --for [a|b] Which. [default: a]" in told
    assert "--fast Haste. --config" in told


def test_config_stands_in_for_options(config):
    file = config("examples: 32\nmax-length: 16\nbatch_size: 2\nfast: true\nnames: [a, b]\nfor: b")
    parsed = parse("--config", file)
    assert (parsed["examples"], parsed["max_length"], parsed["batch_size"]) == (32, 16, 2)
    assert (parsed["fast"], parsed["names"], parsed["kind"]) == (True, ("a", "b"), "b")


def test_options_override_config_wherever_they_stand(config):
    file = config("examples: 32\nseed: 1\n")
    assert parse("--config", file, "--examples", 4)["examples"] == 4
    assert parse("--examples", 4, "--config", file)["examples"] == 4
    assert parse("--examples", 4, "--config", file)["seed"] == 1


def test_config_gives_lists_as_such_or_as_text(config):
    assert parse("--config", config("where: [a=1, b=2]"))["where"] == ("a=1", "b=2")
    assert parse("--config", config("where: a=1"))["where"] == ("a=1",)
    assert parse("--config", config("rates: [2e-5, 1]"))["rates"] == (2e-5, 1.0)
    assert parse("--config", config("rates: 2e-5"))["rates"] == (2e-5,)
    assert parse("--config", config("text-column: 5"))["text_column"] == "5"


def test_config_leaves_alone_what_it_leaves_empty(config):
    assert parse("--config", config("examples:\n"))["examples"] == 64


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("batch-size: 0", r"value of batch-size in .*options.yaml: '0'; expected a whole number"),
        ("batch-size: true", "'True'; expected a whole number"),
        ("fast: 3", "value of fast in .*expected true or false"),
        ("names: {a: 1}", "value of names in .*a list of text"),
        (
            "trust-remote-code: true",
            "trust-remote-code in .*which a file may not say.*command line",
        ),
    ],
)
def test_config_values_are_checked_like_options(config, text, says):
    with pytest.raises(BadInputError, match=says):
        parse("--config", config(text))


def test_config_with_an_unknown_key(config):
    with pytest.raises(
        UnknownNameError, match=r"option in .*'exmaples'.*did you mean 'examples'\?"
    ):
        parse("--config", config("exmaples: 3"))


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words", "3", ""])
def test_config_that_is_no_mapping(config, text):
    with pytest.raises(BadInputError, match=r"config file without options.*'examples: 64'"):
        parse("--config", config(text))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a: [1,", "cannot read the config file .*line 1"),
        (b"seed: 1\nseed: 2", "the key 'seed' stands twice, line 1"),
        (None, r"cannot read the config file \(No such file"),
        (b"\xff\xfe\xfa", "cannot read the config file"),
    ],
)
def test_config_that_cannot_be_read(tmp_path, content, says):
    if content is not None:
        (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(BadInputError, match=says):
        parse("--config", tmp_path / "a.yaml")
