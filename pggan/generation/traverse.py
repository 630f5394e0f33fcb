"""Traversals: what each structured code (InfoGAN) or label does, one a row, with the noise and all others fixed."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.config.content.channels import WHITE, Colour
from pggan.generation.grid import Grid, Images
from pggan.generation.images import describe, make_folder, write_png
from pggan.generation.labels import LabelSpace
from pggan.generation.model import Model
from pggan.generation.video import Advance, write_grid_video
from pggan.networks.latents import TRAVERSE_REACH, TRAVERSE_STEPS, CodeSpace
from pggan.utils.errors import UsageError

Codes = NDArray[np.float32]


@dataclass(frozen=True)
class TraverseOptions:
    """Which codes or labels pass through which values."""

    codes: tuple[int, ...] = ()  # numbers of the codes; empty: all, unless there are `labels`
    seeds: tuple[int, ...] = (0,)  # whose noise and other codes are shown
    # values of a continuous code or a number in a grid; a categorical code or a label has all its own
    steps: int = TRAVERSE_STEPS
    reach: float = TRAVERSE_REACH  # continuous codes go from -reach to reach
    labels: tuple[str, ...] = ()  # label columns that change, instead of codes
    label: str | None = None  # labels that are held, as `Model.generate` takes them; the others are each seed's own

    def tracks(self, model: Model) -> list[Track]:
        """Returns what changes, row by row. Raises `UsageError` for a code or label that the model lacks."""
        if not self.labels:
            return [CodeTrack(self, model.codes, number) for number in self.codes_of(model.codes)]
        if self.codes:
            raise UsageError("codes and labels are traversed one at a time; give one of them")
        names = [column.name for column in model.labels.columns]
        held = [part.partition("=")[0].strip() for part in str(self.label or "").split(",")]
        for name in self.labels:
            if self.labels.count(name) > 1 or name in held:
                raise UsageError(f"the label {name} is there twice; each changes, or is held at one value")
            if name not in names:
                raise UsageError(f"this model has no label {name!r}; it has: {', '.join(names) or 'none'}")
        return [LabelTrack(model.labels, names.index(name), self.steps) for name in self.labels]

    def codes_of(self, space: CodeSpace) -> list[int]:
        """Returns the numbers of the codes. Raises `UsageError` for a model without codes, or without these."""
        if not space.count:
            raise UsageError("this model has no structured codes; train one with --categorical or --continuous")
        if len(set(self.codes)) < len(self.codes):
            raise UsageError("a code is there twice; each is a row of its own")
        for number in self.codes:
            if not 0 <= number < space.count:
                raise UsageError(f"this model has codes 0 to {space.count - 1}, not a code {number}")
        return list(self.codes) or list(range(space.count))

    def values(self, space: CodeSpace, number: int) -> list[float]:
        """Returns the values of a code in a grid, from left to right."""
        if number < len(space.categorical):
            return [float(value) for value in range(space.categorical[number])]
        return [float(value) for value in np.linspace(-self.reach, self.reach, self.steps)]

    def set_at(self, space: CodeSpace, rows: Codes, number: int, time: float) -> None:
        """Sets a code in rows (N, size) to its value at a time of the loop, 0 to below 1.

        A continuous code goes there and back by a cosine. A categorical one passes through its values: each stays for
        two thirds of its time, then blends into the next one.
        """
        if number >= len(space.categorical):
            space.set_code(rows, number, -self.reach * math.cos(2 * math.pi * time))
            return
        first = sum(space.categorical[:number])
        values = list(range(space.categorical[number]))
        _blend_in_turn(rows[:, first : first + len(values)], values, time)


def _blend_in_turn(rows: Codes, values: Sequence[int], time: float) -> None:
    """Sets one-hot rows (N, K) to the value of a time, 0 to below 1: each for two thirds of its share, then blended."""
    at, elapsed = divmod(time * len(values), 1)
    next_weight = max(0.0, 3 * elapsed - 2)
    rows[:] = 0
    rows[:, values[int(at)]] = 1 - next_weight
    rows[:, values[(int(at) + 1) % len(values)]] += next_weight


class Track(ABC):
    """What changes along a row."""

    name: str
    values: Sequence[float | str]  # in a grid, from left to right
    is_number: bool  # not one of a few classes

    @abstractmethod
    def set_value(self, codes: Codes, labels: Codes | None, place: int) -> None:
        """Sets rows of codes (N, codes.size) and label vectors (N, label_size) to the value at a place of the grid."""

    @abstractmethod
    def set_at(self, codes: Codes, labels: Codes | None, time: float) -> None:
        """Sets them to the value at a time of the loop, 0 to below 1."""


class CodeTrack(Track):
    """A structured code."""

    def __init__(self, options: TraverseOptions, space: CodeSpace, number: int) -> None:
        self.name, self.number, self._options, self._space = str(number), number, options, space
        self.values: list[float] = options.values(space, number)
        self.is_number = number >= len(space.categorical)

    def set_value(self, codes: Codes, labels: Codes | None, place: int) -> None:
        self._space.set_code(codes, self.number, self.values[place])

    def set_at(self, codes: Codes, labels: Codes | None, time: float) -> None:
        self._options.set_at(self._space, codes, self.number, time)


class LabelTrack(Track):
    """A label column: a number goes from its lowest value to its highest, classes come one after the other."""

    def __init__(self, space: LabelSpace, at: int, steps: int) -> None:
        self._column, self.entries = space.columns[at], space.spread(at, steps)
        self.name, self.values = self._column.name, [self._column.text(entry) for entry in self.entries]
        first = sum(space.widths[:at])
        self._part = slice(first, first + self._column.width)
        self.is_number = self._column.is_number

    def set_value(self, codes: Codes, labels: Codes | None, place: int) -> None:
        assert labels is not None, "a model with labels"
        labels[:, self._part] = self._column.vectors(np.array([self.entries[place]]))

    def set_at(self, codes: Codes, labels: Codes | None, time: float) -> None:
        assert labels is not None, "a model with labels"
        if self._column.is_number:
            labels[:, self._part] = -math.cos(2 * math.pi * time)
        else:
            _blend_in_turn(labels[:, self._part], self.entries, time)


def traverse_grid(
    model: Model, out: str | Path, options: TraverseOptions, advance: Advance = lambda rows: None
) -> dict[str, Any]:
    """Writes a PNG with a row for each code or label and seed, the values from left to right.

    Args:
        model: A model with structured codes or labels.
        out: The PNG.
        options: Codes or labels, seeds and values.
        advance: Is called with the number of rows since the last call.

    Returns:
        File, codes, labels, rows, columns and resolution.

    Raises:
        UsageError: The model lacks the codes or labels, or the grid is too large.
    """
    path, tracks = Path(out), options.tracks(model)
    columns, rows = max(len(track.values) for track in tracks), len(tracks) * len(options.seeds)
    canvas = Grid(columns, rows, model.resolution, model.channels)
    make_folder(path.parent)
    side = model.resolution
    for track in tracks:
        for seed in options.seeds:
            seeds = [seed] * len(track.values)
            latents, labels = model.seed_latents(seeds), model.seed_labels(seeds, options.label)
            for row in range(len(seeds)):
                own = slice(row, row + 1)
                track.set_value(latents[own, model.latent_size :], None if labels is None else labels[own], row)
            canvas.add(model.images_in_batches(latents, labels))
            canvas.add(np.zeros((columns - len(latents), side, side, model.channels), np.uint8))
            advance(1)
    traversed = {track.name: list(track.values) for track in tracks}
    write_png(path, canvas.image, {"traversed": traversed, "seeds": list(options.seeds), **describe(model)})
    return {"file": str(path), **_named(options, tracks), "rows": rows, "columns": columns, "resolution": side}


def _named(options: TraverseOptions, tracks: Sequence[Track]) -> dict[str, Any]:
    """Returns the codes, or the labels, that were traversed."""
    codes = [track.number for track in tracks if isinstance(track, CodeTrack)]
    return {"codes": codes, **({"labels": list(options.labels)} if options.labels else {})}


def traverse_video(
    model: Model,
    out: str | Path,
    options: TraverseOptions,
    seconds: float,
    fps: float,
    scale: int | None = None,
    background: Colour = WHITE,
    advance: Advance = lambda frames: None,
) -> dict[str, Any]:
    """Writes a looping video with a row for each code or label, a column for each seed; each passes through its values.

    Args:
        model: A model with structured codes or labels.
        out: File ending in .mp4, .gif or .webp.
        options: Codes or labels, and seeds.
        seconds: Length.
        fps: Frames a second.
        scale: Enlargement; None: to 256 pixels a side at least.
        background: Colour behind RGBA pictures.
        advance: Is called with the number of frames since the last call.

    Returns:
        File, codes, labels, frames, width, height, fps and seconds.

    Raises:
        UsageError: The model lacks the codes or labels, or see `video.write_video`.
    """
    tracks = options.tracks(model)
    frames = _video_frames(model, options, tracks, max(2, round(seconds * fps)), advance)
    grid = (len(options.seeds), len(tracks))
    written = write_grid_video(out, frames, grid, model.resolution, scale, fps, background)
    return {"file": str(out), **_named(options, tracks), **written}


def _video_frames(
    model: Model, options: TraverseOptions, tracks: Sequence[Track], count: int, advance: Advance
) -> Iterator[Images]:
    """Yields the images of each frame, a row for each code or label."""
    columns, rows = len(options.seeds), len(tracks)
    seeds = list(options.seeds) * rows
    base, base_labels = model.seed_latents(seeds), model.seed_labels(seeds, options.label)
    for frame in range(count):
        latents, labels = base.copy(), None if base_labels is None else base_labels.copy()
        for row, track in enumerate(tracks):
            own = slice(row * columns, (row + 1) * columns)
            track.set_at(latents[own, model.latent_size :], None if labels is None else labels[own], frame / count)
        yield model.images_in_batches(latents, labels)
        advance(1)
