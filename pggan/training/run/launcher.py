"""Starts the processes of `pggan train --gpus N` on this machine, one per GPU, as torchrun would (torch-free).

It forwards signals to all of them. When one fails, it stops the others and prints that one's error.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from types import FrameType
from typing import IO, Any

from pggan.utils.output import say
from pggan.utils.parent_watch import exit_with_parent
from pggan.utils.startup import ending_signals, held_back, take_early_signal

LAUNCHED = "PGGAN_LAUNCHED"
# Seconds between two looks at the processes, and that they have to end before they are killed.
POLL_SECONDS, GRACE_SECONDS = 0.1, 10.0


def launch(count: int, arguments: list[str]) -> int:
    """Runs `python -m pggan ARGUMENTS` in `count` processes that form one process group; returns the exit status."""
    processes: list[subprocess.Popen[bytes]] = []

    def forward(number: int, frame: FrameType | None) -> None:
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    forwarded = [signal.SIGINT, *ending_signals(), *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else [])]
    previous = {number: signal.signal(number, forward) for number in forwarded}
    with ExitStack() as stack:
        errors = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(count)]
        try:
            common = _environment(count)
            for rank in range(count):
                processes.append(_start(rank, common, arguments, errors[rank]))
            for number in filter(take_early_signal, forwarded):
                forward(number, None)
            return _watch(processes, errors)
        finally:
            _end(processes)
            for number, handler in previous.items():
                signal.signal(number, handler)


def _environment(count: int) -> dict[str, str]:
    """What torch.distributed reads: the address of rank 0 and the number of processes."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    threads = max(1, (os.cpu_count() or 1) // count)
    return {
        "OMP_NUM_THREADS": str(threads),
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        LAUNCHED: "1",
    }


def _start(rank: int, common: dict[str, str], arguments: list[str], errors: IO[bytes]) -> subprocess.Popen[bytes]:
    """Starts one process. Rank 0 writes to the terminal, the others to the file `errors`."""
    with held_back():
        return subprocess.Popen(
            [sys.executable, "-m", "pggan", *arguments],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdin=subprocess.PIPE,  # closes when this process dies, however it does: see `end_with_launcher`
            stdout=None if rank == 0 else subprocess.DEVNULL,
            stderr=None if rank == 0 else errors,
            start_new_session=True,  # Ctrl-C reaches them once, through this process
        )


def _watch(processes: list[subprocess.Popen[bytes]], errors: list[Any]) -> int:
    """Waits until all processes have succeeded or one has failed; returns the exit status."""
    while True:
        states = [process.poll() for process in processes]
        for rank, status in enumerate(states):
            if status:
                _print_error(rank, status, errors[rank])
                return status if status > 0 else 128 - status
        if all(status == 0 for status in states):
            return 0
        time.sleep(POLL_SECONDS)


def _print_error(rank: int, status: int, errors: IO[bytes]) -> None:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    if status < 0:
        say(f"pggan: error: process {rank} was killed by signal {-status}; the others are stopped", err=True)
    elif rank and lines and status not in (128 + number for number in (signal.SIGINT, *ending_signals())):
        say(f"{lines[-1]} (process {rank})", err=True)


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    """Ends the processes that are left: when one has failed, they would wait for it for ever."""
    deadline = time.monotonic() + GRACE_SECONDS
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()


def end_with_launcher() -> None:
    """In a process that `launch` started: ends it when the launcher is gone."""
    if LAUNCHED in os.environ:
        exit_with_parent()
