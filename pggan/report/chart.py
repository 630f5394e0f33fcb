"""Draws a chart as inline SVG: phases as bands, curves, marks of events, labels at the ends of the curves."""

from __future__ import annotations

import json
import math

from pggan.report.markup import Markup, format_number, join, kimg, tag
from pggan.report.run_data import RunData
from pggan.report.series import Chart, Curve, Point, Scale, scale
from pggan.training.run.log_reader import Event

# Size of the drawing, and the frame of its curves, in units of the SVG.
WIDTH, HEIGHT = 440, 236
LEFT, RIGHT, TOP, BOTTOM = 46, 398, 22, 206
# A curve of at most this many points shows them as dots, too: a line needs two points to be seen.
MAX_DOTS = 40
# Approximate width of a letter, in units of the SVG.
LETTER = 6.2
# Marks of events in a chart (the newest), and characters of their titles; the table of events has the whole.
MAX_MARKS, MAX_TITLE = 60, 80


class Axis:
    """The horizontal axis of all charts: kimg, from 0 to the run's last tick."""

    def __init__(self, run_data: RunData) -> None:
        # metrics may lie a little beyond the last tick
        self.end = max([run_data.nimg, *(nimg for nimg, _ in run_data.log.measured), 1]) / 1000
        self.phases = run_data.schedule.phases
        self.events = [event for event in run_data.log.events if event.nimg / 1000 <= self.end][-MAX_MARKS:]

    def at(self, x: float) -> float:
        """Horizontal position of `x` kimg in the drawing."""
        return LEFT + (RIGHT - LEFT) * min(x / self.end, 1.0)


def draw(chart: Chart, axis: Axis, number: int) -> Markup:
    """Returns a figure: title, legend with the newest values, drawing. `number` makes its ids unique in the page."""
    vertical = scale(chart)
    drawing = tag(
        "svg",
        tag("clipPath", tag("rect", **_box(LEFT, TOP, RIGHT - LEFT, BOTTOM - TOP)), id=f"clip{number}"),
        _bands(axis),
        _grid(axis, vertical),
        _reference(chart, vertical),
        *(_mark(event, axis) for event in axis.events),
        tag("g", *(_curve(c, n, axis, vertical) for n, c in enumerate(chart.curves)), clip_path=f"url(#clip{number})"),
        _ends(chart.curves, vertical),
        tag("line", class_="cross", y1=TOP, y2=BOTTOM, x1=LEFT, x2=LEFT),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=_description(chart, axis),
    )
    note = _note(chart, vertical)
    hint = f"{chart.title}: arrow keys read the values"
    plot = tag("div", drawing, class_="plot", tabindex="0", role="group", aria_label=hint)
    caption = tag("figcaption", tag("h3", chart.title), tag("p", note, class_="note") if note else None)
    return tag("figure", caption, _legend(chart, axis), plot, class_="chart", data_chart=_data(chart, axis))


def _note(chart: Chart, vertical: Scale) -> str:
    parts = [chart.note] if chart.note else []
    if vertical.clipped:
        highest = max(max(curve.values) for curve in chart.curves)
        lowest = min(min(curve.values) for curve in chart.curves)
        parts.append(f"peaks cut off (all: {format_number(lowest)} to {format_number(highest)})")
    if vertical.logarithmic:
        parts.append("log scale")
    return "; ".join(parts)


def _description(chart: Chart, axis: Axis) -> str:
    """The chart in words, for screen readers."""
    ends = ", ".join(f"{curve.label} {format_number(curve.values[-1])}" for curve in chart.curves)
    return f"{chart.title}, 0 to {kimg(axis.end * 1000)} kimg; last: {ends}"


def _data(chart: Chart, axis: Axis) -> str:
    """The points as JSON, for the page's script."""
    curves = [
        {"x": [_short(x) for x, _ in c.points], "y": [None if y is None else _short(y) for _, y in c.points]}
        for c in chart.curves
    ]
    return json.dumps(
        {"end": axis.end, "left": LEFT / WIDTH, "right": RIGHT / WIDTH, "curves": curves}, separators=(",", ":")
    )


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def _legend(chart: Chart, axis: Axis) -> Markup:
    """Names of the curves with their last values, or those under the pointer; a click hides a curve."""
    items = []
    for number, curve in enumerate(chart.curves):
        key = tag(
            "svg",
            tag("line", class_=f"curve s{number}", x1="1", x2="21", y1="6", y2="6"),
            viewBox="0 0 22 12",
            class_="key",
            aria_hidden="true",
        )
        value = tag("b", format_number(curve.values[-1]), class_="value")
        items.append(tag("button", key, curve.label, " ", value, type="button", aria_pressed="true", data_curve=number))
    at = f"at {kimg(axis.end * 1000)} kimg"
    return tag("div", *items, tag("span", at, class_="at"), class_="legend")


def _box(x: float, y: float, width: float, height: float) -> dict[str, str]:
    return {"x": _f(x), "y": _f(y), "width": _f(width), "height": _f(height)}


