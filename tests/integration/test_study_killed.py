"""A study under kill -9, and under two runners: each run counts once, the table is the same."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import yaml

from layerwise.study.ledger import open_ledger
from layerwise.study.table import as_files, tables

pytestmark = pytest.mark.long  # Studies of 16 trainings, interrupted and side by side.
START = "from support.processes.runners import main; main()"


@dataclass
class Runners:
    """The process that forks runners; see support/processes/runners.py."""

    process: subprocess.Popen

    def start(self, root):
        return self._ask(str(root))

    def wait(self, pid):
        return self._ask(f"wait {pid}")

    def _ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def study(study_kit, tmp_path_factory):
    """16 runs: two models, two objectives of each, two conditions and two seeds."""
    files = study_kit.files(tmp_path_factory.mktemp("files"), "llama", "bert")
    plain = study_kit.plain(
        files,
        models={
            "llama": {"source": str(files / "llama"), "objectives": ["causal-lm", "simcse"]},
            "bert": {"source": str(files / "bert"), "objectives": ["masked-lm", "barlow-twins"]},
        },
        conditions=["standard", "lora"],
        seeds=[0, 1],
        defaults={"save_every": 1},
    )
    (files / "study.yaml").write_text(yaml.safe_dump(plain))
    return files / "study.yaml"


@pytest.fixture(scope="module")
def runners(study):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", START, str(study)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        yield Runners(process)
        process.stdin.close()


@pytest.fixture(scope="module")
def undisturbed(runners, tmp_path_factory):
    """The tables of the study when nothing happens to it."""
    root = tmp_path_factory.mktemp("undisturbed") / "ledger"
    assert runners.wait(runners.start(root)) == 0
    assert len(starts(root)) == 16
    return as_files(tables(root))


def starts(root):
    """The ids of the runs that began, in order, each as often as it did."""
    file = Path(f"{root}.starts")
    return file.read_text().splitlines() if file.exists() else []


@dataclass
class Watch:
    """What was seen of a ledger: results stay, and their runs never begin again."""

    root: Path
    results: dict = field(default_factory=dict)
    began: dict = field(default_factory=dict)

    def look(self):
        """Everything is readable, no result is gone or new, no run with a result began again."""
        counted = starts(self.root)
        for run_id, (seen, count) in self.results.items():
            assert identity(self.root, run_id) == seen
            assert counted.count(run_id) == count
        if not (self.root / "ledger.json").exists():
            return
        ledger = open_ledger(self.root)
        for run_id in ledger.begun():
            for file in ledger.folder(run_id).glob("[!.]*.json"):
                json.loads(file.read_text())
            if ledger.state(run_id) == "done" and run_id not in self.results:
                ledger.result(run_id)
                self.results[run_id] = (identity(self.root, run_id), counted.count(run_id))


def identity(root, run_id):
    """What changes when a result is written again."""
    found = (root / "runs" / run_id / "result.json").stat()
    return found.st_ino, found.st_mtime_ns


def kill_tree(pid):
    """SIGKILL for a process and all that came from it, at one moment."""
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)


def kill_one(pid, draw):
    """SIGKILL for one process of the tree."""
    with suppress(psutil.NoSuchProcess, IndexError):
        draw.choice(psutil.Process(pid).children(recursive=True)).kill()


@pytest.mark.parametrize("wanted", [10, pytest.param(50, marks=pytest.mark.sweep)])
def test_kill_9_at_random_moments(runners, undisturbed, tmp_path, wanted):
    draw, kills, ledgers = random.Random(0), 0, 0  # noqa: S311  # moments, not secrets
    while kills < wanted:
        watch, ended = Watch(tmp_path / f"ledger-{ledgers}"), None
        ledgers += 1
        while ended != 0:
            pid = runners.start(watch.root)
            if kills < wanted:
                until_killed(pid, draw)
                kills += 1
            ended = runners.wait(pid)
            watch.look()
        assert len(watch.results) == 16
        assert as_files(tables(watch.root)) == undisturbed


def until_killed(pid, draw):
    """Kill some of a runner's processes, and all of them soon after, at moments that are drawn."""
    time.sleep(draw.uniform(0.02, 0.7))
    if draw.random() < 0.3:
        kill_one(pid, draw)
        time.sleep(draw.uniform(0.02, 0.7))
    kill_tree(pid)


def test_two_runners_do_each_run_once(runners, undisturbed, tmp_path):
    root = tmp_path / "ledger"
    pids = [runners.start(root) for _ in range(2)]
    assert [runners.wait(pid) for pid in pids] == [0, 0]
    assert sorted(starts(root)) == sorted(set(starts(root)))
    assert len(starts(root)) == 16
    assert as_files(tables(root)) == undisturbed
