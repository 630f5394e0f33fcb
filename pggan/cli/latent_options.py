"""Options about kept latents and tuned weights that several commands share. Torch-free."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloup

from pggan.cli.options import Command, FilePath, ModelChoice, NumberRange, ParsedType
from pggan.utils.errors import UsageError

if TYPE_CHECKING:
    from pggan.editing.task import Task
    from pggan.generation.model import Model

CONSENT = "of photographs of people: ask them before you project, keep or show what comes of it"


@dataclass(frozen=True)
class LatentChoice:
    """The options of the group "Latents"."""

    files: tuple[Path, ...]  # of latents, or PNGs that pggan made
    tuned: Path | None  # weights
    force: bool  # of another model, too

    def tune(self, model: Model) -> Model:
        """Returns the model with the tuned weights, if any are given."""
        if self.tuned is None:
            return model
        from pggan.editing.projection.tuning import read_tuned

        return read_tuned(self.tuned, model).apply(model, self.force)

    def load(self, choice: ModelChoice, **options: Any) -> Model:
        """Loads a model as `ModelChoice.load` does, with the tuned weights."""
        return self.tune(choice.load(**options))


def latent_options(function: Command) -> Command:
    """Adds the group "Latents"; the command receives it as `saved`, a `LatentChoice`."""

    @functools.wraps(function)
    def command(*, latents: tuple[Path, ...], tuned: Path | None, force: bool, **others: Any) -> Any:
        return function(saved=LatentChoice(latents, tuned, force), **others)

    return cloup.option_group(
        "Latents",
        cloup.option(
            "--latents", multiple=True, type=FilePath(path_type=Path), metavar="FILE", show_default="seeds",
            help="Latents of a file, or of a PNG that pggan made. Repeat for further files.",
        ),
        cloup.option(
            "--tuned", type=FilePath(path_type=Path), metavar="FILE", show_default="the model as it is",
            help="Weights that pggan project --tune has tuned.",
        ),
        cloup.option("--force", is_flag=True, help="Take latents and weights of another model where the sizes agree."),
    )(command)  # fmt: skip


@dataclass(frozen=True)
class Reach:
    """The options `--degrees` and `--spreads`: how far latents are moved at most."""

    degrees: float | None
    spreads: float | None

    def amount(self, model: Model) -> float:
        """Returns the largest move in the unit of the model's latents. Raises `UsageError` for the other unit."""
        from pggan.editing.direction_views import AMOUNTS
        from pggan.editing.latent_space import space_of

        space = space_of(model)
        amount, other = (self.degrees, self.spreads) if space == "z" else (self.spreads, self.degrees)
        if other is not None:
            has, own = ("no", "degrees") if space == "z" else ("a", "spreads")
            raise UsageError(f"{model.name} has {has} mapping network: its latents are moved by --{own}, give that")
        return AMOUNTS[space] if amount is None else amount


def reach_options(function: Command) -> Command:
    """Adds `--degrees` and `--spreads` to a group; the command makes a `Reach` of `degrees` and `spreads`."""
    for option in (
        cloup.option(
            "--spreads", type=NumberRange(0.01, 20), metavar="X", show_default="3",
            help="The same for a model with a mapping network, in standard deviations of w along the direction.",
        ),
        cloup.option(
            "--degrees", type=NumberRange(0.1, 180), metavar="X", show_default="40",
            help="Latents are turned from minus this to this.",
        ),
    ):  # fmt: skip
        option(function)
    return function


def _side(text: str) -> int:
    match = re.fullmatch(r"(\d{1,4})(?:[xX](\d{1,4}))?", text.strip())
    if match is None or (match[2] or match[1]) != match[1]:
        raise ValueError(f"{text!r} is no resolution, as 32x32")
    return int(match[1])


def _side_share(text: str) -> tuple[int, float]:
    side, _, share = text.partition("=")
    try:
        return _side(side), float(share)
    except ValueError:
        raise ValueError(f"{text!r} is no resolution and share, as 32x32=0.5") from None


# `32x32` or `32`: the side of a resolution
SIDE = ParsedType("RxR", _side)
# `32x32=0.5`
SIDE_SHARE = ParsedType("RxR=SHARE", _side_share)


def check_ending(option: str, path: Path | None, ending: str, what: str) -> None:
    """Raises `UsageError` for the name of a file whose ending would lie about what is in it."""
    if path is not None and path.suffix.lower() != ending:
        raise UsageError(f"{option} {path}: {what} is a {ending} file")


def check_new(paths: list[Path], overwrite: bool, inputs: Sequence[Path | None] = ()) -> None:
    """Raises `UsageError` where a file to be written exists, unless it may be replaced; or cannot be written there.

    One of the files that the command reads (`inputs`) is never replaced.
    """
    from pggan.data.store.staging import check_place

    read = {path.resolve() for path in inputs if path is not None}
    for path in paths:
        check_place(path, str(path))
        if path.resolve() in read:
            raise UsageError(f"{path} is read, too, and would be lost; give another name to the file to write")
        if path.is_dir():
            raise UsageError(f"{path} is a folder; give a file name")
        if path.exists() and not overwrite:
            raise UsageError(f"{path} exists already; give another name, or --overwrite to replace it")
    if len({path.resolve() for path in paths}) < len(paths):
        raise UsageError("two of the files to write have the same name; give them different ones")


def task_of(advance: Callable[[int], None]) -> Task:
    """Returns a task that shows its progress by `advance`."""
    from pggan.editing.task import Task

    return Task(advance)
