"""Leases: one holder at a time, taken over when it is gone, and nothing written after that."""

import json
import multiprocessing
import os
import subprocess
import sys

import pytest

from layerwise.errors import LeaseError, OutputError
from layerwise.study import lease as module
from layerwise.study.lease import TTL, claim, file_system_now, is_held


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "runs" / "run"
    made.mkdir(parents=True)
    return made


def held(folder):
    return is_held(folder, now=file_system_now(folder.parent))


def age(lease, seconds):
    """Let the lease be renewed last so long ago."""
    then = lease.file.stat().st_mtime - seconds
    os.utime(lease.file, (then, then))


def rewritten(lease, **values):
    """The lease's file says something else of its holder, at the same time."""
    found = lease.file.stat()
    lease.file.write_text(json.dumps(json.loads(lease.file.read_text()) | values))
    os.utime(lease.file, (found.st_atime, found.st_mtime))


def test_one_holder_at_a_time(folder):
    assert held(folder) is None
    first = claim(folder)
    assert first.generation == 1
    assert held(folder) is True
    assert claim(folder) is None
    first.check()
    assert [path.name for path in folder.iterdir()] == ["lease.1.json"]


def test_a_lease_that_is_released_is_free_and_its_number_used(folder):
    first = claim(folder)
    first.release()
    assert held(folder) is False
    assert claim(folder).generation == 2
    with pytest.raises(LeaseError, match="another process has taken over: 'run'"):
        first.check()


def test_a_holder_on_another_machine_is_given_its_time(folder):
    first = claim(folder, ttl=30)
    rewritten(first, host="elsewhere", pid=1)
    assert claim(folder) is None
    age(first, 29)
    assert claim(folder) is None
    first.renew()
    age(first, 31)
    assert claim(folder).generation == 2
    with pytest.raises(LeaseError, match="taken over"):
        first.renew()


def test_a_live_holder_here_that_does_not_renew_is_followed(folder):
    first = claim(folder)
    age(first, TTL + 1)
    assert held(folder) is False
    assert claim(folder).generation == 2


def test_a_process_of_this_machine_that_is_gone_is_followed_at_once(folder):
    code = "import sys; from pathlib import Path; from layerwise.study.lease import claim\n"
    code += "print(claim(Path(sys.argv[1])).generation)"
    said = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, check=True)
    assert said.stdout == b"1\n"
    assert held(folder) is False
    assert claim(folder).generation == 2


def test_a_process_that_was_killed_and_not_yet_looked_after_is_gone(folder):
    with subprocess.Popen(["sleep", "100"]) as process:
        first = claim(folder)
        started = module._started(process.pid)
        rewritten(first, pid=process.pid, started=started)
        assert held(folder) is True
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # It stays a zombie.
        assert held(folder) is False


def test_another_process_with_the_same_number_is_not_the_holder(folder):
    first = claim(folder)
    rewritten(first, started="0")
    assert held(folder) is False


@pytest.mark.parametrize("key", ["host", "boot", "processes"])
def test_numbers_of_another_machine_say_nothing(folder, key):
    first = claim(folder)
    rewritten(first, pid=2**22, **{key: "other"})
    assert held(folder) is True


def test_a_lease_that_cannot_be_read_is_given_its_time(folder):
    first = claim(folder)
    first.file.write_text("{")
    assert held(folder) is True
    age(first, TTL + 1)
    assert held(folder) is False


def test_a_clock_that_is_wrong_changes_nothing(folder, monkeypatch):
    claim(folder)
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert held(folder) is True
    monkeypatch.setattr("time.time", lambda: 1e12)
    assert held(folder) is True


def test_who_comes_late_with_an_old_number_gets_nothing(folder, monkeypatch):
    """It saw generation 1, then others came and went, and the number 2 is free again."""
    claim(folder).release()
    (folder / "lease.3.json").write_text("{}")
    seen = iter([1, 3])
    monkeypatch.setattr(module, "_last", lambda _folder: next(seen))
    assert claim(folder) is None
    assert not (folder / "lease.2.json").exists()


def test_a_kept_lease_is_renewed_and_then_released(folder):
    lease = claim(folder, ttl=0.2)
    renewed = []
    with lease.kept():
        first = lease.file.stat().st_mtime_ns
        while not renewed:
            now = lease.file.stat().st_mtime_ns
            renewed += [now] if now > first else []
    assert lease.file.stat().st_mtime == 0
    assert held(folder) is False


def _race(folder, together, won):
    together.wait()
    won.put(claim(folder) is not None)
    together.wait()  # One that has won and is gone may be followed.


def test_of_many_who_follow_a_holder_one_does(folder):
    age(claim(folder), TTL + 1)
    context = multiprocessing.get_context("fork")
    together, won = context.Barrier(8), context.SimpleQueue()
    racers = [context.Process(target=_race, args=(folder, together, won)) for _ in range(8)]
    for racer in racers:
        racer.start()
    results = [won.get() for _ in racers]
    for racer in racers:
        racer.join()
    assert sum(results) == 1


def test_a_lease_without_a_folder_is_said(tmp_path):
    with pytest.raises(OutputError, match=r"cannot write \(No such file"):
        claim(tmp_path / "none")


def test_the_clock_of_a_folder_that_is_not_there_is_the_machine_s(tmp_path, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 5.0)
    assert file_system_now(tmp_path / "none") == 5.0
