"""The report's texts and tables: status, summary, plan, events, phases, metrics, models, options, data, machine."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

from pggan.config.train import TrainConfig, to_json
from pggan.report.markup import Markup, format_number, join, kimg, option, pairs, table, tag
from pggan.report.run_data import RunData, about
from pggan.report.series import MAX_EXTRA, extra_names, extremes, is_metric
from pggan.training.monitor.plan_table import plan
from pggan.training.run.log_reader import Tick, finite_number, resume_command
from pggan.utils.formatting import duration, paste_path, size

# Events in the table, the newest ones.
MAX_EVENTS = 100


def status(run_data: RunData) -> tuple[str, str]:
    """Returns the run's status in a word, and an explanation."""
    total = kimg(run_data.schedule.total)
    if run_data.finished:
        return "finished", f"all of {total} kimg"
    stopped = [event for event in run_data.log.events if event.kind == "stopped"]
    if stopped and not run_data.running and stopped[-1].nimg >= run_data.nimg:
        return "stopped", stopped[-1].text
    enough = [event for event in run_data.log.events if event.kind == "enough"]
    if enough and not run_data.running and enough[-1].nimg >= run_data.nimg:
        return "ended early", f"{kimg(run_data.nimg)} of {total} kimg: {enough[-1].text}"
    if not run_data.log.ticks:
        return "just begun", f"nothing logged yet of {total} kimg"
    return "running" if run_data.running else "unfinished", f"{kimg(run_data.nimg)} of {total} kimg"


def summary(run_data: RunData) -> Markup:
    """The most important figures, as tiles."""
    moment = run_data.schedule.at(run_data.nimg)
    side = f"{moment.resolution}x{moment.resolution}"
    stage = side if moment.alpha == 1 else f"{side} fade {moment.alpha:.0%}"
    left = run_data.last("seconds_left")
    count = run_data.data.get("count")
    tiles: list[tuple[str, str]] = [
        ("progress", f"{min(run_data.nimg / run_data.schedule.total, 1):.0%}"),
        ("stage", stage if run_data.log.ticks else "–"),
        ("trained for", duration(run_data.last("seconds") or 0.0)),
        ("time left", "none" if run_data.finished else duration(left) if left is not None else "–"),
        ("now, img/s", format_number(run_data.last("img_per_second"))),
        ("training pictures", f"{count:,}" if isinstance(count, int) else "–"),
        ("returns", format_number(run_data.last("rollbacks") or 0)),
        ("skipped steps", format_number(run_data.last("skipped_steps") or 0)),
    ]
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in tiles), class_="tiles")


def strip(run_data: RunData) -> Markup:
    """The plan as a bar of phases, with the progress of the run."""
    total, width = run_data.schedule.total, 1000.0
    parts = []
    for phase in run_data.schedule.phases:
        x, wide = phase.start / total * width, (phase.end - phase.start) / total * width
        kind = "fade" if phase.fading else "stable"
        title = f"{phase.resolution}x{phase.resolution} {kind}: {kimg(phase.start)} to {kimg(phase.end)} kimg"
        shade = f"plan {kind}{' odd' if phase.level % 2 else ''}"
        parts.append(
            tag("rect", tag("title", title), class_=shade, x=f"{x:.1f}", y=0, width=f"{max(wide, 0.5):.1f}", height=22)
        )
    done = min(run_data.nimg / total, 1.0) * width
    parts.append(tag("rect", class_="done", x=0, y=16, width=f"{done:.1f}", height=6))
    label = f"{kimg(run_data.nimg)} of {kimg(total)} kimg"
    return tag(
        "svg", *parts, viewBox="0 0 1000 22", preserveAspectRatio="none", class_="strip-plan", role="img",
        aria_label=label,
    )  # fmt: skip


def events(run_data: RunData) -> Markup | None:
    """The table of rollbacks, changed options and other events; None without any."""
    happened = run_data.log.events
    if not happened:
        return None
    rows: list[list[object]] = [[kimg(event.nimg), event.kind, event.text] for event in happened[-MAX_EVENTS:]]
    more = f" (the last {MAX_EVENTS} of {len(happened)})" if len(happened) > MAX_EVENTS else ""
    listed = table(["kimg", "what", "why"], rows, "Events", prose=True)
    return join(tag("h2", f"What happened{more}", id="events"), listed)


def phases(run_data: RunData) -> Markup:
    """The table of phases: the plan, and medians of what was measured."""
    rows: list[list[object]] = []
    marks = []
    all_phases = run_data.schedule.phases
    for planned, phase in zip(plan(run_data.config)["phases"], all_phases):
        end = math.inf if phase is all_phases[-1] else phase.end  # the last iteration may go beyond the plan
        ticks = [tick for tick in run_data.log.ticks if phase.start < tick.nimg <= end]
        state = "done" if run_data.nimg >= phase.end else "now" if run_data.nimg > phase.start else "ahead"
        side = f"{phase.resolution}x{phase.resolution} {planned['kind']}"
        span = f"{kimg(phase.start)} – {kimg(phase.end)}"
        rows.append(
            [
                side, state, span, planned["batch"], f"{planned['g_lr']:g} / {planned['d_lr']:g}",
                f"{planned['g_parameters'] / 1e6:.3f} M", f"{planned['d_parameters'] / 1e6:.3f} M",
                format_number(_median(ticks, "img_per_second")), _spent(run_data.log.ticks, ticks),
                format_number(_median(ticks, "d_loss")), format_number(_median(ticks, "g_loss")),
                format_number(_median(ticks, "gradient_norm")),
            ]
        )  # fmt: skip
        marks.append(state)
    head = [
        "phase",
        "state",
        "kimg",
        "batch",
        "rates G / D",
        "params G",
        "params D",
        "img/s",
        "time",
        "D loss",
        "G loss",
    ]
    note = tag("p", "Speed, losses and the gradient norm are medians over a phase's ticks.", class_="note")
    return join(table([*head, "|∇D|"], rows, "Phases", marks), note)


