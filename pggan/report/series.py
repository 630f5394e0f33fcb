"""Which curves a report shows, thinned to what a screen can tell apart, and the scales that suit them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from pggan.config.metrics import METRICS
from pggan.report.run_data import RunData

# Points of a curve at most: two (lowest, highest) for each of half as many stretches.
POINTS = 600
# Curves of figures beside those always logged, and those that share a chart: a page has a size.
FIGURES, CURVES = 64, 8
# A positive quantity that spans more than this factor is shown in logarithms.
WIDE = 30.0
# Where the whole range is within this factor of the range of nearly all values, the whole is shown.
NEAR = 2.5
# From so many values on, one at each end may be a peak.
SOME = 12

Point = tuple[float, float | None]


@dataclass(frozen=True)
class Curve:
    """Points (kimg, value); a value of None is a gap. `short` labels the end of the line."""

    label: str
    short: str
    points: list[Point]

    @property
    def values(self) -> list[float]:
        return [y for _, y in self.points if y is not None]


@dataclass(frozen=True)
class Chart:
    """Curves that share a scale. `reference`: a value to compare with, and what it is."""

    title: str
    note: str
    curves: list[Curve]
    logarithmic: bool = False
    reference: tuple[float, str] | None = None


@dataclass(frozen=True)
class Scale:
    """Values `low` to `high`; `clipped` where some lie beyond."""

    low: float
    high: float
    logarithmic: bool
    clipped: bool

    def at(self, value: float) -> float:
        """0 at the foot, 1 at the top; beyond for what is clipped."""
        if self.logarithmic:
            low, high = math.log(self.low), math.log(self.high)
            return (math.log(max(value, self.low * 1e-3)) - low) / (high - low)
        return (value - self.low) / (self.high - self.low)


# Names that say where a run is, not how it goes.
PROGRESS = frozenset(
    {
        "tick", "nimg", "kimg", "iteration", "phase", "level", "resolution", "alpha", "batch", "seconds",
        "phase_seconds_left", "seconds_left",
    }
)  # fmt: skip
# title, what it means, names with their labels, logarithmic where it spans much
KNOWN: list[tuple[str, str, dict[str, tuple[str, str]], bool]] = [
    ("Losses", "means of a tick", {"d_loss": ("D loss", "D"), "g_loss": ("G loss", "G")}, False),
    ("Critic's gap", "score of fakes less that of reals; near 0 D can't tell", {"wasserstein": ("gap", "W")}, False),
    ("Scores", "D's mean output", {"score_real": ("reals", "real"), "score_fake": ("fakes", "fake")}, False),
    ("Gradient norm", "of D, where the penalty holds it", {"gradient_norm": ("norm", "|∇|")}, False),
    (
        "Penalties", "as weighed in D's loss",
        {"gradient_penalty": ("gradient", "grad"), "drift": ("drift", "drift")}, True,
    ),
    ("Variety", "of generated pictures, as a share of the reals'", {"diversity": ("variety", "var")}, False),
    (
        "Classes", "terms of the classifier",
        {"class_real": ("reals", "real"), "class_fake": ("fakes", "fake"), "g_class": ("G", "G")}, True,
    ),
    ("Speed", "images a second", {"img_per_second": ("img/s", "img/s")}, True),
    ("Learning rates", "", {"g_lr": ("G", "G"), "d_lr": ("D", "D")}, True),
    ("Device memory", "peak of a tick, MiB", {"memory_mb": ("MiB", "MiB")}, False),
    (
        "Steps left out", "so far",
        {"skipped_steps": ("skipped", "skip"), "faulty_steps": ("faulty", "fault"), "rollbacks": ("returns", "back")},
        False,
    ),
]  # fmt: skip
# Shown only where they change: a flat line says nothing.
QUIET = frozenset({"Learning rates", "Steps left out"})
# the generator's score term: minus the fakes' score, so no curve of its own
HIDDEN = PROGRESS | {"g_score"} | {name for _, _, names, _ in KNOWN for name in names}
TITLES = {
    "swd": "SWD x 1000", "msssim": "MS-SSIM", "fid": "FID", "kid": "KID", "is": "Inception score",
    "fd": "FD", "kd": "KD", "nearest": "Nearest neighbours", "precision": "Precision", "recall": "Recall",
}  # fmt: skip


def training_charts(gathered: RunData) -> list[Chart]:
    """The charts of what the log always says."""
    charts = []
    for title, note, names, logarithmic in KNOWN:
        curves = [Curve(label, short, _points(gathered, name)) for name, (label, short) in names.items()]
        curves = [curve for curve in curves if curve.values]
        if not curves or (title in QUIET and all(len(set(curve.values)) == 1 for curve in curves)):
            continue
        charts.append(Chart(title, note, curves, logarithmic, _reference(gathered, title)))
    return charts


def figure_charts(gathered: RunData) -> tuple[list[Chart], list[Chart]]:
    """Charts of every other figure in the log, those of one family together: metrics, and what is not known."""
    families: dict[str, list[str]] = {}
    for name in other_names(gathered)[:FIGURES]:
        families.setdefault(_family(name), []).append(name)
    metrics: list[Chart] = []
    others: list[Chart] = []
    for family, members in families.items():
        curves = [Curve(name, name[len(family) :].strip("-_/. ") or name, _points(gathered, name)) for name in members]
        curves = [curve for curve in curves if curve.values]
        chosen = metrics if any(is_metric(gathered, name) for name in members) else others
        for first in range(0, len(curves), CURVES):
            title = TITLES.get(family, (family if len(members) > 1 else members[0]).replace("_", " "))
            about = NOTES.get(family, "") if chosen is metrics else ""
            chosen.append(Chart(title, about, curves[first : first + CURVES], logarithmic=True))
    return metrics, others


def other_names(gathered: RunData) -> list[str]:
    """Names of figures beside those always logged, in the order they came; the spread of another one is left out."""
    ticks = (tick.values for tick in gathered.log.ticks)
    names = {name: None for values in (*ticks, *(v for _, v in gathered.log.measured)) for name in values}
    shown = [name for name in names if name not in HIDDEN]
    return [name for name in shown if not (name.endswith("_std") and name.removesuffix("_std") in names)]


def is_metric(gathered: RunData, name: str) -> bool:
    return name in gathered.log.metrics or _family(name) in METRIC_FAMILIES


def extremes(gathered: RunData, name: str) -> tuple[Point, Point, Point] | None:
    """The last, the lowest and the highest point of a figure; None where it has no value."""
    points = _all_points(gathered, name)
    known = [(x, y) for x, y in points if y is not None]
    if not known:
        return None
    return known[-1], min(known, key=lambda point: point[1]), max(known, key=lambda point: point[1])


def _family(name: str) -> str:
    """`swd_16` and `swd` are of one, `ms_ssim` and `msssim`, too."""
    found = re.match(r"ms_?ssim|[A-Za-z]+", name, re.IGNORECASE)
    return found[0].lower().replace("_", "") if found else name


# what a metric is, by the family of its main figure
NOTES = {_family(spec.figure): f"{spec.summary}; {spec.better} is better" for spec in METRICS if not spec.headline}
# ... and figures that come beside the main ones
METRIC_FAMILIES = frozenset(_family(name) for spec in METRICS for name in (spec.name, spec.figure)) | {
    "recall", "copied", "duplicates", "duplicate",
}  # fmt: skip


def _reference(gathered: RunData, title: str) -> tuple[float, str] | None:
    if title == "Gradient norm" and not gathered.config.loss_options and gathered.config.loss.startswith("wgan"):
        return 1.0, "target 1"
    return (0.0, "") if title in ("Losses", "Scores", "Critic's gap") else None


def _points(gathered: RunData, name: str) -> list[Point]:
    """A name's points, thinned. A tick without it is no gap: some figures are measured now and then."""
    return thinned(_all_points(gathered, name))


