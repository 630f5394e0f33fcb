"""The page as a whole, and the file."""

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
from pggan.report.run_data import RunData, gather
from pggan.report.sample_grids import Gallery, Picture, Sample, gallery
from pggan.report.series import figure_charts, training_charts
from pggan.training.run.directory import RunDirectory
from pggan.utils.atomic_files import replace_atomically
from pggan.utils.errors import UsageError
from pggan.utils.version import __version__

PAGE = "report.html"


@dataclass(frozen=True)
class Report:
    """A page that was written, and what is in it."""

    path: Path
    bytes: int
    status: str
    kimg: float
    ticks: int
    events: int
    grids: int
    damaged_lines: int
    unreadable_pictures: int

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "path": str(self.path)}


def write_report(run: Path, out: Path | None = None) -> Report:
    """Writes a run's report, by default as its report.html.

    Raises `TrainingError` where there is no run, or one of damaged options, `UsageError` where `out` is no place for a
    page, `OSError` where it cannot be written. The page has at most 8 MB.
    """
    gathered = gather(run)
    path = _place(gathered.run, out)
    pictures = gallery(gathered.run.samples)
    content = page(gathered, pictures).encode("utf-8", "replace")
    replace_atomically(path, lambda temporary: _write(temporary, content))
    log = gathered.log
    return Report(
        path, len(content), sections.status(gathered)[0], gathered.nimg / 1000, log.lines, len(log.events),
        len(pictures.grids), log.damaged, pictures.unreadable,
    )  # fmt: skip


def _place(run: RunDirectory, out: Path | None) -> Path:
    """Where the page goes. Raises `UsageError` for a place that is none, and for the run's own files."""
    if out is None:
        return run.path / PAGE
    if out.is_dir():
        raise UsageError(f"--out {out} is a directory; give the name of a file, as {out / PAGE}")
    if not out.parent.is_dir():
        raise UsageError(f"--out {out}: there is no directory {out.parent}; make it, or give another place")
    if run.path.resolve() in out.resolve().parents and out.exists() and out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out {out} is a file of the run; give another name, as {run.path / PAGE}")
    return out


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def page(gathered: RunData, pictures: Gallery) -> str:
    """The HTML. Its policy allows its own style and script, by their digests, and pictures inside it; nothing else."""
    script = Markup(_part("page.js"))
    style = Markup(_part("page.css") + _side_by_side(pictures))
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
        tag("title", f"{gathered.name}: training report"),
        tag("style", style),
    )
    body = tag("body", _header(gathered), _main(gathered, pictures), _footer(gathered, pictures), tag("script", script))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _part(name: str) -> str:
    return resources.files("pggan.report").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _side_by_side(pictures: Gallery) -> str:
    """Columns in proportion to tiles, so that generated and real pictures have one scale."""
    if not pictures.reals:
        return ""
    return (
        f"@media (min-width:48rem){{.pair{{grid-template-columns:{pictures.columns}fr {pictures.real_columns}fr}}}}\n"
    )


def _header(gathered: RunData) -> Markup:
    word, said = sections.status(gathered)
    moment = datetime.datetime.now(datetime.timezone.utc).strftime("%d %B %Y, %H:%M UTC")
    recipe = f"preset {gathered.config.preset}, " if gathered.config.preset else ""
    sides = f"{gathered.config.start_res}x{gathered.config.start_res} to {gathered.config.max_res}x"
    what = f"{recipe}{sides}{gathered.config.max_res}, loss {gathered.config.loss}; as of {moment}"
    always = ("samples", "growth", "curves", "phases", "models", "options", "data", "machine")
    links = ("events", *always) if gathered.log.events else always
    return tag(
        "header",
        tag("h1", gathered.name),
        tag("p", tag("strong", word, class_=f"status {word.replace(' ', '-')}"), " ", said),
        tag("p", what, class_="note"),
        tag("nav", *(tag("a", name, href=f"#{name}") for name in links), aria_label="Sections"),
    )


def _main(gathered: RunData, pictures: Gallery) -> Markup:
    return tag(
        "main",
        sections.strip(gathered),
        sections.summary(gathered),
        sections.events(gathered),
        _section("samples", "Samples", _samples(pictures)),
        _section("growth", "Growth", _growth(pictures)),
        _section("curves", "Curves", _curves(gathered)),
        _section("phases", "Phases", sections.phases(gathered)),
        _section("models", "Models", sections.models(gathered)),
        _section("options", "Options", sections.options(gathered)),
        tag(
            "div",
            _section("data", "Data", sections.data(gathered)),
            _section("machine", "Machine and versions", sections.machine(gathered)),
            class_="two",
        ),
    )


def _section(name: str, title: str, content: Markup) -> Markup:
    return tag("section", tag("h2", title, id=name), content, aria_labelledby=name)


