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


def forked(program, *arguments, environments=({},), timeout=200):
    """Run a program in a process for each environment: their exit codes, and what all of them say.

    None is ended when another ends, as torchrun would do: that is for the program.
    """
    with TemporaryDirectory() as folder:
        processes = []
        for number, environment in enumerate(environments):
            words = [f"{folder}/{number}.{end}" for end in ("out", "err")]
            asked = (program, arguments, environment, words)
            processes.append(FORK.Process(target=_program, args=asked))
            processes[-1].start()
        for process in processes:
            process.join(timeout)
            process.kill()
        out, err = (
            "".join(
                Path(f"{folder}/{number}.{end}").read_text() for number in range(len(processes))
            )
            for end in ("out", "err")
        )
    return SimpleNamespace(codes=[p.exitcode for p in processes], stdout=out, stderr=err)


def _program(name, arguments, environment, words):
    os.environ |= environment
    for number, file in enumerate(words, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    main = "layerwise.cli" if name == "layerwise" else f"support.processes.{name}"
    sys.exit(import_module(main).main(*arguments))


def together(program, *arguments, world=2):
    """Run a program in processes that find each other as those of torchrun do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world)}
    ranks = [group | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world)]
    return forked(program, *arguments, environments=ranks)


def torchrun(*command, world=2, timeout=240):
    """Return what `layerwise` says under torchrun itself."""
    launch = ["torch.distributed.run", "--standalone", f"--nproc-per-node={world}", "-m"]
    said = subprocess.run(
        [sys.executable, "-m", *launch, "layerwise", *map(str, command)],
        capture_output=True, check=False, text=True, timeout=timeout,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert said.returncode == 0, said.stderr[-3000:]
    return said
