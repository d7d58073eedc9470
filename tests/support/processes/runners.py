"""Runners of one study, forked from a process that has imported what runs need.

Takes the study's file, then a line for each runner on standard input: the ledger's folder. Says the
runner's process id, and when it ended its exit status. A runner is as `layerwise study run` makes
it, but for the interpreter's start, and notes every run that really begins in ``LEDGER.starts``.
"""

import os
import signal
import sys
import traceback
from pathlib import Path

from layerwise.study import worker
from layerwise.study.engines import forker
from layerwise.study.engines.local import LocalEngine
from layerwise.study.expand import study_from
from layerwise.study.ledger import Ledger, create
from layerwise.study.runner import run


def execute(ledger, run_id):
    """A run that is noted once it has its lease."""
    begin = Ledger.begin

    def noted(self, run_id, **options):
        lease = begin(self, run_id, **options)
        if lease is not None:
            log = os.open(f"{ledger}.starts", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(log, f"{run_id}\n".encode())
            os.close(log)
        return lease

    Ledger.begin = noted
    worker.execute(ledger, run_id)


class Server:
    """What `LocalEngine` knows of the process that runs are forked from."""

    def __init__(self, target, ledger):
        inputs, outputs = os.pipe(), os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.setsid()
            for end, number in ((inputs[0], 0), (outputs[1], 1)):
                os.dup2(end, number)
            os.closerange(3, 256)
            os.dup2(os.open(f"{ledger}.said", os.O_WRONLY | os.O_APPEND | os.O_CREAT), 2)
            try:
                forker.main([target, str(ledger)])
            finally:
                os._exit(0)
        os.close(inputs[0])
        os.close(outputs[1])
        self.stdin, self.stdout = os.fdopen(inputs[1], "wb", 0), os.fdopen(outputs[0], "rb", 0)

    def wait(self, timeout):  # noqa: ARG002  # As `Popen`'s; the test has a limit of its own.
        os.waitpid(self.pid, 0)


class ForkedEngine(LocalEngine):
    """Its server is a fork of this process, which has all imports."""

    def _start(self):
        return Server(f"{__name__}:execute", self._ledger)


def runner(study, root):
    """Run the study; the process ends with it."""
    status = 1
    try:
        ledger = create(root, study)
        ended = run(study, ledger, ForkedEngine(ledger.root, workers=2, execute=execute))
        status = 0 if ended.done == ended.total else 3
    except BaseException:  # noqa: BLE001  # This process ends here, whatever it is.
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def say(number):
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def main():
    study = study_from(Path(sys.argv[1]))
    for line in sys.stdin:
        word = line.strip()
        if word.startswith("wait "):
            pid = int(word.removeprefix("wait "))
            say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            continue
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            runner(study, Path(word))
        say(pid)
    os._exit(0)  # All is said; what was imported need not be taken apart.