def _image(picture: Picture, alt: str, **attributes: object) -> Markup:
    return tag("img", src=picture.uri, alt=alt, width=picture.width, height=picture.height, **attributes)


def _samples(pictures: Gallery) -> Markup:
    """The grids in a strip to scroll; the script makes it a slider."""
    if not pictures.grids:
        return tag("p", "No sample grids yet: the first comes with the first snapshot.", class_="empty")
    figures = [_grid(sample, picture) for sample, picture in pictures.grids]
    first_of = {sample.resolution: n for n, (sample, _) in enumerate(pictures.grids)}  # the last one of each, in fact
    jumps = [
        tag("button", f"{side}x{side}", type="button", data_to=number, aria_label=f"last grid of {side}x{side}")
        for side, number in first_of.items()
    ]
    last = len(figures) - 1
    controls = tag(
        "div",
        tag("button", "play", type="button", class_="play", aria_pressed="false"),
        tag("input", type="range", min=0, max=last, value=last, step=1, aria_label="Time"),
        tag("output", _caption(pictures.grids[-1][0]), class_="when"),
        tag("div", *jumps, class_="jumps", role="group", aria_label="Resolutions"),
        class_="controls",
        hidden=True,
    )
    strip = tag("div", *figures, class_="strip", tabindex="0", role="group", aria_label="Sample grids through time")
    of_all = f"{len(figures)} of {pictures.found} grids; " if len(figures) < pictures.found else ""
    note = tag("p", f"{of_all}the same latents at every time, by the running average of G.", class_="note")
    return tag("div", controls, tag("div", strip, _reals(pictures), class_="pair"), note, class_="samples")


def _caption(sample: Sample) -> str:
    return f"{sample.stage}, {kimg(sample.nimg)} kimg"


def _grid(sample: Sample, picture: Picture) -> Markup:
    said = _caption(sample)
    return tag(
        "figure",
        _image(picture, f"sample grid, {said}", decoding="async"),
        tag("figcaption", said),
        data_side=sample.resolution,
    )


def _reals(pictures: Gallery) -> Markup | None:
    """Real pictures of each resolution; the newest is shown, and the script shows that of the grid beside."""
    if not pictures.reals:
        return None
    last = max(pictures.reals)
    figures = [
        tag(
            "figure",
            _image(picture, f"real pictures at {side}x{side}"),
            tag("figcaption", f"real pictures, {side}x{side}"),
            data_side=side,
            hidden=side != last,
        )
        for side, picture in pictures.reals.items()
    ]
    return tag("div", *figures, class_="reals")


def _growth(pictures: Gallery) -> Markup:
    if pictures.lapse is None or pictures.still is None:
        return tag("p", "The growth shows once there are two sample grids.", class_="empty")
    calm = tag("source", media="(prefers-reduced-motion: reduce)", srcset=pictures.still.uri)
    moving = tag("picture", calm, _image(pictures.lapse, "the same latents from the first sample grid to the last"))
    stop = tag("button", "stop", type="button", class_="stop", hidden=True)
    still = _image(pictures.still, "the newest pictures of the same latents", hidden=True, class_="still")
    return tag("div", moving, still, stop, class_="growth")


def _curves(gathered: RunData) -> Markup:
    axis = Axis(gathered)
    known, (measured, others) = training_charts(gathered), figure_charts(gathered)
    if not known and not measured and not others:
        return tag("p", "No curves yet: the log has no lines.", class_="empty")
    drawn = [draw(chart, axis, number) for number, chart in enumerate([*known, *measured, *others])]
    note = "Bands are phases: dark ones fade a resolution in, light ones train it alone."
    if axis.events:
        note += " Dashed upright lines are events (returns, changed options)."
    figures = tag("div", *drawn[: len(known)], class_="charts")
    more = [
        join(tag("h3", title, class_="group"), listed, tag("div", *part, class_="charts"))
        for title, listed, part in (
            ("Metrics", sections.metrics(gathered), drawn[len(known) : len(known) + len(measured)]),
            ("Other figures", None, drawn[len(known) + len(measured) :]),
        )
        if part
    ]
    return join(tag("p", note, class_="note"), figures, *more)


def _footer(gathered: RunData, pictures: Gallery) -> Markup:
    lost = []
    if gathered.log.every > 1:
        lost.append(f"The log is long: one tick in {gathered.log.every} is shown.")
    if gathered.log.torn:
        lost.append("The log's last line is not whole: it was being written, or the run was cut off.")
    if gathered.log.damaged:
        lost.append(f"Lines of the log that could not be read: {gathered.log.damaged}.")
    if pictures.unreadable:
        lost.append(f"Pictures that could not be read: {pictures.unreadable}.")
    return tag("footer", tag("p", " ".join([*lost, f"Written by pggan {__version__}."])))
