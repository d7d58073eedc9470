import hashlib
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from layerwise.errors import OutputError, SchemaError
from layerwise.files import (
    canonical_json,
    prepare_output,
    read_json,
    remove,
    sha256,
    write_atomic,
    write_files,
)

ROOT = os.geteuid() == 0


def names(folder):
    """What lies in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


def test_sha256_is_the_files(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    assert sha256(tmp_path / "a") == hashlib.sha256(b"content").hexdigest()


def test_canonical_json_is_stable_and_readable_text():
    record = {"b": 1, "a": ["é", 0.1]}
    assert canonical_json(record) == canonical_json(json.loads(canonical_json(record)))
    assert "é".encode() in canonical_json(record)
    assert canonical_json(record).endswith(b"\n")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_canonical_json_refuses_what_json_lacks(number):
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": number})


def test_read_json_gives_the_record(tmp_path):
    (tmp_path / "a.json").write_bytes(canonical_json({"schema": "s/1", "x": 1}))
    assert read_json(tmp_path / "a.json", "s/1") == {"schema": "s/1", "x": 1}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"schema": "s/2"}', "record of another schema in .*: 's/2'; expected 's/1'"),
        (b'{"x": 1}', "record of another schema"),
        (b"[1, 2]", "record of another schema"),
        (b'{"schema": "s/1', "unreadable record .JSONDecodeError"),
        (b"\xff\xfe", "unreadable record .UnicodeDecodeError"),
        (b"", "unreadable record"),
        (None, r"no such file: '.*a\.json'; expected a s/1 record"),
        ("folder", "unreadable record .IsADirectoryError"),
    ],
)
def test_read_json_refuses_anything_else(tmp_path, content, says):
    file = tmp_path / "a.json"
    if content == "folder":
        file.mkdir()
    elif content is not None:
        file.write_bytes(content)
    with pytest.raises(SchemaError, match=says):
        read_json(file, "s/1")


def test_write_files_puts_all_in_place(tmp_path):
    paths = write_files(tmp_path, {"a": b"1", "b": b"2"})
    assert [path.read_bytes() for path in paths] == [b"1", b"2"]
    assert names(tmp_path) == ["a", "b"]
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("place", ["a", "some/where/a"])
def test_write_atomic_replaces_and_makes_the_folder(tmp_path, place):
    (tmp_path / "a").write_bytes(b"old")
    write_atomic(tmp_path / place, b"new")
    assert (tmp_path / place).read_bytes() == b"new"


def test_write_below_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(OutputError, match=r"cannot write .Not a directory.*--out FOLDER"):
        write_atomic(tmp_path / "file" / "below" / "a", b"new")


def test_an_interrupt_while_writing_leaves_the_old_and_no_litter(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"old")

    def interrupted(_descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_files(tmp_path, {"a": b"new", "b": b"new"})
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def run(code, *args):
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_a_full_disk_is_one_error_and_leaves_the_old(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    code = """
    import resource, signal, sys
    from pathlib import Path
    from layerwise.errors import OutputError
    from layerwise.files import write_files
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        write_files(Path(sys.argv[1]), {"b": b"small", "a": b"x" * 5000})
    except OutputError as error:
        print(error)
    """
    said = run(code, tmp_path)
    assert said.stdout.startswith("cannot write (File too large)"), said.stderr
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_old_or_new_never_a_part(tmp_path):
    """The writer replaces one file over and over; it is killed at a random moment, many times."""
    target, moments = tmp_path / "a", np.random.default_rng(0)
    code = """
    import sys
    from pathlib import Path
    from layerwise.files import write_atomic
    target = Path(sys.argv[1])
    for n in range(10**9):
        write_atomic(target, bytes([n % 256]) * 300_000)
        if n == 0: print("ready", flush=True)
    """
    for _ in range(12):
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), target], stdout=subprocess.PIPE
        )
        with writer:
            assert writer.stdout.readline() == b"ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                writer.wait(timeout=moments.uniform(0.0, 0.1))
            writer.kill()
        content = target.read_bytes()
        assert content == content[:1] * 300_000


def test_prepare_output_leaves_nothing_behind(tmp_path):
    folder = tmp_path / "a" / "b"
    assert prepare_output(folder, holds="card.json", overwrite=False) == folder
    assert names(tmp_path) == []
    (tmp_path / "a").mkdir()
    prepare_output(folder, holds="card.json", overwrite=False)
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == []


def test_prepare_output_keeps_a_result_unless_told(tmp_path):
    (tmp_path / "card.json").write_text("{}")
    with pytest.raises(OutputError, match=r"already holds a card\.json.*--overwrite"):
        prepare_output(tmp_path, holds="card.json", overwrite=False)
    assert prepare_output(tmp_path, holds="card.json", overwrite=True) == tmp_path
    assert prepare_output(tmp_path, holds="placement.json", overwrite=False) == tmp_path
    (tmp_path / "report.html").write_text("of the card")
    other = {"holds": "profile.json", "beside": "report.html"}
    with pytest.raises(OutputError, match=r"already holds a report\.html.*--overwrite"):
        prepare_output(tmp_path, **other, overwrite=False)
    assert prepare_output(tmp_path, **other, overwrite=True) == tmp_path


@pytest.mark.parametrize("name", ["config.json", "adapter_config.json", "a.gguf"])
def test_prepare_output_spares_the_models_of_others(tmp_path, name):
    (tmp_path / name).write_text("{}")
    with pytest.raises(OutputError, match=rf"model that is of no run: .*{name}'.*another --out"):
        prepare_output(tmp_path, holds="card.json", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    (tmp_path / "tune.json").write_text('{"schema": "layerwise/tune/1"}')
    assert prepare_output(tmp_path, holds="card.json", overwrite=False) == tmp_path


def test_prepare_output_where_a_file_stands(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(OutputError, match=r"cannot write to the output folder .*--out FOLDER"):
        prepare_output(tmp_path / "a", holds="card.json", overwrite=False)
    with pytest.raises(OutputError, match="Not a directory"):
        prepare_output(tmp_path / "a" / "b", holds="card.json", overwrite=False)


@pytest.mark.skipif(ROOT, reason="root may write anywhere")
def test_prepare_output_without_leave(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        prepare_output(tmp_path, holds="card.json", overwrite=False)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
def test_prepare_output_where_nothing_can_be_made():
    with pytest.raises(OutputError, match="cannot write to the output folder"):
        prepare_output(Path("/proc/none"), holds="card.json", overwrite=False)


@pytest.fixture
def house(tmp_path):
    """A folder with something of everything in it, beside one that nobody may touch."""
    for name in ("out/deep", "other/deep"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text(name)
    (tmp_path / "out" / "file").write_text("mine")
    (tmp_path / "out" / "linked").symlink_to(tmp_path / "other")
    (tmp_path / "out" / "leaf").symlink_to(tmp_path / "other" / "deep" / "file")
    (tmp_path / "out" / "broken").symlink_to(tmp_path / "nothing")
    (tmp_path / "out" / "loop").symlink_to(tmp_path / "out" / "loop")
    (tmp_path / "alias").symlink_to(tmp_path / "out")
    return tmp_path / "out"


@pytest.mark.parametrize("name", ["file", "deep", "linked", "leaf", "broken", "loop", "deep/file"])
@pytest.mark.parametrize("root", ["out", "alias", "out/../out"])
def test_what_lies_inside_is_removed_and_nothing_that_it_leads_to(house, name, root):
    folder = house.parent / root
    remove(folder / name, inside=folder)
    assert not os.path.lexists(house / name)
    assert (house.parent / "other" / "deep" / "file").read_text() == "other/deep"
    assert len(names(house)) == (6 if "/" in name else 5)


@pytest.mark.parametrize(
    "name",
    [
        "../other/deep/file",
        "../other",
        "deep/../../other",
        "linked/deep/file",
        "linked/deep",
        "deep/..",
        "..",
        ".",
        "ABSOLUTE",
    ],
)
def test_what_lies_elsewhere_is_left_and_said(house, name, caplog):
    path = house.parent / "other" / "deep" if name == "ABSOLUTE" else house / name
    remove(path, inside=house)
    assert "is left there" in caplog.text
    assert (house.parent / "other" / "deep" / "file").exists()
    assert len(names(house)) == 6


@pytest.mark.parametrize("name", ["absent", "absent/deeper", "file/deeper", "nul\0", "n" * 999])
def test_what_is_not_there_is_no_fault(house, name):
    remove(house / name, inside=house)
    assert len(names(house)) == 6


def test_a_folder_stays_where_files_are_meant(house):
    for name in ("deep", "file", "linked"):
        remove(house / name, inside=house, folders=False)
    assert names(house) == ["broken", "deep", "leaf", "loop"]
