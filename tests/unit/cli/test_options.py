import click
import pytest

from layerwise.cli.options import Names, common, reading
from layerwise.errors import BadInputError, UnknownNameError


@click.command()
@click.argument("data")
@common
@click.option("--names", type=Names())
@reading
def command(**options):
    return options


def parse(*args):
    return command.main(["text.csv", *map(str, args)], standalone_mode=False)


@pytest.fixture
def config(tmp_path):
    def write(text):
        file = tmp_path / "options.yaml"
        file.write_text(text)
        return file

    return write


def test_defaults_are_those_of_the_interface():
    parsed = parse()
    assert (parsed["seed"], parsed["batch_size"], parsed["max_length"]) == (0, 8, 128)
    assert (parsed["out"], parsed["device"], parsed["dtype"]) == (None, "auto", "auto")
    assert (parsed["overwrite"], parsed["form"]) == (False, "human")


@pytest.mark.parametrize("given", ["a,b", " a , b ,", "a,,b"])
def test_names_are_split_at_commas(given):
    assert parse("--names", given)["names"] == ("a", "b")


def test_no_names_at_all():
    with pytest.raises(click.BadParameter, match="no name is given"):
        parse("--names", " , ")


@pytest.mark.parametrize("option", ["--examples", "--batch-size"])
@pytest.mark.parametrize("value", ["0", "-3", "many", "1.5"])
def test_counts_are_positive_integers(option, value):
    with pytest.raises(click.BadParameter):
        parse(option, value)


def test_config_stands_in_for_options(config):
    file = config("examples: 32\nmax-length: 16\nbatch_size: 2\noverwrite: true\nnames: [a, b]\n")
    parsed = parse("--config", file)
    assert (parsed["examples"], parsed["max_length"], parsed["batch_size"]) == (32, 16, 2)
    assert parsed["overwrite"] is True
    assert parsed["names"] == ("a", "b")


def test_options_override_config_wherever_they_stand(config):
    file = config("examples: 32\nseed: 1\n")
    assert parse("--config", file, "--examples", 4)["examples"] == 4
    assert parse("--examples", 4, "--config", file)["examples"] == 4
    assert parse("--examples", 4, "--config", file)["seed"] == 1


def test_config_repeats_an_option_with_a_list_or_gives_one(config):
    assert parse("--config", config("where: [a=1, b=2]"))["where"] == ("a=1", "b=2")
    assert parse("--config", config("where: a=1"))["where"] == ("a=1",)


def test_config_leaves_alone_what_it_leaves_empty(config):
    assert parse("--config", config("examples:\n"))["examples"] == 64


def test_config_values_are_checked_like_options(config):
    with pytest.raises(click.BadParameter, match="0 is not in the range"):
        parse("--config", config("examples: 0"))


def test_config_with_an_unknown_key(config):
    with pytest.raises(
        UnknownNameError, match=r"option in .*'exmaples'.*did you mean 'examples'\?"
    ):
        parse("--config", config("exmaples: 3"))


@pytest.mark.parametrize("key", ["trust-remote-code", "trust_remote_code"])
def test_config_cannot_say_that_code_may_run(config, key):
    said = rf"{key} in .*, which a file cannot give: 'True'.*--trust-remote-code, once"
    with pytest.raises(BadInputError, match=said):
        parse("--config", config(f"{key}: true"))
    assert parse("--trust-remote-code")["trust_remote_code"] is True


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words", "3"])
def test_config_that_is_no_mapping(config, text):
    with pytest.raises(BadInputError, match=r"config file without options.*'examples: 64'"):
        parse("--config", config(text))


def test_config_that_is_no_yaml(config):
    with pytest.raises(BadInputError, match=r"cannot read the config file \(ParserError\)"):
        parse("--config", config("a: [1,"))


def test_config_that_is_no_file(tmp_path):
    with pytest.raises(BadInputError, match=r"cannot read the config file \(No such file"):
        parse("--config", tmp_path / "none.yaml")


def test_config_that_is_no_text(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(BadInputError, match="cannot read the config file"):
        parse("--config", tmp_path / "a.yaml")


def test_empty_config_is_no_mapping(config):
    with pytest.raises(BadInputError, match="config file without options"):
        parse("--config", config(""))
