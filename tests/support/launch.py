"""Several processes under torchrun."""

import os
import subprocess
import sys


def torchrun(*command, world=2, timeout=240, check=True):
    """Run a program of `support.processes`, or any other `-m` module, in `world` processes."""
    words = ["-m", f"support.processes.{command[0]}"] if command[0] != "-m" else [command[0]]
    launch = ["torch.distributed.run", "--standalone", f"--nproc-per-node={world}"]
    said = subprocess.run(
        [sys.executable, "-m", *launch, *words, *map(str, command[1:])],
        capture_output=True, check=False, text=True, timeout=timeout,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert not check or said.returncode == 0, said.stderr[-3000:]
    return said
