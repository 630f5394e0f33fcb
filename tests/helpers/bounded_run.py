"""Runs pggan in a process of its own with a limit on its memory, and measures what it took."""

from __future__ import annotations

import resource
import subprocess
import sys
from typing import NamedTuple

from tests.helpers.waiting import PATIENCE


class BoundedRun(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str
    peak: int  # of its own resident memory, without its workers', in MiB


# The kernel's peak of this program: `ru_maxrss` also counts the process that started it.
_PROGRAM = """
import sys
from pathlib import Path
from pggan.cli import _leave, run
status = run(sys.argv[1:])
lines = Path("/proc/self/status").read_text().splitlines()
print("peak", next(int(line.split()[1]) >> 10 for line in lines if line.startswith("VmHWM")), file=sys.stderr)
_leave(status)
"""


def bounded_run(arguments: list[str], memory: int, seconds: int = 60) -> BoundedRun:
    """Runs `pggan ARGUMENTS`. Its address space may take `memory` MiB, its processor time `seconds`."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (memory << 20, memory << 20))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))

    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        check=False,
        timeout=PATIENCE,
    )
    err, separator, peak = done.stderr.rpartition("peak ")
    return BoundedRun(done.returncode, done.stdout, err or done.stderr, int(peak.split()[0]) if separator else -1)
