"""Commands of the product, as the experiments run them."""

from __future__ import annotations

import os
import subprocess
import sys


def run_pggan(*arguments: str, shown: bool = False, threads: int | None = None) -> str:
    """Runs a command; ends with its message where it fails.

    Args:
        arguments: The command's name, arguments and options.
        shown: Whether what it prints is shown, and not returned.
        threads: Of torch's operators; None: as many as usual.
    """
    environment = os.environ if threads is None else {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "pggan", *arguments]
    done = subprocess.run(command, stdout=None if shown else subprocess.PIPE, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout or ""