def _all_points(gathered: RunData, name: str) -> list[Point]:
    ticks = [(tick.nimg / 1000, tick.values[name]) for tick in gathered.log.ticks if name in tick.values]
    apart = [(nimg / 1000, values[name]) for nimg, values in gathered.log.measured if name in values]
    return sorted([*ticks, *apart], key=lambda point: point[0])


def thinned(points: list[Point], most: int = POINTS) -> list[Point]:
    """At most `most` points: of every stretch the lowest and the highest, so that no peak is lost."""
    if len(points) <= most:
        return points
    kept: list[Point] = []
    stretches = most // 2
    for number in range(stretches):
        part = points[number * len(points) // stretches : (number + 1) * len(points) // stretches]
        known = [(y, x) for x, y in part if y is not None]
        if known:
            ends = {(x, y) for y, x in (min(known), max(known))}
            kept += sorted(ends, key=lambda point: point[0])
        else:
            kept.append((part[0][0], None))
    return kept


def scale(chart: Chart) -> Scale:
    """From the lowest to the highest of nearly all values: a few peaks don't press the rest flat."""
    spans = [_nearly_all(curve.values) for curve in chart.curves]
    low, high = min(span[0] for span in spans), max(span[1] for span in spans)
    least = min(min(curve.values) for curve in chart.curves)
    most = max(max(curve.values) for curve in chart.curves)
    if chart.reference is not None:
        low, high = min(low, chart.reference[0]), max(high, chart.reference[0])
    if chart.logarithmic and least > 0 and high / max(low, 1e-300) > WIDE:
        if math.log(most / least) <= NEAR * math.log(high / low):
            low, high = min(low, least), max(high, most)
        pad = (high / low) ** 0.06
        return _widened(low / pad, high * pad, True, least, most)
    if most - least <= NEAR * (high - low):
        low, high = min(low, least), max(high, most)
    pad = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return _widened(low if low == 0 <= least else low - pad, high + pad, False, least, most)


def _widened(low: float, high: float, logarithmic: bool, least: float, most: float) -> Scale:
    return Scale(low, high, logarithmic, least < low or most > high)


def _nearly_all(values: list[float]) -> tuple[float, float]:
    """Without a fiftieth at each end; the newest value always counts."""
    ordered, cut = sorted(values), max(len(values) // 50, int(len(values) >= SOME))
    return min(ordered[cut], values[-1]), max(ordered[-1 - cut], values[-1])