def _f(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _bands(axis: Axis) -> Markup:
    """Phases as bands, fades darker, with each resolution's name above where there is room."""
    drawn: list[Markup] = []
    spans: dict[int, tuple[float, float]] = {}
    for phase in axis.phases:
        if phase.start / 1000 >= axis.end:
            break
        left, right = axis.at(phase.start / 1000), axis.at(phase.end / 1000)
        if phase is axis.phases[-1]:
            right = RIGHT
        kind = "fade" if phase.fading else "stable"
        title = f"{phase.resolution}x{phase.resolution} {kind}, {kimg(phase.start)} to {kimg(phase.end)} kimg"
        box = _box(left, TOP, max(right - left, 0.1), BOTTOM - TOP)
        drawn.append(tag("rect", tag("title", title), class_=f"band {kind}", **box))
        spans[phase.resolution] = (spans.get(phase.resolution, (left, right))[0], right)
    for resolution, (left, right) in spans.items():
        drawn.append(tag("line", class_="edge", x1=_f(left), x2=_f(left), y1=TOP - 14, y2=BOTTOM))
        names = (f"{resolution}x{resolution}", str(resolution))
        name = next((name for name in names if len(name) * LETTER + 6 <= right - left), None)
        if name:
            drawn.append(tag("text", name, class_="side", x=_f(left + 3), y=TOP - 5))
    return join(*drawn)


def _grid(axis: Axis, vertical: Scale) -> Markup:
    """Horizontal lines, and the numbers of both axes."""
    parts: list[Markup] = []
    for value in _grid_values(vertical):
        y = _f(_y(value, vertical))
        parts.append(tag("line", class_="rung", x1=LEFT, x2=RIGHT, y1=y, y2=y))
        parts.append(tag("text", _tick(value), class_="tick", x=LEFT - 5, y=_f(float(y) + 4), text_anchor="end"))
    for value in _round_values(0, axis.end, 5):
        x = axis.at(value)
        anchor = "end" if x > RIGHT - 14 else "middle"
        parts.append(tag("text", _tick(value), class_="tick", x=_f(x), y=BOTTOM + 15, text_anchor=anchor))
    parts.append(tag("text", "kimg", class_="tick", x=WIDTH - 2, y=BOTTOM + 15, text_anchor="end"))
    return join(*parts)


def _round_values(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers from `low` to `high`: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / count
    if not rough > 0 or not math.isfinite(rough):
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((power * m for m in (1, 2, 5) if power * m >= rough), power * 10)
    first = math.ceil(low / step - 1e-9)
    return [step * n for n in range(first, first + 2 * count + 2) if step * n <= high + step * 1e-9]


def _grid_values(vertical: Scale) -> list[float]:
    """Values of the horizontal lines: round numbers, powers of ten on a logarithmic axis."""
    if not vertical.logarithmic:
        choices = [_round_values(vertical.low, vertical.high, count) for count in (4, 6, 8)]
        return next((values for values in choices if len(values) > 2), choices[-1])
    first, last = math.ceil(math.log10(vertical.low)), math.floor(math.log10(vertical.high))
    if last - first >= 2:
        return [10.0**n for n in range(first, last + 1, -(-(last - first + 1) // 6))]
    around = [m * 10.0**n for n in range(first - 1, last + 2) for m in (1, 3)]
    return [value for value in around if vertical.low <= value <= vertical.high]


def _tick(value: float) -> str:
    size = abs(value)
    if size >= 1e6 or 0 < size < 1e-3:
        text = f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    elif size >= 1e4:
        text = f"{value / 1000:g}k"
    else:
        text = f"{value:.4g}"
    return text.replace("-", "−")


def _y(value: float, vertical: Scale) -> float:
    # bounded: browsers cannot draw a line to a peak that lies very far outside
    return BOTTOM - (BOTTOM - TOP) * max(-20.0, min(20.0, vertical.at(value)))


def _reference(chart: Chart, vertical: Scale) -> Markup | None:
    if chart.reference is None:
        return None
    value, name = chart.reference
    y = _f(_y(value, vertical))
    line = tag("line", class_="reference", x1=LEFT, x2=RIGHT, y1=y, y2=y)
    label = tag("text", name, class_="tick", x=LEFT + 4, y=_f(float(y) - 4)) if name else None
    return join(line, label)


def _mark(event: Event, axis: Axis) -> Markup:
    x = _f(axis.at(event.nimg / 1000))
    title = f"{event.kind} at {kimg(event.nimg)} kimg: {event.text[:MAX_TITLE]}"
    return tag("line", tag("title", title), class_="mark", x1=x, x2=x, y1=TOP, y2=BOTTOM)


def _curve(curve: Curve, number: int, axis: Axis, vertical: Scale) -> Markup:
    lines, dots = [], []
    previous: Point | None = None
    for x, y in curve.points:
        if y is not None:
            at = f"{_f(axis.at(x))} {_f(_y(y, vertical))}"
            lines.append(f"{'L' if previous else 'M'}{at}")
            dots.append(f"M{at}h0")
        previous = None if y is None else (x, y)
    line = tag("path", class_=f"curve s{number}", d="".join(lines))
    marks = tag("path", class_=f"dots s{number}", d="".join(dots)) if len(dots) <= MAX_DOTS else None
    return tag("g", line, marks, data_curve=number)


def _ends(curves: list[Curve], vertical: Scale) -> Markup:
    """Names at the ends of the curves, moved apart where they would overlap."""
    ends = sorted(
        (min(max(_y(curve.values[-1], vertical), TOP + 4.0), float(BOTTOM)), number)
        for number, curve in enumerate(curves)
    )
    labels: list[Markup] = []
    above = TOP - 20.0
    for below, (y, number) in zip(range(len(ends) - 1, -1, -1), ends):
        y = min(max(y, above + 13), BOTTOM - 3 - 13.0 * below)
        above = y
        # a single curve needs no name, so a long one is left out
        text = "" if len(curves) == 1 and len(curves[number].short) > 5 else curves[number].short[:5]
        labels.append(tag("text", text, class_=f"end s{number}", x=RIGHT + 4, y=_f(y + 4), data_curve=number))
    return join(*labels)
