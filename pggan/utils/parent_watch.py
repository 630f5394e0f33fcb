"""Ends a child process when its parent is gone: a killed parent cannot stop its children itself."""

from __future__ import annotations

import multiprocessing
import os
import threading


def exit_with_parent() -> None:
    """Starts a thread that ends this process with status 1 as soon as its parent has ended.

    A process of `multiprocessing` knows its parent. Any other needs a pipe from the parent as standard input, which
    the system closes with the parent.
    """
    threading.Thread(target=_wait_and_exit, daemon=True).start()


def _wait_and_exit() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    else:
        while os.read(0, 1):  # not through sys.stdin, whose lock a thread must not hold when Python ends
            pass
    os._exit(1)
