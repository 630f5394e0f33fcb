"""Assembles the report's page and writes the file."""

from __future__ import annotations

import base64
import datetime
import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pggan.report import sections
from pggan.report.chart import Axis, draw
from pggan.report.markup import Markup, join, kimg, tag
from pggan.report.run_data import RunData, read_run_data
from pggan.report.sample_grids import EmbeddedImage, Gallery, Sample, read_gallery
from pggan.report.series import extra_charts, training_charts
from pggan.training.run.directory import RunDirectory
from pggan.utils.atomic_files import replace_atomically
from pggan.utils.errors import UsageError
from pggan.utils.version import __version__

PAGE = "report.html"


@dataclass(frozen=True)
class Report:
    """A page that was written, and what it contains."""

    path: Path
    bytes: int  # of the file
    status: str  # of the run: "finished", "running", ...
    kimg: float  # that the run has seen
    ticks: int  # in the log
    events: int
    grids: int  # sample grids in the page
    damaged_lines: int  # of the log
    unreadable_pictures: int

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "path": str(self.path)}


def write_report(run: Path, out: Path | None = None) -> Report:
    """Writes a run's report, of at most 8 MB, to `out`: by default report.html in the run.

    Raises:
        TrainingError: there is no run, or its options are damaged.
        UsageError: `out` cannot be a page.
        OSError: the file cannot be written.
    """
    run_data = read_run_data(run)
    path = _output_path(run_data.run, out)
    gallery = read_gallery(run_data.run.samples)
    content = page(run_data, gallery).encode("utf-8", "replace")
    replace_atomically(path, lambda temporary: temporary.write_bytes(content))
    log = run_data.log
    return Report(
        path, len(content), sections.status(run_data)[0], run_data.nimg / 1000, log.lines, len(log.events),
        len(gallery.grids), log.damaged, gallery.unreadable,
    )  # fmt: skip


def _output_path(run: RunDirectory, out: Path | None) -> Path:
    """The file to write. Raises `UsageError` for a directory, for a missing one, and for the run's own files."""
    if out is None:
        return run.path / PAGE
    if out.is_dir():
        raise UsageError(f"--out {out} is a directory; give the name of a file, as {out / PAGE}")
    if not out.parent.is_dir():
        raise UsageError(f"--out {out}: there is no directory {out.parent}; make it, or give another place")
    if run.path.resolve() in out.resolve().parents and out.exists() and out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out {out} is a file of the run; give another name, as {run.path / PAGE}")
    return out


def page(run_data: RunData, gallery: Gallery) -> str:
    """Returns the HTML. Its content security policy allows nothing but its own style, script and embedded images."""
    script = Markup(_part("page.js"))
    style = Markup(_part("page.css") + _side_by_side(gallery))
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"{run_data.name}: training report"),
        tag("style", style),
    )
    body = tag("body", _header(run_data), _main(run_data, gallery), _footer(run_data, gallery), tag("script", script))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _part(name: str) -> str:
    return resources.files("pggan.report").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _side_by_side(gallery: Gallery) -> str:
    """CSS that gives generated and real images the same scale: column widths in proportion to tiles."""
    if not gallery.reals:
        return ""
    return f"@media (min-width:48rem){{.pair{{grid-template-columns:{gallery.columns}fr {gallery.real_columns}fr}}}}\n"


def _header(run_data: RunData) -> Markup:
    status, explanation = sections.status(run_data)
    moment = datetime.datetime.now(datetime.timezone.utc).strftime("%d %B %Y, %H:%M UTC")
    recipe = f"preset {run_data.config.preset}, " if run_data.config.preset else ""
    sides = f"{run_data.config.start_res}x{run_data.config.start_res} to {run_data.config.max_res}x"
    summary = f"{recipe}{sides}{run_data.config.max_res}, loss {run_data.config.loss}; as of {moment}"
    always = ("samples", "growth", "curves", "phases", "models", "options", "data", "machine")
    links = ("events", *always) if run_data.log.events else always
    return tag(
        "header",
        tag("h1", run_data.name),
        tag("p", tag("strong", status, class_=f"status {status.replace(' ', '-')}"), " ", explanation),
        tag("p", summary, class_="note"),
        tag("nav", *(tag("a", name, href=f"#{name}") for name in links), aria_label="Sections"),
    )


def _main(run_data: RunData, gallery: Gallery) -> Markup:
    return tag(
        "main",
        sections.strip(run_data),
        sections.summary(run_data),
        sections.events(run_data),
        _section("samples", "Samples", _samples(gallery)),
        _section("growth", "Growth", _growth(gallery)),
        _section("curves", "Curves", _curves(run_data)),
        _section("phases", "Phases", sections.phases(run_data)),
        _section("models", "Models", sections.models(run_data)),
        _section("options", "Options", sections.options(run_data)),
        tag(
            "div",
            _section("data", "Data", sections.data(run_data)),
            _section("machine", "Machine and versions", sections.machine(run_data)),
            class_="two",
        ),
    )


def _section(name: str, title: str, content: Markup) -> Markup:
    return tag("section", tag("h2", title, id=name), content, aria_labelledby=name)


