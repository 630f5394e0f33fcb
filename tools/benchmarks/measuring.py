"""What all benchmarks share: throughput, tables, and a description of the machine."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click

from pggan.utils.process_pool import available_cores

as_json = click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")


class Numbers(click.ParamType):
    """A list of whole numbers, as `1,2,4`."""

    name = "N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        if isinstance(value, list):
            return value
        parts = value.split(",")
        if not all(part.strip().isdecimal() for part in parts):
            self.fail(f"{value!r} is not a list of whole numbers, as 1,2,4", param, ctx)
        return [int(part) for part in parts]


def processor_seconds() -> float:
    """Returns the processor time of this process and of those that it waited for, such as workers or the compiler."""
    import resource  # not on Windows, where the benchmarks that do without it run

    both = (resource.getrusage(which) for which in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


class Rate(NamedTuple):
    """Throughput in items a second."""

    wall: float  # a second of time
    cpu: float  # a second of this process's processor time, which other programs do not lower


def rate(step: Callable[[], int], seconds: float, wait: Callable[[], None] = lambda: None) -> Rate:
    """Measures the throughput of `step`, called again and again.

    Args:
        step: Processes some items and returns their number.
        seconds: How long to measure; `step` is called once at least.
        wait: Waits until asynchronous work of `step` is done.
    """
    items, start, cpu_start = 0, time.perf_counter(), time.process_time()
    while True:
        items += step()
        if time.perf_counter() - start >= seconds:
            wait()
            return Rate(items / (time.perf_counter() - start), items / max(time.process_time() - cpu_start, 1e-9))


def machine() -> dict[str, Any]:
    """Returns the processor's name, the cores that this process may use, and the load of the last minute."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    load = round(os.getloadavg()[0], 2)
    return {"cpu": name, "cores": available_cores(), "load": load, "python": platform.python_version()}


def synchronize(device: Any) -> None:
    """Waits until a GPU has done its work."""
    if device.type != "cpu":
        import torch

        getattr(torch, device.type).synchronize()


def show(result: dict[str, Any], rows: str, columns: dict[str, str], as_json: bool) -> None:
    """Prints `result` as JSON, or its list `rows` as a table of `columns` (key -> heading) under the machine."""
    if as_json:
        click.echo(json.dumps(result))
        return
    about = result["machine"]
    click.echo(f"{about['cpu']}, {about['cores']} cores, load {about['load']}")
    lines = [list(columns.values())] + [[_cell(row.get(key)) for key in columns] for row in result[rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(columns))]
    for line in lines:
        click.echo("  ".join(cell.rjust(width) for cell, width in zip(line, widths)))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
    return str(value)
