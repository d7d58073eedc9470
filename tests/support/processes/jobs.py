"""What jobs do in tests in a run's place."""


def finish(ledger, run_id):
    """A result at once."""
    from layerwise.study.ledger import open_ledger

    book = open_ledger(ledger)
    lease = book.begin(run_id)
    if lease is not None:
        book.finish(run_id, {"run": run_id}, lease=lease, seconds=0.0)
        lease.release()


def die_once(ledger, run_id):
    """Killed the first time, as by a machine that fails."""
    import os
    import signal

    from layerwise.study.ledger import open_ledger

    book = open_ledger(ledger)
    lease = book.begin(run_id)
    if lease.generation == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    book.finish(run_id, {"generation": lease.generation}, lease=lease, seconds=0.0)
    lease.release()


def out_of_time_once(ledger, run_id):
    """Told the first time that its time is up; it says so in its folder, as the worker does."""
    import os
    import signal

    from layerwise.interrupts import interruptible
    from layerwise.study.ledger import open_ledger
    from layerwise.study.record import Failure

    book = open_ledger(ledger)
    with interruptible():
        lease = book.begin(run_id)
        try:
            if lease.generation == 1:
                os.kill(os.getpid(), signal.SIGUSR2)
            book.finish(run_id, {"generation": lease.generation}, lease=lease, seconds=0.0)
        except SystemExit:
            book.fail(run_id, Failure("interrupted", "time", "training"), lease=lease)
        finally:
            lease.release()


def wait_for_ever(ledger, run_id):
    """Ends by a signal alone."""
    import threading

    from layerwise.interrupts import interruptible
    from layerwise.study.ledger import open_ledger
    from layerwise.study.record import Failure

    book = open_ledger(ledger)
    with interruptible():
        lease = book.begin(run_id)
        try:
            while True:  # Not one long wait: Ray's way to interrupt is seen between two lines.
                threading.Event().wait(0.05)
        except SystemExit:
            book.fail(run_id, Failure("interrupted", "cancelled", "training"), lease=lease)
        finally:
            lease.release()
