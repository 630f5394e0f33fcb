"""How the threads of torch's operators wait for each other on a CPU (torch-free).

By default they spin for milliseconds. On a machine that is not quiet, they take the processor from the thread for which
they wait: training beside one other program is then ten times slower than alone, not twice.
"""

from __future__ import annotations

import os
import sys

from pggan.utils.errors import UsageError

# By environment variable. GNU's runtime (Linux): turns of a waiting loop before a thread sleeps, chosen by
# `tools/benchmark.py busy`; Intel's and LLVM's (macOS, Windows): milliseconds, the least that is not zero.
WAITING = {"GOMP_SPINCOUNT": "3000", "KMP_BLOCKTIME": "1"}
_CHOSEN_BY_USERS = ("OMP_", "GOMP_", "KMP_")


def set_thread_waiting() -> bool:
    """Makes waiting threads sleep early; to be called before torch is imported, as the `pggan` command does.

    Results and the number of threads stay as they are.

    Returns:
        Whether it was set: variables of OMP_*, GOMP_* or KMP_* that the user set are left alone, and all others with
        them.

    Raises:
        UsageError: torch is imported already, and its runtime has read the variables.
    """
    if "torch" in sys.modules:
        raise UsageError("too late: torch is imported; call set_thread_waiting before that, or set GOMP_SPINCOUNT=3000")
    if any(name.startswith(_CHOSEN_BY_USERS) for name in os.environ):
        return False
    os.environ.update(WAITING)
    return True
