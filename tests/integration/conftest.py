"""A small model and text on disk, and the command line run in this process."""

import json
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Said:
    """What a command line did: its exit status and what it said."""

    code: int
    out: str
    err: str

    @property
    def error(self):
        """The error, checked to be one line and all that was said."""
        assert self.out == ""
        assert self.err.startswith("layerwise: error: ")
        assert self.err.endswith("\n")
        assert self.err[:-1].isprintable()
        return self.err.removeprefix("layerwise: error: ").rstrip("\n")


@pytest.fixture
def run(capsys):
    """Runs `layerwise` with the given arguments."""
    from layerwise.cli import main

    def command(*args):
        capsys.readouterr()
        code = main([str(arg) for arg in args])
        return Said(code, *capsys.readouterr())

    return command


@pytest.fixture(scope="session")
def model_folder(tiny_text, tmp_path_factory):
    """A causal model of two blocks and its tokenizer, saved."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    tiny_text.model("llama").save_pretrained(folder)
    tiny_text.tokenizer(frame="causal").save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def text_file(tmp_path_factory):
    """A table of texts with prompts and labels."""
    file = tmp_path_factory.mktemp("texts") / "reviews.jsonl"
    rows = [
        {
            "text": " ".join(f"w{(3 * i + j) % 50}" for j in range(6 + i % 5)),
            "question": f"w{i % 7} w{i % 11}",
            "stars": i % 2,
        }
        for i in range(24)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="session")
def card_folder(model_folder, text_file, tmp_path_factory):
    """The card of the model on the text, as the command line writes it."""
    from layerwise.cli import main

    folder = tmp_path_factory.mktemp("cards") / "tiny"
    args = ["--text-column", "text", "--examples", "8", "--max-length", "16", "--rank", "2"]
    command = ["card", model_folder, text_file, *args, "--out", folder, "--format", "quiet"]
    assert main([str(part) for part in command]) == 0
    return folder
