"""Reads log.jsonl: tolerates damaged lines and counts them, in bounded memory, also while the run writes (torch-free).

`read_log` returns the ticks as they were written, `summarize_log` numbers that are safe to plot.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pggan.config.resolution import MAX_RESOLUTION, MIN_RESOLUTION, level_of
from pggan.utils.formatting import paste_path

# Larger numbers cannot be progress (images) or values of a run, and would spoil every scale.
MAX_IMAGES, MAX_VALUE = 1e13, 1e100
RESOLUTIONS = frozenset(2.0**level for level in range(level_of(MIN_RESOLUTION), level_of(MAX_RESOLUTION) + 1))
# Characters of a name; longer ones are cut, since names label curves.
MAX_NAME = 48
# Ticks in a summary, about 400 MB at most: of a longer log it holds every second tick, or every fourth, and so on.
MAX_TICKS = 100_000
# Characters of a line; a longer one is read in pieces, which are not JSON.
MAX_LINE = 1_000_000


@dataclass(frozen=True)
class Tick:
    """One tick of the log. `values`: its numbers by name, None where one was not finite."""

    nimg: int
    values: dict[str, float | None]


@dataclass(frozen=True)
class Event:
    """Something that happened after `nimg` images: `kind` in a word, `text` in full."""

    nimg: int
    kind: str
    text: str


@dataclass
class LogSummary:
    """The numbers and events of a log."""

    ticks: list[Tick] = field(default_factory=list)  # by images seen
    events: list[Event] = field(default_factory=list)
    # metrics in lines of their own, beside the ticks: (images seen, values by name)
    measured: list[tuple[int, dict[str, float | None]]] = field(default_factory=list)
    metrics: set[str] = field(default_factory=set)  # names that are metrics, not terms of training
    every: int = 1  # `ticks` holds every so-many-th tick of the log, and the last one
    lines: int = 0  # ticks in the log
    damaged: int = 0  # lines that could not be read
    torn: bool = False  # the last line is not whole: it was being written, or the run was cut off


def finite_number(value: object) -> float | None:
    """A finite number below MAX_VALUE as a float; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        result = float(value)
    except OverflowError:
        return None
    return result if math.isfinite(result) and abs(result) < MAX_VALUE else None


def read_lines(path: Path) -> Iterator[tuple[dict[str, Any] | None, bool]]:
    """Yields every line as a dictionary (None: damaged) and whether it ends in a line break. A missing log is empty."""
    if not path.is_file():
        return
    with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
        while text := file.readline(MAX_LINE):
            if text.strip():
                yield _parse(text), text.endswith("\n") or len(text) == MAX_LINE


def _parse(text: str) -> dict[str, Any] | None:
    """A line that is a tick or an event; None for anything else."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) and ("event" in line or is_tick(line)) else None


def is_tick(line: dict[str, Any]) -> bool:
    """Whether a line of the log is a tick: it has a place in the schedule, and is no event."""
    nimg, side, alpha = (finite_number(line.get(name)) for name in ("nimg", "resolution", "alpha"))
    if "event" in line or nimg is None or side is None or alpha is None:
        return False
    return 0 <= nimg <= MAX_IMAGES and side in RESOLUTIONS and 0 <= alpha <= 1


def read_log(path: Path) -> list[dict[str, Any]]:
    """The ticks of a log: their finite numbers, and the tables in them."""
    return list(read_ticks(path))


def read_ticks(path: Path) -> Iterator[dict[str, Any]]:
    """Yields what `read_log` returns, one after the other."""
    for line, _ in read_lines(path):
        if line is not None and is_tick(line):
            yield {name: v for name, v in line.items() if isinstance(v, dict) or finite_number(v) is not None}


def ended_early(path: Path) -> bool:
    """Whether the run of a log had enough (`--stop-when`) after its last tick."""
    ended = False
    for line, _ in read_lines(path):
        if line is not None:
            ended = line.get("event") == "enough" or (ended and not is_tick(line))
    return ended


def resume_command(run: Path, log: Path) -> str:
    """Returns the command that resumes a run, with --stop-when never where early stopping has ended it."""
    return f"pggan train --resume {paste_path(run)}{' --stop-when never' if ended_early(log) else ''}"


def summarize_log(path: Path) -> LogSummary:
    """Reads a log for a report."""
    log = LogSummary()
    skipped: Tick | None = None  # the newest tick that `log.ticks` does not hold
    for number, (line, whole) in enumerate(read_lines(path)):
        if line is not None and is_tick(line):
            log.lines += 1
            tick = Tick(int(line["nimg"]), _values(log, line))
            skipped = tick if number % log.every else None
            if skipped is None:
                log.ticks.append(tick)
        elif line is None or not _add_event(log, line):
            log.torn = not whole
            log.damaged += whole
        if len(log.ticks) >= MAX_TICKS:
            del log.ticks[::2]
            log.every *= 2
    if skipped is not None:
        log.ticks.append(skipped)
    log.ticks.sort(key=lambda tick: tick.nimg)
    log.measured.sort(key=lambda entry: entry[0])
    return log


def _values(log: LogSummary, line: dict[str, Any]) -> dict[str, float | None]:
    """The numbers of a line and of the tables in it, whose names are metrics; None stays as a gap."""
    values: dict[str, float | None] = {}
    for name, value in line.items():
        if isinstance(value, dict):
            inner = {str(key)[:MAX_NAME]: finite_number(entry) for key, entry in value.items()}
            metrics = {key: entry for key, entry in inner.items() if entry is not None}
            values.update(metrics)
            log.metrics.update(metrics)
        elif value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            values[name[:MAX_NAME]] = finite_number(value)
    return values


def _add_event(log: LogSummary, line: dict[str, Any]) -> bool:
    """Adds an event; one that only reports metrics becomes values. False where its place cannot be read."""
    nimg = finite_number(line.get("at_nimg", line.get("nimg")))
    if nimg is None or not 0 <= nimg <= MAX_IMAGES:
        return False
    kind = str(line["event"])[:MAX_NAME]
    rest = {name: value for name, value in line.items() if name not in ("event", "at_nimg", "nimg", "kimg")}
    if kind.lower().startswith(("metric", "evaluat", "best")) or isinstance(rest.get("metrics"), dict):
        values = _values(log, rest)
        log.metrics.update(values)
        log.measured.append((int(nimg), values))
        return True
    parts = [str(rest.pop("reason"))[:800]] if "reason" in rest else []
    target = finite_number(rest.pop("to", None))
    if target is not None:
        parts.append(f"back to {target / 1000:g} kimg")
    parts += [f"{name.replace('_', ' ')[:MAX_NAME]} {str(value)[:200]}" for name, value in rest.items()]
    log.events.append(Event(int(nimg), kind, "; ".join(parts)[:1600]))
    return True
