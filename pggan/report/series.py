"""The charts of a report: which logged values they show, curves thinned to a screen's resolution, and axis scales."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from pggan.config.metrics import METRICS
from pggan.report.run_data import RunData

# Points of a curve at most; see `thinned`.
MAX_POINTS = 600
# Curves beside those of CHARTS, and curves in one of their charts: they bound the size of the page.
MAX_EXTRA, MAX_CURVES = 64, 8
# A logarithmic axis serves positive values whose range spans more than a factor of WIDE, up to the second figure;
# smaller values than the third cannot be divided safely.
WIDE, WIDEST, LOG_LOW = 30.0, 1e60, 1e-100
# The axis covers all values, peaks too, where that is at most this many times the range of the other values.
PEAK_FACTOR = 2.5
# A curve of at least this many values may have a peak at either end of its range.
PEAK_COUNT = 12

Point = tuple[float, float | None]


@dataclass(frozen=True)
class Curve:
    """Points (kimg, value), where a value of None is a gap. `short` is the label at the end of the line."""

    label: str
    short: str
    points: list[Point]

    @property
    def values(self) -> list[float]:
        return [y for _, y in self.points if y is not None]


@dataclass(frozen=True)
class Chart:
    """Curves on one axis. `reference`: a value to compare with, and its name."""

    title: str
    note: str
    curves: list[Curve]
    logarithmic: bool = False
    reference: tuple[float, str] | None = None


@dataclass(frozen=True)
class Scale:
    """A vertical axis from `low` to `high`; `clipped` where values lie beyond."""

    low: float
    high: float
    logarithmic: bool
    clipped: bool

    def at(self, value: float) -> float:
        """The height of a value: 0 at the bottom, 1 at the top, outside for a clipped one."""
        if self.logarithmic:
            low, high = math.log(self.low), math.log(self.high)
            return (math.log(max(value, self.low * 1e-3)) - low) / (high - low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class ChartSpec:
    """A chart of the values that every run logs.

    `curves`: label and short label by name in the log; `only_if_changing`: it is left out while all curves are flat.
    """

    title: str
    note: str
    curves: dict[str, tuple[str, str]]
    logarithmic: bool = False
    only_if_changing: bool = False


CHARTS = [
    ChartSpec("Losses", "means of a tick", {"d_loss": ("D loss", "D"), "g_loss": ("G loss", "G")}),
    ChartSpec("Critic's gap", "score of fakes less that of reals; near 0 D can't tell", {"wasserstein": ("gap", "W")}),
    ChartSpec("Scores", "D's mean output", {"score_real": ("reals", "real"), "score_fake": ("fakes", "fake")}),
    ChartSpec("Gradient norm", "of D, where the penalty holds it", {"gradient_norm": ("norm", "|∇|")}),
    ChartSpec(
        "Penalties", "as weighed in D's loss",
        {"gradient_penalty": ("gradient", "grad"), "drift": ("drift", "drift")}, logarithmic=True,
    ),
    ChartSpec("Variety", "of generated pictures, as a share of the reals'", {"diversity": ("variety", "var")}),
    ChartSpec(
        "Classes", "terms of the classifier",
        {"class_real": ("reals", "real"), "class_fake": ("fakes", "fake"), "g_class": ("G", "G")}, logarithmic=True,
    ),
    ChartSpec(
        "Numbers", "squared errors of labels that are numbers",
        {"number_real": ("reals", "real"), "number_fake": ("fakes", "fake"), "g_number": ("G", "G")}, logarithmic=True,
    ),
    ChartSpec("Speed", "images a second", {"img_per_second": ("img/s", "img/s")}, logarithmic=True),
    ChartSpec(
        "Learning rates", "", {"g_lr": ("G", "G"), "d_lr": ("D", "D")}, logarithmic=True, only_if_changing=True
    ),
    ChartSpec("Device memory", "peak of a tick, MiB", {"memory_mb": ("MiB", "MiB")}),
    ChartSpec(
        "Steps left out", "so far",
        {"skipped_steps": ("skipped", "skip"), "faulty_steps": ("faulty", "fault"), "rollbacks": ("returns", "back")},
        only_if_changing=True,
    ),
]  # fmt: skip
# Values that say where a run is, not how it goes.
_PROGRESS = {
    "tick", "nimg", "kimg", "iteration", "phase", "level", "resolution", "alpha", "batch", "seconds",
    "phase_seconds_left", "seconds_left", "seconds_left_low", "seconds_left_high", "start_seconds",
    "checkpoint_seconds", "snapshot_seconds", "evaluation_seconds",
}  # fmt: skip
# Values without a chart of their own among the extra ones; g_score is minus score_fake.
_NOT_EXTRA = _PROGRESS | {"g_score"} | {name for spec in CHARTS for name in spec.curves}
# Titles of the metrics' charts, by family.
TITLES = {
    "swd": "SWD x 1000", "msssim": "MS-SSIM", "fid": "FID", "kid": "KID", "is": "Inception score",
    "fd": "FD", "kd": "KD", "nearest": "Nearest neighbours", "precision": "Precision", "recall": "Recall",
}  # fmt: skip


def training_charts(run_data: RunData) -> list[Chart]:
    """The charts of the values that every run logs."""
    charts = []
    for spec in CHARTS:
        curves = [Curve(label, short, _points(run_data, name)) for name, (label, short) in spec.curves.items()]
        curves = [curve for curve in curves if curve.values]
        flat = all(len(set(curve.values)) == 1 for curve in curves)
        if curves and not (spec.only_if_changing and flat):
            reference = _reference(run_data, spec.title)
            charts.append(Chart(spec.title, spec.note, curves, spec.logarithmic, reference))
    return charts


def extra_charts(run_data: RunData) -> tuple[list[Chart], list[Chart]]:
    """The charts of all other values in the log, one per family: those of metrics, and those of unknown values."""
    families: dict[str, list[str]] = {}
    for name in extra_names(run_data)[:MAX_EXTRA]:
        families.setdefault(_family(name), []).append(name)
    metrics: list[Chart] = []
    others: list[Chart] = []
    for family, members in families.items():
        labels = [name[len(family) :].strip("-_/. ") or name for name in members]
        curves = [Curve(name, label, _points(run_data, name)) for name, label in zip(members, labels)]
        curves = [curve for curve in curves if curve.values]
        known = any(is_metric(run_data, name) for name in members)
        title = TITLES.get(family, (family if len(members) > 1 else members[0]).replace("_", " "))
        note = NOTES.get(family, "") if known else ""
        for start in range(0, len(curves), MAX_CURVES):
            chart = Chart(title, note, curves[start : start + MAX_CURVES], logarithmic=True)
            (metrics if known else others).append(chart)
    return metrics, others


def extra_names(run_data: RunData) -> list[str]:
    """Names of the values that no chart of CHARTS shows, in the order of the log, without standard deviations."""
    ticks = (tick.values for tick in run_data.log.ticks)
    names = {name: None for values in (*ticks, *(v for _, v in run_data.log.measured)) for name in values}
    shown = [name for name in names if name not in _NOT_EXTRA]
    return [name for name in shown if not (name.endswith("_std") and name.removesuffix("_std") in names)]


def is_metric(run_data: RunData, name: str) -> bool:
    """Whether a value is a metric, by the log's word or by its name."""
    return name in run_data.log.metrics or _family(name) in METRIC_FAMILIES


