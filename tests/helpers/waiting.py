"""Waiting for what another process or thread does, also on a machine with much other work."""

import time

# Seconds. What goes well takes a second or two; one that is overloaded has needed more than 60.
PATIENCE = 600


def wait_for(condition, process=None, seconds=PATIENCE):
    """Waits until `condition()`; fails after so long, or once the process that should bring it about has ended.

    Where it fails, it kills the process, for which the test would wait otherwise.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        ended = process is not None and process.poll() is not None
        if ended or time.monotonic() > deadline:
            if process is not None:
                process.kill()
            errors = process.stderr.read() if ended and process.stderr is not None else ""
            raise AssertionError(f"{'the process ended' if ended else f'not within {seconds} s'}: {errors}")
        time.sleep(0.02)