def _image(image: EmbeddedImage, alt: str, **attributes: object) -> Markup:
    return tag("img", src=image.uri, alt=alt, width=image.width, height=image.height, **attributes)


def _samples(gallery: Gallery) -> Markup:
    """The sample grids, as a strip to scroll; the page's script makes it a slider."""
    if not gallery.grids:
        return tag("p", "No sample grids yet: the first comes with the first snapshot.", class_="empty")
    figures = [_grid(sample, image) for sample, image in gallery.grids]
    strip = tag("div", *figures, class_="strip", tabindex="0", role="group", aria_label="Sample grids through time")
    count = f"{len(figures)} of {gallery.total} grids; " if len(figures) < gallery.total else ""
    note = tag("p", f"{count}the same latents at every time, by the running average of G.", class_="note")
    pair = tag("div", strip, _reals(gallery), class_="pair")
    return tag("div", _controls(gallery), pair, note, class_="samples")


def _controls(gallery: Gallery) -> Markup:
    """The slider's controls, hidden until the page's script runs."""
    last_of = {sample.resolution: n for n, (sample, _) in enumerate(gallery.grids)}
    jumps = [
        tag("button", f"{side}x{side}", type="button", data_to=number, aria_label=f"last grid of {side}x{side}")
        for side, number in last_of.items()
    ]
    last = len(gallery.grids) - 1
    return tag(
        "div",
        tag("button", "play", type="button", class_="play", aria_pressed="false"),
        tag("input", type="range", min=0, max=last, value=last, step=1, aria_label="Time"),
        tag("output", _caption(gallery.grids[-1][0]), class_="when"),
        tag("div", *jumps, class_="jumps", role="group", aria_label="Resolutions"),
        class_="controls",
        hidden=True,
    )


def _caption(sample: Sample) -> str:
    return f"{sample.stage}, {kimg(sample.nimg)} kimg"


def _grid(sample: Sample, image: EmbeddedImage) -> Markup:
    caption = _caption(sample)
    return tag(
        "figure",
        _image(image, f"sample grid, {caption}", decoding="async"),
        tag("figcaption", caption),
        data_side=sample.resolution,
    )


def _reals(gallery: Gallery) -> Markup | None:
    """Real images of every resolution. The last one shows; the page's script shows that of the grid beside."""
    if not gallery.reals:
        return None
    last = max(gallery.reals)
    figures = [
        tag(
            "figure",
            _image(image, f"real pictures at {side}x{side}"),
            tag("figcaption", f"real pictures, {side}x{side}"),
            data_side=side,
            hidden=side != last,
        )
        for side, image in gallery.reals.items()
    ]
    return tag("div", *figures, class_="reals")


def _growth(gallery: Gallery) -> Markup:
    """The timelapse; a still for readers who prefer reduced motion."""
    if gallery.timelapse is None or gallery.still is None:
        return tag("p", "The growth shows once there are two sample grids.", class_="empty")
    calm = tag("source", media="(prefers-reduced-motion: reduce)", srcset=gallery.still.uri)
    moving = tag("picture", calm, _image(gallery.timelapse, "the same latents from the first sample grid to the last"))
    stop = tag("button", "stop", type="button", class_="stop", hidden=True)
    still = _image(gallery.still, "the newest pictures of the same latents", hidden=True, class_="still")
    return tag("div", moving, still, stop, class_="growth")


def _curves(run_data: RunData) -> Markup:
    """The charts: of training, of metrics, of other values."""
    axis = Axis(run_data)
    training, (metrics, others) = training_charts(run_data), extra_charts(run_data)
    if not training and not metrics and not others:
        return tag("p", "No curves yet: the log has no lines.", class_="empty")
    drawn = [draw(chart, axis, number) for number, chart in enumerate([*training, *metrics, *others])]
    note = "Bands are phases: dark ones fade a resolution in, light ones train it alone."
    if axis.events:
        note += " Dashed upright lines are events (returns, changed options)."
    first, second = len(training), len(training) + len(metrics)
    more = [
        join(tag("h3", title, class_="group"), listed, tag("div", *part, class_="charts"))
        for title, listed, part in (
            ("Metrics", sections.metrics(run_data), drawn[first:second]),
            ("Other figures", None, drawn[second:]),
        )
        if part
    ]
    return join(tag("p", note, class_="note"), tag("div", *drawn[:first], class_="charts"), *more)


def _footer(run_data: RunData, gallery: Gallery) -> Markup:
    """What the page leaves out, and who wrote it."""
    omitted = []
    if run_data.log.every > 1:
        omitted.append(f"The log is long: one tick in {run_data.log.every} is shown.")
    if run_data.log.torn:
        omitted.append("The log's last line is not whole: it was being written, or the run was cut off.")
    if run_data.log.damaged:
        omitted.append(f"Lines of the log that could not be read: {run_data.log.damaged}.")
    if gallery.unreadable:
        omitted.append(f"Pictures that could not be read: {gallery.unreadable}.")
    return tag("footer", tag("p", " ".join([*omitted, f"Written by pggan {__version__}."])))