def extremes(run_data: RunData, name: str) -> tuple[Point, Point, Point] | None:
    """The last, the lowest and the highest point of a value; None where it has none."""
    known = [(x, y) for x, y in _all_points(run_data, name) if y is not None]
    if not known:
        return None
    return known[-1], min(known, key=lambda point: point[1]), max(known, key=lambda point: point[1])


def _family(name: str) -> str:
    """The metric that a value belongs to: "swd" for `swd_16`, "msssim" for `ms_ssim`."""
    match = re.match(r"ms_?ssim|[A-Za-z]+", name, re.IGNORECASE)
    return match[0].lower().replace("_", "") if match else name


# what a metric measures, by family of its main value
NOTES = {_family(spec.figure): f"{spec.summary}; {spec.better} is better" for spec in METRICS if not spec.headline}
METRIC_FAMILIES = frozenset(_family(name) for spec in METRICS for name in (spec.name, spec.figure)) | {
    "recall", "copied", "duplicates", "duplicate",
}  # fmt: skip


def _reference(run_data: RunData, title: str) -> tuple[float, str] | None:
    config = run_data.config
    if title == "Gradient norm" and not config.loss_options and config.loss.startswith("wgan"):
        return 1.0, "target 1"
    return (0.0, "") if title in ("Losses", "Scores", "Critic's gap") else None


def _points(run_data: RunData, name: str) -> list[Point]:
    return thinned(_all_points(run_data, name))


def _all_points(run_data: RunData, name: str) -> list[Point]:
    """A value's points. A tick without the value makes no gap: some are measured now and then."""
    ticks = [(tick.nimg / 1000, tick.values[name]) for tick in run_data.log.ticks if name in tick.values]
    measured = [(nimg / 1000, values[name]) for nimg, values in run_data.log.measured if name in values]
    return sorted([*ticks, *measured], key=lambda point: point[0])


def thinned(points: list[Point], most: int = MAX_POINTS) -> list[Point]:
    """At most `most` points: the lowest and the highest of every stretch, so that no peak is lost."""
    if len(points) <= most:
        return points
    selected: list[Point] = []
    stretches = most // 2
    for number in range(stretches):
        part = points[number * len(points) // stretches : (number + 1) * len(points) // stretches]
        known = [(y, x) for x, y in part if y is not None]
        if known:
            ends = {(x, y) for y, x in (min(known), max(known))}
            selected += sorted(ends, key=lambda point: point[0])
        else:
            selected.append((part[0][0], None))
    return selected


def scale(chart: Chart) -> Scale:
    """The axis of a chart. It clips rare peaks, so that they do not press the other values flat."""
    ranges = [_without_peaks(curve.values) for curve in chart.curves]
    low, high = min(first for first, _ in ranges), max(last for _, last in ranges)
    lowest = min(min(curve.values) for curve in chart.curves)
    highest = max(max(curve.values) for curve in chart.curves)
    if chart.reference is not None:
        low, high = min(low, chart.reference[0]), max(high, chart.reference[0])
    logarithmic = chart.logarithmic and min(low, lowest) > LOG_LOW and WIDE < high / low < WIDEST
    if logarithmic:
        whole, usual = math.log(highest / lowest), math.log(high / low)
    else:
        whole, usual = highest - lowest, high - low
    if whole <= PEAK_FACTOR * usual:
        low, high = min(low, lowest), max(high, highest)
    if logarithmic:
        factor = (high / low) ** 0.06
        low, high = low / factor, high * factor
    else:
        margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
        low, high = (low if low == 0 <= lowest else low - margin), high + margin
    return Scale(low, high, logarithmic, clipped=lowest < low or highest > high)


def _without_peaks(values: list[float]) -> tuple[float, float]:
    """The range of values without 2 % at each end; it always includes the newest value."""
    ordered, cut = sorted(values), max(len(values) // 50, int(len(values) >= PEAK_COUNT))
    return min(ordered[cut], values[-1]), max(ordered[-1 - cut], values[-1])
