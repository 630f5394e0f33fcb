"""What a report says in words and tables: progress, phases, models, options, data, machine."""

from __future__ import annotations

import shlex
import statistics
from pathlib import Path
from typing import Any

from pggan.config.train import TrainConfig, to_json
from pggan.report.markup import Markup, figure, join, kimg, option, pairs, table, tag
from pggan.report.run_data import RunData, about
from pggan.report.series import FIGURES, extremes, is_metric, other_names
from pggan.training.monitor.plan_table import plan
from pggan.training.run.log_reader import Tick, finite_number
from pggan.utils.formatting import duration, size

EVENTS = 100


def status(gathered: RunData) -> tuple[str, str]:
    """A word for how the run stands, and what it means."""
    total = kimg(gathered.schedule.total)
    if gathered.finished:
        return "finished", f"all of {total} kimg"
    stopped = [event for event in gathered.log.events if event.kind == "stopped"]
    if stopped and not gathered.running and stopped[-1].nimg >= gathered.nimg:
        return "stopped", stopped[-1].text
    if not gathered.log.ticks:
        return "just begun", f"nothing logged yet of {total} kimg"
    return "running" if gathered.running else "unfinished", f"{kimg(gathered.nimg)} of {total} kimg"


def summary(gathered: RunData) -> Markup:
    """The figures that are looked for first."""
    moment = gathered.schedule.at(gathered.nimg)
    side = f"{moment.resolution}x{moment.resolution}"
    stage = side if moment.alpha == 1 else f"{side} fade {moment.alpha:.0%}"
    left = gathered.last("seconds_left")
    count = gathered.data.get("count")
    tiles: list[tuple[str, str]] = [
        ("progress", f"{min(gathered.nimg / gathered.schedule.total, 1):.0%}"),
        ("stage", stage if gathered.log.ticks else "–"),
        ("trained for", duration(gathered.seconds)),
        ("time left", "none" if gathered.finished else duration(left) if left is not None else "–"),
        ("now, img/s", figure(gathered.last("img_per_second"))),
        ("training pictures", f"{count:,}" if isinstance(count, int) else "–"),
        ("returns", figure(gathered.last("rollbacks") or 0)),
        ("skipped steps", figure(gathered.last("skipped_steps") or 0)),
    ]
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in tiles), class_="tiles")


def strip(gathered: RunData) -> Markup:
    """The whole plan as one bar, and how far the run is."""
    total, width = gathered.schedule.total, 1000.0
    parts = []
    for phase in gathered.schedule.phases:
        x, wide = phase.start / total * width, (phase.end - phase.start) / total * width
        kind = "fade" if phase.fading else "stable"
        said = f"{phase.resolution}x{phase.resolution} {kind}: {kimg(phase.start)} to {kimg(phase.end)} kimg"
        shade = f"plan {kind}{' odd' if phase.level % 2 else ''}"
        parts.append(
            tag("rect", tag("title", said), class_=shade, x=f"{x:.1f}", y=0, width=f"{max(wide, 0.5):.1f}", height=22)
        )
    done = min(gathered.nimg / total, 1.0) * width
    parts.append(tag("rect", class_="done", x=0, y=16, width=f"{done:.1f}", height=6))
    label = f"{kimg(gathered.nimg)} of {kimg(total)} kimg"
    return tag(
        "svg", *parts, viewBox="0 0 1000 22", preserveAspectRatio="none", class_="strip-plan", role="img",
        aria_label=label,
    )  # fmt: skip


def events(gathered: RunData) -> Markup | None:
    found = gathered.log.events
    if not found:
        return None
    rows: list[list[object]] = [[kimg(event.nimg), event.kind, event.text] for event in found[-EVENTS:]]
    more = f" (the last {EVENTS} of {len(found)})" if len(found) > EVENTS else ""
    listed = table(["kimg", "what", "why"], rows, "Events", prose=True)
    return join(tag("h2", f"What happened{more}", id="events"), listed)


def phases(gathered: RunData) -> Markup:
    """Every phase as planned, and what was measured in it."""
    rows: list[list[object]] = []
    marks = []
    for planned, phase in zip(plan(gathered.config)["phases"], gathered.schedule.phases):
        ticks = [tick for tick in gathered.log.ticks if phase.start < tick.nimg <= phase.end]
        if phase is gathered.schedule.phases[-1]:
            ticks = [tick for tick in gathered.log.ticks if tick.nimg > phase.start]
        state = "done" if gathered.nimg >= phase.end else "now" if gathered.nimg > phase.start else "ahead"
        side = f"{phase.resolution}x{phase.resolution} {planned['kind']}"
        span = f"{kimg(phase.start)} – {kimg(phase.end)}"
        rows.append(
            [
                side, state, span, planned["batch"], f"{planned['g_lr']:g} / {planned['d_lr']:g}",
                f"{planned['g_parameters'] / 1e6:.3f} M", f"{planned['d_parameters'] / 1e6:.3f} M",
                figure(_median(ticks, "img_per_second")), _spent(gathered.log.ticks, ticks),
                figure(_median(ticks, "d_loss")), figure(_median(ticks, "g_loss")),
                figure(_median(ticks, "gradient_norm")),
            ]
        )  # fmt: skip
        marks.append(state)
    head = ["phase", "", "kimg", "batch", "rates G / D", "params G", "params D", "img/s", "time", "D loss", "G loss"]
    note = tag("p", "Speed, losses and the gradient norm are medians over a phase's ticks.", class_="note")
    return join(table([*head, "|∇D|"], rows, "Phases", marks), note)


