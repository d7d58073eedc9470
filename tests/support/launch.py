"""Programs of `support.processes`, in processes forked from one that has what they import."""

import multiprocessing
import os
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(
    [
        "layerwise.cli",
        "layerwise.tuning.results",
        "support.processes.group",
        "support.processes.study",
    ]
)


def forked(program, *arguments, timeout=200):
    """The exit code of a program in a process of its own."""
    process = FORK.Process(target=_program, args=(program, arguments))
    process.start()
    process.join(timeout)
    return process.exitcode


def together(program, *arguments, world=2, timeout=200):
    """Exit codes of a program in processes that find each other as torchrun's do, and their words.

    None is ended when another ends, as torchrun would do; they have to by themselves.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world)}
    with TemporaryDirectory() as folder:
        processes = []
        for rank in range(world):
            one = group | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            words = [f"{folder}/{rank}.{end}" for end in ("out", "err")]
            processes.append(FORK.Process(target=_program, args=(program, arguments, one, words)))
            processes[-1].start()
        for process in processes:
            process.join(timeout)
            process.kill()
        out, err = (
            "".join(Path(f"{folder}/{rank}.{end}").read_text() for rank in range(world))
            for end in ("out", "err")
        )
    return SimpleNamespace(codes=[p.exitcode for p in processes], stdout=out, stderr=err)


def _program(name, arguments, environment=None, words=()):
    os.environ |= environment or {}
    for number, file in enumerate(words, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    main = "layerwise.cli" if name == "layerwise" else f"support.processes.{name}"
    sys.exit(import_module(main).main(*arguments))


def torchrun(*command, world=2, timeout=240):
    """What `layerwise` says under torchrun itself."""
    launch = ["torch.distributed.run", "--standalone", f"--nproc-per-node={world}", "-m"]
    said = subprocess.run(
        [sys.executable, "-m", *launch, "layerwise", *map(str, command)],
        capture_output=True, check=False, text=True, timeout=timeout,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert said.returncode == 0, said.stderr[-3000:]
    return said
