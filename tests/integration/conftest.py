"""A small model and text on disk, the command line run in this process, and a real browser."""

import json
import os
import shutil
import subprocess
import warnings
from contextlib import contextmanager
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


@pytest.fixture
def refused(run):
    """Runs `layerwise` with bad input, and gives the error."""

    def command(*args, code=2):
        said = run(*args)
        assert said.code == code
        return said.error

    return command


@pytest.fixture(scope="session")
def model_folder(tiny_text, tmp_path_factory):
    """A causal model of two blocks and its tokenizer, saved."""
    return tiny_text.save(tmp_path_factory.mktemp("models") / "tiny-llama")


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


@pytest.fixture(scope="session")
def tuned_folder(tiny_text, tmp_path_factory):
    """The model with its last block moved."""
    import torch

    def move(model):
        torch.manual_seed(0)
        for parameter in model.model.layers[1].parameters():
            parameter.add_(0.3 * parameter.std() * torch.randn_like(parameter))

    return tiny_text.save(tmp_path_factory.mktemp("tuned") / "tiny-tuned", change=move)


@pytest.fixture(scope="session")
def probes(tmp_path_factory):
    """A file of twenty probes that the small model has words for."""
    file = tmp_path_factory.mktemp("probes") / "probes.txt"
    file.write_text("\n".join(f"w{i} w{(3 * i) % 50} w{(7 * i + 1) % 50}" for i in range(20)))
    return file


@pytest.fixture(scope="session")
def pairs_file(tmp_path_factory):
    """Twenty pairs of texts that differ in their last word."""
    file = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = [{"a": f"w{i} w{i + 1} w40", "b": f"w{i} w{i + 1} w41"} for i in range(20)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture
def forking(monkeypatch):
    """Has the runs of studies forked from this process, which has imported what they need."""
    from layerwise.study.engines.local import LocalEngine
    from support.processes.runners import Server

    monkeypatch.setattr(LocalEngine, "_start", lambda self: Server(self._target, self._ledger))


ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# Contrast as WCAG 2 defines it, of what is computed, over the nearest opaque background.
CONTRAST = """
(selector) => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const known = new Map();
  const rgba = (css) => {
    if (!known.has(css)) known.set(css, painted(css));
    return known.get(css);
  };
  const painted = (css) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = css;
    canvas.fillRect(0, 0, 1, 1);
    return Array.from(canvas.getImageData(0, 0, 1, 1).data);
  };
  const linear = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  return Array.from(document.querySelectorAll(selector), (node) => {
    const style = getComputedStyle(node);
    const inSvg = node instanceof SVGElement;
    const paint = inSvg ? (node.tagName === 'text' ? style.fill : style.stroke) : style.color;
    const [a, b] = [light(rgba(paint)), light(behind(node))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  });
}
"""


@pytest.fixture(scope="module")
def chromium():
    """A real browser; the tests that need it are skipped where there is none."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no Chromium on the PATH: install the Debian package `chromium`")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def window(chromium):
    """One page of the browser, which shows one report after the other: a new one costs as much."""
    with chromium.new_context() as context:
        yield context.new_page()


@pytest.fixture
def opened_page(window, tmp_path):
    """Opens a page's bytes; on leaving, holds it to silence and to asking for nothing."""

    @contextmanager
    def open_page(content, *, width=1180, color_scheme="light", silent=True):
        file = tmp_path / "report.html"
        file.write_bytes(content)
        said, asked = [], []
        told = {
            "console": lambda message: said.append(message.text),
            "pageerror": lambda error: said.append(str(error)),
            "dialog": lambda dialog: said.append(dialog.message) or dialog.dismiss(),
            "request": lambda request: asked.append(request.url),
        }
        window.set_viewport_size({"width": width, "height": 900})
        window.emulate_media(media="screen", color_scheme=color_scheme)
        for event, listen in told.items():
            window.on(event, listen)
        try:
            window.goto(file.as_uri())
            window.wait_for_selector("html[data-drawn]", timeout=30_000)
            yield window
        finally:
            for event, listen in told.items():
                window.remove_listener(event, listen)
        if silent:
            assert said == []
            assert asked == [file.as_uri()]

    return open_page


@pytest.fixture(scope="session")
def contrast():
    """The function that gives the least contrast of what a selector finds on a page."""
    return lambda page, selector: min(page.evaluate(CONTRAST, selector))


@pytest.fixture(scope="session")
def marks():
    """For each figure of a page, how many marks with a shape it has drawn."""
    script = """places => Object.fromEntries(places.map(place => [place.dataset.chart,
      Array.from(place.querySelectorAll('svg .role-mark path, svg .role-mark line'))
        .filter(mark => mark.getBoundingClientRect().height > 0).length]))"""
    return lambda page: page.eval_on_selector_all("[data-chart]", script)


@pytest.fixture
def disk(tmp_path):
    """A file system of its own, and a function that leaves it only so many KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small file system")

    def leave(kib):
        room = os.statvfs(folder)
        (folder / "filler").write_bytes(bytes(room.f_bavail * room.f_frsize - kib * 1024))

    yield folder, leave
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="session")
def adapter_folder(model_folder, tmp_path_factory):
    """An adapter on the model's first block, whose MLP never trained."""
    import peft
    import torch

    from layerwise.models.load import load

    folder = tmp_path_factory.mktemp("adapted") / "adapter"
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "down_proj"], layers_to_transform=[0])
    with warnings.catch_warnings():  # PEFT reads an attribute that transformers is renaming.
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(load(str(model_folder)).model, config)
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "q_proj.lora_B" in name:
            parameter.data.normal_(std=0.2)
    model.save_pretrained(folder)
    return folder