def metrics(gathered: RunData) -> Markup | None:
    """Every metric's newest, lowest and highest value, and when."""
    rows: list[list[object]] = []
    for name in [name for name in other_names(gathered) if is_metric(gathered, name)][:FIGURES]:
        found = extremes(gathered, name)
        if found is not None:
            rows.append([name, *(f"{figure(y)} at {kimg(x * 1000)}" for x, y in found)])
    head = ["metric", "last, at kimg", "lowest, at kimg", "highest, at kimg"]
    return table(head, rows, "Metrics") if rows else None


def _median(ticks: list[Tick], name: str) -> float | None:
    values = [value for tick in ticks if (value := tick.get(name)) is not None]
    return statistics.median(values) if values else None


def _spent(all_ticks: list[Tick], ticks: list[Tick]) -> str:
    """Time between the last tick before a phase and its own last one."""
    ends = [value for tick in ticks if (value := tick.get("seconds")) is not None]
    if not ends:
        return "–"
    before = [value for tick in all_ticks if tick.nimg < ticks[0].nimg and (value := tick.get("seconds")) is not None]
    return duration(ends[-1] - (before[-1] if before else 0.0))


def models(gathered: RunData) -> Markup:
    """The models to use, and the commands that use them."""
    run = gathered.run.path
    rows: list[list[object]] = []
    commands = []
    for path in gathered.best:
        rows.append([path.name, *_known_of(path, "best"), _bytes(path)])
        commands.append(f"pggan generate {_quoted(run)} --best --n 64 --out pictures")
    if gathered.models:
        last = gathered.models[-1]
        rows.append([last.name, *_known_of(last, "last"), _bytes(last)])
        commands.append(f"pggan generate {_quoted(run)} --n 64 --out pictures")
        commands.append(f"pggan interpolate {_quoted(run)} --out walk.mp4")
    if not gathered.finished:
        commands.append(f"pggan train --resume {_quoted(run)}")
    said = tag("p", "No model yet: the first comes with the first snapshot.", class_="empty") if not rows else None
    kept = len(gathered.models)
    count = tag("p", f"{kept} model{'' if kept == 1 else 's'} kept in all.", class_="note") if rows else None
    listed = table(["file", "", "kimg", "score", "size"], rows, "Models") if rows else None
    return join(said, listed, count, tag("pre", tag("code", "\n".join(commands)), tabindex="0") if commands else None)


def _known_of(path: Path, kind: str) -> list[str]:
    """Kind, kimg and, of the best, score of a model, by its own metadata."""
    said = about(path)
    at = finite_number(said.pop("kimg", None))
    if at is None and path.stem.removeprefix("model-").isdigit():
        at = int(path.stem.removeprefix("model-")) / 1000
    best = said.get("best")
    return [kind, "–" if at is None else kimg(at * 1000), _score(best) if isinstance(best, dict) else "–"]


def _score(best: dict[str, Any]) -> str:
    """What made a model the best: metric, score, and of how many pictures."""
    count = finite_number(best.get("pictures"))
    of = "" if count is None else f" of {count:,.0f} pictures"
    return f"{option(best.get('metric'))} {figure(finite_number(best.get('score')))}{of}"


def _quoted(path: Path) -> str:
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def _bytes(path: Path) -> str:
    try:
        return size(path.stat().st_size)
    except OSError:
        return "–"


def options(gathered: RunData) -> Markup:
    """What differs from the defaults; all of them in a fold."""
    own, usual = to_json(gathered.config), to_json(TrainConfig())
    other: list[list[object]] = [[_flag(n), option(v), option(usual[n])] for n, v in own.items() if v != usual[n]]
    every: list[list[object]] = [[_flag(name), option(value)] for name, value in own.items()]
    shown = table(["option", "this run", "default"], other, "Options that differ from the defaults", prose=True)
    listed = table(["option", "value"], every, "Options", prose=True)
    fold = tag("details", tag("summary", f"All {len(every)} options"), listed)
    return join(shown if other else tag("p", "All options are the defaults.", class_="empty"), fold)


def _flag(name: str) -> str:
    return name.replace("_", "-")


def data(gathered: RunData) -> Markup:
    known = dict(gathered.data)
    count = known.pop("count", None)
    return pairs(
        [
            ("store", option(gathered.config.data)),
            ("pictures", f"{count:,}" if isinstance(count, int) else count),
            *((str(name), option(value)) for name, value in known.items()),
            ("labels", gathered.config.labels and option(gathered.config.labels)),
            ("attribution", gathered.attribution and option(gathered.attribution)),
        ]
    )


def machine(gathered: RunData) -> Markup:
    """What the run computed with."""
    rest = [(str(n).replace("_", " "), option(v)) for n, v in gathered.resolved.items() if n != "data"]
    return pairs([*rest, ("pggan", gathered.version)])
