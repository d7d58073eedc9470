"""What the tests of the models stage share."""

import pytest


@pytest.fixture(scope="session")
def families():
    """Tiny models of many families and what is known of each; see support/zoo.py."""
    from support import zoo

    return zoo


@pytest.fixture
def saved(families, tiny_text, tmp_path):
    """A function that saves a tiny model and a tokenizer that frames as `frame`; its folder."""

    def save(name="llama", *, kind=None, frame="causal", **overrides):
        folder = tmp_path / "model"
        families.build(name, kind=kind, **overrides).save_pretrained(folder)
        if frame:
            tiny_text.tokenizer(frame=frame).save_pretrained(folder)
        return folder

    return save


def pytest_generate_tests(metafunc):
    """`one_stack`, `two_stacks`, `refused` and `family` run over every family of their kind."""
    from support import zoo

    kinds = {"one_stack": ["ONE_STACK"], "two_stacks": ["TWO_STACKS"], "refused": ["REFUSED"]}
    kinds["family"] = ["ONE_STACK", "TWO_STACKS"]
    for argument in kinds.keys() & set(metafunc.fixturenames):
        names = [name for kind in kinds[argument] for name in getattr(zoo, kind)]
        metafunc.parametrize(argument, names)
