"""A run's log as a report reads it: without trust in any line, in bounded memory, while the run may be writing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Beyond these a number is no progress or value of a run, and would spoil every scale.
MOST_IMAGES, MOST = 1e13, 1e100
# Names longer than this are cut: they label curves.
NAME = 48
# Ticks kept at most, about 400 MB: of a longer log every second one is kept, or every fourth, and so on.
TICKS = 100_000
# Characters of a line; a longer one is read in pieces, which are no JSON.
LINE = 1_000_000


@dataclass(frozen=True)
class Tick:
    """A line of the log. `values`: its numbers by name, None where one was not finite."""

    nimg: int
    resolution: int
    fading: bool
    values: dict[str, float | None]

    def get(self, name: str) -> float | None:
        return self.values.get(name)


@dataclass(frozen=True)
class Event:
    """Something that happened at an image: `kind` a word, `text` the whole of it."""

    nimg: int
    kind: str
    text: str


@dataclass
class Log:
    """Ticks in the order of their images, events, and measurements apart from ticks (images, numbers by name).

    `metrics`: names of numbers that were measured, not trained with. `every`: of so many ticks one was kept.
    `lines`: ticks there were in all. `damaged`: lines that could not be read; `torn`: the last one is not whole.
    """

    ticks: list[Tick] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    measured: list[tuple[int, dict[str, float | None]]] = field(default_factory=list)
    metrics: set[str] = field(default_factory=set)
    every: int = 1
    lines: int = 0
    damaged: int = 0
    torn: bool = False


def number(value: object) -> float | None:
    """A finite number of a sane size, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) and abs(found) < MOST else None


def read_log(path: Path) -> Log:
    """A log that is not there is empty. A last line without its end is being written, and no damage."""
    log = Log()
    passed: str | None = None  # the newest tick that was left out
    for place, text in enumerate(_lines(path)):
        happened = '"event"' in text
        if not text.endswith("\n") and len(text) < LINE:
            log.torn = not _take(log, text)
            log.lines += not log.torn and not happened
            continue
        if not happened and place % log.every:
            passed, log.lines = text, log.lines + 1
            continue
        if not _take(log, text):
            log.damaged += 1
        elif not happened:
            passed, log.lines = None, log.lines + 1
        if len(log.ticks) >= TICKS:
            del log.ticks[::2]
            log.every *= 2
    if passed is not None and not _take(log, passed):
        log.damaged, log.lines = log.damaged + 1, log.lines - 1
    log.ticks.sort(key=lambda tick: tick.nimg)
    log.measured.sort(key=lambda entry: entry[0])
    return log


def _lines(path: Path) -> Iterator[str]:
    if not path.is_file():
        return
    with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
        while text := file.readline(LINE):
            if text.strip():
                yield text


def _take(log: Log, text: str) -> bool:
    """Adds a line to the log; False where it says nothing that is known."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return False
    if not isinstance(line, dict):
        return False
    if "event" in line:
        return _take_event(log, line)
    nimg, resolution, alpha = (number(line.get(name)) for name in ("nimg", "resolution", "alpha"))
    if nimg is None or resolution is None or alpha is None or not 0 <= nimg <= MOST_IMAGES:
        return False
    log.ticks.append(Tick(int(nimg), int(resolution), alpha < 1, _values(log, line)))
    return True


def _values(log: Log, line: dict[str, Any]) -> dict[str, float | None]:
    """The numbers of a line and of the tables in it (those are metrics); None stays, as a gap."""
    found: dict[str, float | None] = {}
    for name, value in line.items():
        if isinstance(value, dict):
            inner = {str(key)[:NAME]: number(entry) for key, entry in value.items()}
            measured = {key: entry for key, entry in inner.items() if entry is not None}
            found.update(measured)
            log.metrics.update(measured)
        elif value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            found[name[:NAME]] = number(value)
    return found


def _take_event(log: Log, line: dict[str, Any]) -> bool:
    """An event's line; one that only measures (metrics) has numbers to show instead of a mark."""
    at = number(line.get("at_nimg", line.get("nimg")))
    if at is None or not 0 <= at <= MOST_IMAGES:
        return False
    kind = str(line["event"])[:NAME]
    rest = {name: value for name, value in line.items() if name not in ("event", "at_nimg", "nimg", "kimg")}
    if kind.lower().startswith(("metric", "evaluat", "best")) or isinstance(rest.get("metrics"), dict):
        values = _values(log, rest)
        log.metrics.update(values)
        log.measured.append((int(at), values))
        return True
    said = [str(rest.pop("reason"))[:800]] if "reason" in rest else []
    back = number(rest.pop("to", None))
    if back is not None:
        said.append(f"back to {back / 1000:g} kimg")
    said += [f"{name.replace('_', ' ')[:NAME]} {str(value)[:200]}" for name, value in rest.items()]
    log.events.append(Event(int(at), kind, "; ".join(said)[:1600]))
    return True
