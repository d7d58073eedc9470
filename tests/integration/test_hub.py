"""Models by their hub ids: what is fetched from a hub, and that the revision is the one named."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from support import adapters


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's interface as fetching a snapshot takes, from its server's folders."""

    def do_HEAD(self):
        self.answer(has_body=False)

    def do_GET(self):
        self.answer(has_body=True)

    def answer(self, *, has_body):
        path = self.path.partition("?")[0].strip("/")
        if re.search("^api/models/.*/(revision|tree)/", path):
            found = self.described(path.removeprefix("api/models/"))
        else:
            found = self.file(path)
        if found is None:
            self.send_error(404)
            return
        body, commit = found
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if has_body:
            self.wfile.write(body)

    def described(self, path):
        """A repository's commit by a revision, or the files of a commit."""
        name, what, revision = re.split("/(revision|tree)/", path)
        for (repository, commit), folder in self.server.folders.items():
            if repository == name and revision in (commit, folder.name):
                described = {"id": name, "sha": commit} if what == "revision" else listed(folder)
                return json.dumps(described).encode(), commit
        return None

    def file(self, path):
        name, _, rest = path.partition("/resolve/")
        commit, _, file = rest.partition("/")
        at = self.server.folders.get((name, commit))
        return ((at / file).read_bytes(), commit) if at and (at / file).is_file() else None

    def log_message(self, *told):
        pass


def listed(folder):
    """The files of a folder, as the hub lists them."""
    files = sorted(folder.iterdir())
    return [
        {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": file.name}
        for file in files
    ]


def save_adapter(base, folder, *, rank):
    """Save an adapter of someone/base."""
    model = adapters.saved(folder, base, adapters.lora(r=rank))
    model.peft_config["default"].base_model_name_or_path = "someone/base"
    model.save_pretrained(folder)


BASE, OLD, NEW = ("1" * 40, "2" * 40, "3" * 40)


@pytest.fixture
def hub(model_folder, tmp_path):
    """A hub with a model and two revisions of an adapter of it, v1 and main; its address."""
    shutil.copytree(model_folder, tmp_path / "base" / "main")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT reads what transformers is renaming.
        for rank, revision in enumerate(["v1", "main"], start=2):
            save_adapter(model_folder, tmp_path / "adapter" / revision, rank=rank)
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.folders = {
            ("someone/base", BASE): tmp_path / "base" / "main",
            ("someone/adapter", OLD): tmp_path / "adapter" / "v1",
            ("someone/adapter", NEW): tmp_path / "adapter" / "main",
        }
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


# One process for both: it reads the hub's address when it begins, and imports all that loads.
BOTH = """
import sys
from layerwise.cli import main

for adapter, out in (("@v1", "old"), ("", "new")):
    command = ["profile", "someone/base", "someone/adapter" + adapter, "--probes", sys.argv[1]]
    if code := main([*command, "--max-length", "16", "--out", out, "--format", "quiet"]):
        sys.exit(code)
"""


def test_an_adapter_is_audited_by_its_hub_id(hub, text_file, tmp_path):
    env = os.environ | {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "home")}
    env = {name: value for name, value in env.items() if name != "HF_HUB_OFFLINE"}
    ran = subprocess.run(
        [sys.executable, "-c", BOTH, str(text_file)],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    for out, commit in (("old", OLD), ("new", NEW)):
        made = json.loads((tmp_path / out / "profile.json").read_text())
        assert made["before"]["revision"] == BASE
        assert (made["after"]["source"], made["after"]["revision"]) == ("someone/adapter", commit)
        assert made["audit"]["modules"]
