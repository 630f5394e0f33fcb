"""The library's functions `prepare`, `train`, `evaluate` and `report`, which the commands call, too (torch-free).

Progress goes to `on_progress(work, done, total)`: the name of a piece of work, units done and units in all (0: not
known). `done` is 0 when it begins, and `total` when it is over. Without a callback, notebooks show a line that changes
in place, and other programs nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pggan.notebook import notebook_progress, open_notebook_display
from pggan.utils.errors import UsageError
from pggan.utils.formatting import nearest_name

if TYPE_CHECKING:
    from pggan.config.schedule import Schedule
    from pggan.data.photos.typical import Features
    from pggan.data.prepare.prepare import Plan, PrepareOptions, PrepareReport
    from pggan.generation.model import Model
    from pggan.model_evaluation import Evaluation
    from pggan.report.page import Report
    from pggan.training.loop import RunResult
    from pggan.training.monitor.display import Display
    from pggan.training.train_run import OnNote, OnProgress, OpenDisplay

OnTick = Callable[[Mapping[str, Any]], None]


def prepare(
    source: str | Path,
    dest: str | Path,
    options: PrepareOptions | None = None,
    *,
    on_progress: OnProgress | None = None,
    on_plan: Callable[[Plan], None] | None = None,
    **changes: Any,
) -> PrepareReport:
    """Makes a store of all resolutions from pictures, as `pggan prepare-data` does.

    A call that was interrupted leaves `dest`.partial; the same call goes on there.

    Args:
        source: A folder, an archive, a table, ... or `drawn:COUNT`: see `pggan prepare-data --help`.
        dest: Directory of the new store, which appears when it is complete.
        options: How; None: the defaults.
        on_progress: See the module. The work is called "preparing", and "looking for faces" before that with
            `align="auto"`; the units are pictures.
        on_plan: Receives the estimate of size and time.
        **changes: Fields of `PrepareOptions` that differ from `options`, such as `max_res=64, fit="pad"`.

    Returns:
        How many pictures, which were left out and why, sizes and labels.

    Raises:
        DataError: The source has no usable pictures, or the disk is too small.
        UsageError: A field is unknown or wrong, or `dest` exists.
    """
    from pggan.data.prepare import prepare as room

    names = [field.name for field in dataclasses.fields(room.PrepareOptions)]
    for name in changes.keys() - set(names):
        raise UsageError(f"prepare has no option {name!r}{nearest_name(name, names)}")
    checked = dataclasses.replace(options or room.PrepareOptions(), **changes)
    work, faces = (_Work(name, on_progress or notebook_progress()) for name in ("preparing", "looking for faces"))
    on_faces = room.FaceProgress(faces.start, faces.advance)
    features = typical_features(checked)
    return room.prepare(str(source), dest, checked, work.start, work.advance, on_plan, on_faces, features)


def typical_features(options: PrepareOptions) -> Features | None:
    """Returns the feature network for `keep_typical`; None where it is not needed, or its extra is missing."""
    if options.keep_typical == 1:
        return None
    from pggan.metrics.efficientnet import single_image_features

    return single_image_features()


def train(
    data: str | Path | None = None,
    out: str | Path | None = None,
    *,
    resume: str | Path | None = None,
    override: bool = False,
    on_progress: OnProgress | None = None,
    on_tick: OnTick | None = None,
    on_note: OnNote | None = None,
    open_display: OpenDisplay | None = None,
    track: str | None = None,
    on_snapshot: str | None = None,
    **options: Any,
) -> RunResult:
    """Trains a generator and a discriminator, or goes on with a run, as `pggan train` does.

    In the main thread Ctrl-C, or a notebook's "interrupt", saves the run and returns; `train(resume=...)` goes on.

    Args:
        data: A store that `prepare` made; None: faces are drawn first. With `resume`: where the data has moved to.
        out: The run's directory; None: the next runs/NNN.
        resume: A run to go on with, in its own directory.
        override: With `resume`, accept options that change the result.
        on_progress: See the module. The work is "training", the units are images seen.
        on_tick: Receives every line of the log, such as `{"kimg": 12.0, "d_loss": ...}`.
        on_note: Receives what a person should read: a summary, advice, figures of evaluations.
        open_display: Opens a `Display` for a run's schedule, in place of the three callbacks.
        track: "wandb" or "trackio": where figures and sample grids are sent, too.
        on_snapshot: Command that is run with the path of every new model.
        **options: Those of `pggan train` with "_" for "-" (`start_from`: `--from`), as `batch={4: 64, 8: 32}`.

    Returns:
        The run's directory, images seen, the last line of the log, and the signal that stopped it, if one did.

    Raises:
        UsageError: An option is unknown or wrong, or `out` holds a run.
        DataError, TrainingError: The data lacks what the options ask for, or the run cannot be trained or resumed.
    """
    from pggan.training import train_run
    from pggan.training.run.call_options import call_options

    chosen, call = train_run.collect_options(options), call_options(track, on_snapshot)
    open_display = open_display or _open_display(on_progress, on_tick, on_note)
    _check_resumption(resume is not None, out is not None, override)
    if resume is not None:
        return train_run.resume_run(Path(resume), data, chosen, override, open_display, call)
    config = train_run.configure_run(chosen, data)
    progress, note = on_progress or notebook_progress() or _silent, on_note or (lambda message: None)
    return train_run.start_run(config, Path(out or train_run.next_run()), open_display, progress, note, call)


def _check_resumption(resumes: bool, names_out: bool, override: bool) -> None:
    """Raises `UsageError` for options that a new run, or one that resumes, does not take."""
    if resumes and names_out:
        raise UsageError("a resumed run goes on in its own directory; leave out `out`, or `resume`")
    if override and not resumes:
        raise UsageError("override is about a resumed run; leave it out")


def evaluate(
    model: Model | str | Path | None,
    data: str | Path,
    metrics: str | Sequence[str] = "swd,msssim,neighbours",
    *,
    on_progress: OnProgress | None = None,
    **options: Any,
) -> Evaluation:
    """Measures how good and how varied generated pictures are, as `pggan evaluate` does.

    Statistics of the real pictures are computed once and kept beside the data.

    Args:
        model: A loaded model, a model file, a run directory, a shipped model's name, or a folder of pictures; None:
            the model that ships first.
        data: The real pictures: a store, or anything that `prepare` reads.
        metrics: Names, as a list or with commas between them.
        on_progress: See the module. The units are pictures.
        **options: Fields of `EvaluateOptions`, such as `count=1000, best=True, device="cpu"`.

    Returns:
        Figures by name, and of how many pictures they are.

    Raises:
        UsageError: An option is unknown or wrong, or the pictures differ in size.
        ModelError: The model cannot be read.
        DataError: The pictures cannot be read.
    """
    from functools import partial

    from pggan.model_evaluation import evaluate_options, run_evaluation

    checked = evaluate_options(metrics, **options)
    return run_evaluation(model, data, checked, partial(open_work, on_progress or notebook_progress() or _silent))


def report(run: str | Path, out: str | Path | None = None) -> Report:
    """Writes a run as one HTML page with curves and samples, as `pggan report` does.

    Args:
        run: The run's directory; it may be unfinished.
        out: The file; None: report.html in the run.

    Returns:
        The file, and what is in it.

    Raises:
        TrainingError: There is no run, or its options are damaged.
        UsageError: `out` cannot be a page.
    """
    from pggan.report.page import write_report

    return write_report(Path(run), None if out is None else Path(out))


class _Work:
    """Counts units of one piece of work for `on_progress`."""

    def __init__(self, name: str, on_progress: OnProgress | None) -> None:
        self.name, self.done, self.total = name, 0, 0
        self._on_progress = on_progress or _silent

    def start(self, total: int) -> None:
        self.total = total
        self._on_progress(self.name, 0, total)

    def advance(self, count: int) -> None:
        self.done += count
        self._on_progress(self.name, self.done, self.total)


@contextmanager
def open_work(on_progress: OnProgress, name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yields a function that counts units of a piece of work for `on_progress`."""
    work = _Work(name, on_progress)
    work.start(total)
    yield work.advance


def _silent(work: str, done: int, total: int) -> None:
    """Shows no progress."""


def _open_display(on_progress: OnProgress | None, on_tick: OnTick | None, on_note: OnNote | None) -> OpenDisplay:
    """Returns what opens a display that calls the callbacks; in a notebook without any, one that shows itself."""

    @contextmanager
    def open_display(schedule: Schedule) -> Iterator[Display]:
        from pggan.training.monitor.display import CallbackDisplay, Display
        from pggan.training.train_run import is_main_process

        if not is_main_process():
            yield Display()
        elif on_progress is on_tick is on_note is None and (display := open_notebook_display(schedule)) is not None:
            yield display
        else:
            yield CallbackDisplay(schedule, on_progress, on_tick, on_note)

    return open_display