def metrics(run_data: RunData) -> Markup | None:
    """The table of metrics: newest, lowest and highest value of each, with their kimg."""
    rows: list[list[object]] = []
    for name in [name for name in extra_names(run_data) if is_metric(run_data, name)][:MAX_EXTRA]:
        points = extremes(run_data, name)
        if points is not None:
            rows.append([name, *(f"{format_number(y)} at {kimg(x * 1000)}" for x, y in points)])
    head = ["metric", "last, at kimg", "lowest, at kimg", "highest, at kimg"]
    return table(head, rows, "Metrics") if rows else None


def _median(ticks: list[Tick], name: str) -> float | None:
    values = _values(ticks, name)
    return statistics.median(values) if values else None


def _values(ticks: list[Tick], name: str) -> list[float]:
    return [value for tick in ticks if (value := tick.values.get(name)) is not None]


def _spent(all_ticks: list[Tick], ticks: list[Tick]) -> str:
    """The training time of a phase, whose ticks are `ticks`."""
    ends = _values(ticks, "seconds")
    if not ends:
        return "–"
    before = _values([tick for tick in all_ticks if tick.nimg < ticks[0].nimg], "seconds")
    return duration(ends[-1] - (before[-1] if before else 0.0))


def models(run_data: RunData) -> Markup:
    """The table of models, and commands that use them."""
    run = paste_path(run_data.run.path)
    rows: list[list[object]] = []
    commands = []
    for path in run_data.best:
        rows.append([path.name, *_model_cells(path, "best"), _bytes(path)])
        commands.append(f"pggan generate {run} --best --n 64 --out pictures")
    if run_data.models:
        last = run_data.models[-1]
        rows.append([last.name, *_model_cells(last, "last"), _bytes(last)])
        commands.append(f"pggan generate {run} --n 64 --out pictures")
        commands.append(f"pggan interpolate {run} --out walk.mp4")
        commands.append(f"pggan explore {run}")
    if not run_data.finished and not run_data.run.pruned:
        commands.append(resume_command(run_data.run.path, run_data.run.log))
    code = tag("pre", tag("code", "\n".join(commands)), tabindex="0") if commands else None
    if not rows:
        return join(tag("p", "No model yet: the first comes with the first snapshot.", class_="empty"), code)
    count = len(run_data.models)
    note = tag("p", f"{count} model{'' if count == 1 else 's'} kept in all.", class_="note")
    return join(table(["file", "which", "kimg", "score", "size"], rows, "Models"), note, code)


def _model_cells(path: Path, kind: str) -> list[str]:
    """Cells of a model: kind, kimg, and the score if it was the best; from its metadata."""
    info = about(path)
    thousands = finite_number(info.get("kimg"))
    if thousands is None and path.stem.removeprefix("model-").isdigit():
        thousands = int(path.stem.removeprefix("model-")) / 1000
    best = info.get("best")
    score = _score(best) if isinstance(best, dict) else "–"
    return [kind, "–" if thousands is None else kimg(thousands * 1000), score]


def _score(best: dict[str, Any]) -> str:
    """Formats the score that made a model the best: metric, score, and the number of images measured."""
    count = finite_number(best.get("pictures"))
    suffix = "" if count is None else f" of {count:,.0f} pictures"
    return f"{option(best.get('metric'))} {format_number(finite_number(best.get('score')))}{suffix}"


def _bytes(path: Path) -> str:
    try:
        return size(path.stat().st_size)
    except OSError:
        return "–"


def options(run_data: RunData) -> Markup:
    """The table of options that differ from the defaults; all options below, folded away."""
    own, default = to_json(run_data.config), to_json(TrainConfig())
    other: list[list[object]] = [[_flag(n), option(v), option(default[n])] for n, v in own.items() if v != default[n]]
    every: list[list[object]] = [[_flag(name), option(value)] for name, value in own.items()]
    shown = table(["option", "this run", "default"], other, "Options that differ from the defaults", prose=True)
    listed = table(["option", "value"], every, "Options", prose=True)
    fold = tag("details", tag("summary", f"All {len(every)} options"), listed)
    return join(shown if other else tag("p", "All options are the defaults.", class_="empty"), fold)


def _flag(name: str) -> str:
    return name.replace("_", "-")


def data(run_data: RunData) -> Markup:
    """What is known of the training data."""
    known = dict(run_data.data)
    count = known.pop("count", None)
    return pairs(
        [
            ("store", option(run_data.config.data)),
            ("pictures", f"{count:,}" if isinstance(count, int) else count),
            *((str(name), option(value)) for name, value in known.items()),
            ("labels", run_data.config.labels and option(run_data.config.labels)),
            ("attribution", run_data.attribution and option(run_data.attribution)),
        ]
    )


def machine(run_data: RunData) -> Markup:
    """Device, precision and versions of the run."""
    rest = [(str(n).replace("_", " "), option(v)) for n, v in run_data.resolved.items() if n != "data"]
    return pairs([*rest, ("pggan", run_data.version)])
