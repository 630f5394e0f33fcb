"""Benchmark of training beside other programs, by how torch's threads wait for each other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks.measuring import Numbers, as_json, machine, show
from pggan.utils.process_pool import available_cores
from pggan.utils.startup import WAITING

BENCHMARK = Path(__file__).parents[1] / "benchmark.py"
BUSY = "while True: pass"
# What the environment says of waiting, by name of a row; numbers are turns of GNU's waiting loop.
OTHERS: dict[str, dict[str, str]] = {
    "a run": WAITING,
    "torch's default": {},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "one thread": {},
}
# Threads in all steps, by name of a row: all of them where none is named. A run decides by resolution.
THREADS = {"a run": [], "one thread": ["--threads", "1"]}


@click.command("busy")
@click.option("--spins", type=Numbers(), default="300,1000,3000,10000,30000", show_default=True)
@click.option("--resolutions", type=Numbers(), default="4,16,64", show_default=True)
@click.option("--programs", type=Numbers(), default="0,1,2", show_default=True, help="Busy programs beside training.")
@click.option("--preset", default="demo", show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--seconds", type=float, default=1.0, show_default=True, help="Length of a measurement.")
@as_json
def command(as_json: bool, **given: Any) -> None:
    """Eager training steps a second, alone and beside programs that never pause, by how threads wait.

    All ways are measured in turns; figures are medians of the rounds. `beside N` is the share of the rate alone.
    """
    ways = {**OTHERS, **{f"{count:,} turns": {"GOMP_SPINCOUNT": str(count)} for count in given["spins"]}}
    found: dict[tuple[str, int, int], list[float]] = {}
    every_thread = ["--threads", str(available_cores())]
    for number in range(given["rounds"]):
        for programs in given["programs"]:
            for way, variables in ways.items():
                with _busy(programs):
                    for side, rate in _rates(variables, given, THREADS.get(way, every_thread)):
                        found.setdefault((way, side, programs), []).append(rate)
            click.echo(f"round {number + 1}: measured beside {programs}", err=True)
    rows = [_row(way, side, found, given["programs"]) for way in ways for side in given["resolutions"]]
    columns = {"way": "threads wait", "resolution": "resolution"}
    columns |= {f"rate{count}": "alone img/s" if count == 0 else f"beside {count}" for count in given["programs"]}
    columns |= {f"share{count}": f"share {count}" for count in given["programs"] if count}
    show({"machine": machine(), "pggan": WAITING, "rows": rows}, "rows", columns, as_json)


def _row(way: str, side: int, found: dict[tuple[str, int, int], list[float]], programs: list[int]) -> dict[str, Any]:
    rates = {count: median(found[way, side, count]) for count in programs}
    shares = {f"share{count}": rate / rates[0] for count, rate in rates.items() if count and 0 in rates}
    return {"way": way, "resolution": side, **{f"rate{count}": rate for count, rate in rates.items()}, **shares}


@contextmanager
def _busy(count: int) -> Iterator[None]:
    programs = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def _rates(variables: dict[str, str], given: dict[str, Any], threads: list[str]) -> list[tuple[int, float]]:
    """Runs `benchmark.py train` in a process of its own, whose runtime reads the variables when it starts."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "KMP_"))}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rates.json")
        sides = ",".join(map(str, given["resolutions"]))
        options = ["--preset", given["preset"], "--resolutions", sides, "--mode", "eager", "--device", "cpu"]
        options += ["--rounds", "1", "--seconds", str(given["seconds"]), "--json", str(file), *threads]
        subprocess.run(
            [sys.executable, str(BENCHMARK), "train", *options],
            env={**environment, **variables}, check=True, capture_output=True,
        )  # fmt: skip
        return [(row["resolution"], row["rate"]) for row in json.loads(file.read_text(encoding="utf-8"))["rows"]]
