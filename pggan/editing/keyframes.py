"""Videos through kept latents: keyframes with seconds and easing, joined by arcs or a spline on the sphere.

A keyframes file is JSON: `{"format": 1, "keyframes": [...], "easing": "smooth", "path": "spline", "loop": true}`. A
keyframe is `{"seed": 7}` or `{"latents": "found.safetensors", "name": "me"}` (a file beside it, or a PNG that pggan
made; `name`, where it holds several), with `"seconds"`: how long the way to the next keyframe takes, 1 by default, and
optionally `"label"` and an `"easing"` of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.config.content.channels import WHITE, Colour
from pggan.editing.latent_sources import read_latents
from pggan.editing.latents_file import LatentSet, check_small_file
from pggan.editing.sphere import unit
from pggan.editing.task import UNWATCHED, Task
from pggan.generation.grid import Images
from pggan.generation.latent_walks import slerp
from pggan.generation.model import Model
from pggan.generation.seeds import check_seeds
from pggan.generation.video import write_grid_video
from pggan.utils.errors import DataError, UsageError
from pggan.utils.limits import MAX_LATENTS, MAX_LIST_BYTES
from pggan.utils.untrusted import reading

FORMAT = 1
_FILE_NAMES = frozenset({"format", "keyframes", "easing", "path", "loop"})
_ENTRY_NAMES = frozenset({"seed", "label", "latents", "name", "seconds", "easing"})
MAX_SECONDS = 86400.0
# Progress along the way from a keyframe to the next, both 0 to 1.
EASINGS: dict[str, Callable[[float], float]] = {
    "linear": lambda t: t,
    "smooth": lambda t: t * t * (3 - 2 * t),
    "in": lambda t: t * t,
    "out": lambda t: t * (2 - t),
    "hold": lambda t: 0.0,
}
PATHS = ("slerp", "spline")


@dataclass(frozen=True)
class Keyframes:
    """A way through latents.

    Raises `UsageError` for fewer than two of them, or times, easings or paths that do not exist.
    """

    latents: LatentSet
    seconds: tuple[float, ...]  # of the way from each keyframe to the next; the last one's counts in a loop
    easings: tuple[str, ...]  # of each way
    path: str = "slerp"
    loop: bool = True

    def __post_init__(self) -> None:
        count = len(self.latents)
        if not 2 <= count <= MAX_LATENTS or not (count == len(self.seconds) == len(self.easings)):
            raise UsageError(f"a way needs two keyframes at least, with a time and an easing each; there are {count}")
        if not all(0 <= seconds <= MAX_SECONDS for seconds in self.seconds) or not self.length > 0:
            raise UsageError(f"seconds of keyframes have to be from 0 to {MAX_SECONDS:g}, and not all of them 0")
        for easing in self.easings:
            if easing not in EASINGS:
                raise UsageError(f"unknown easing {easing!r}; choose one of: {', '.join(EASINGS)}")
        if self.path not in PATHS:
            raise UsageError(f"unknown path {self.path!r}; choose one of: {', '.join(PATHS)}")

    @classmethod
    def evenly(
        cls, latents: LatentSet, seconds: float, loop: bool = True, path: str = "slerp", easing: str = "linear"
    ) -> Keyframes:
        """Makes keyframes of latents at even distances in `seconds` in all."""
        ways = max(1, len(latents) if loop else len(latents) - 1)
        return cls(latents, (seconds / ways,) * len(latents), (easing,) * len(latents), path, loop)

    @property
    def length(self) -> float:
        """Seconds in all."""
        return float(sum(self.seconds if self.loop else self.seconds[:-1]))

    def frames(self, fps: float) -> int:
        return max(2, round(self.length * fps))

    def position(self, frame: int, fps: float) -> tuple[int, float]:
        """Returns the keyframe before a frame, and the eased share of the way to the next, 0 to 1."""
        count = self.frames(fps)
        # without a loop the last frame is the last keyframe; with one, the frame after the last is the first
        time = self.length * frame / (count if self.loop else max(1, count - 1))
        ways = len(self.seconds) if self.loop else len(self.seconds) - 1
        for way in range(ways):
            if time < self.seconds[way]:
                return way, EASINGS[self.easings[way]](time / self.seconds[way])
            time -= self.seconds[way]
        return (0, 0.0) if self.loop else (len(self.seconds) - 1, 0.0)

    def at(self, frame: int, fps: float) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Returns latents and codes (1, Z + codes) of a frame, and its labels (1, L) or None.

        Latents go along the path, labels, codes and latents w change linearly (w along a spline, too).
        """
        first, share = self.position(frame, fps)
        second = self._neighbour(first, 1)
        linear = {
            name: (1 - share) * values[[first]] + share * values[[second]]
            for name, values in self.latents.tensors().items()
        }
        rest = {name: values for name, values in linear.items() if name != self.latents.space}
        if self.path == "spline":
            z = self._spline(first, share)
        else:
            z = linear["w"] if self.latents.space == "w" else self._arc(first, second, share)
        inputs = np.concatenate([z, rest["codes"]], axis=1) if "codes" in rest else z
        labels = rest.get("labels")
        return np.asarray(inputs, np.float32), None if labels is None else np.asarray(labels, np.float32)

    def _neighbour(self, number: int, steps: int) -> int:
        count = len(self.latents)
        return (number + steps) % count if self.loop else min(max(number + steps, 0), count - 1)

    def _arc(self, first: int, second: int, share: float) -> NDArray[np.float64]:
        return slerp(self.latents.z[[first]], self.latents.z[[second]], share)

    def _spline(self, first: int, share: float) -> NDArray[np.float64]:
        """Catmull-Rom through the keyframes' directions and lengths, put back on the sphere: smooth at keyframes."""
        z = self.latents.z[[self._neighbour(first, step) for step in (-1, 0, 1, 2)]].astype(np.float64)
        t = share
        weights = np.array([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3]) / 2
        if self.latents.space == "w":
            return np.asarray(weights @ z)[None]
        lengths = np.linalg.norm(z, axis=1)
        direction = unit(weights @ unit(z))
        return np.asarray(direction * ((1 - t) * lengths[1] + t * lengths[2]))[None]


def read_keyframes(path: str | Path, model: Model, force: bool = False) -> Keyframes:
    """Reads a keyframes file for a model. Files in it are relative to it.

    Raises:
        DataError: It is missing, too large, or not what it should be.
        UsageError: A value is out of range, or latents are of another model and `force` is not given.
    """
    path = Path(path)
    check_small_file(path, MAX_LIST_BYTES)
    with reading(str(path), DataError, "keyframes are JSON with a list `keyframes`, see the documents"):
        contents = json.loads(path.read_text(encoding="utf-8"))
        entries = contents["keyframes"]
        if contents.get("format") != FORMAT:
            raise DataError(f"{path} has format {contents.get('format')!r}, this pggan reads {FORMAT}")
        _check_names(contents, _FILE_NAMES, path)
        if not isinstance(entries, list) or not 2 <= len(entries) <= MAX_LATENTS:
            raise DataError(f"{path} needs a list of 2 to {MAX_LATENTS:,} keyframes")
        files: dict[str, LatentSet] = {}
        latents = LatentSet.together([_latent_of(entry, path, model, force, files) for entry in entries], model)
        seconds = tuple(float(entry.get("seconds", 1.0)) for entry in entries)
        common = contents.get("easing", "smooth")
        easings = tuple(entry.get("easing", common) for entry in entries)
        return Keyframes(latents, seconds, easings, contents.get("path", "spline"), bool(contents.get("loop", True)))


def _check_names(entry: dict[str, Any], known: frozenset[str], path: Path) -> None:
    for name in entry.keys() - known:
        raise DataError(f"{path} has an entry {str(name)[:40]!r}, which is none of {', '.join(sorted(known))}")


def _latent_of(entry: Any, path: Path, model: Model, force: bool, files: dict[str, LatentSet]) -> LatentSet:
    """Returns the latent of one keyframe; `files` holds those that have been read."""
    _check_names(entry, _ENTRY_NAMES, path)
    if "seed" in entry:
        if type(entry["seed"]) is not int:
            raise DataError(f"{path}: a seed is a number, not {entry['seed']!r}")
        check_seeds([entry["seed"]])
        return LatentSet.of_seeds(model, [entry["seed"]], entry.get("label"))
    name = entry["latents"]
    if name not in files:
        files[name] = read_latents(path.parent / name, model, force)
    latents = files[name]
    if "name" in entry:
        if entry["name"] not in latents.names:
            raise DataError(f"{path}: {name} holds no latent {entry['name']!r}")
        return latents.select([latents.names.index(entry["name"])])
    if len(latents) != 1:
        raise DataError(f"{path}: {name} holds {len(latents)} latents; say which by `name`")
    return latents


def keyframe_video(
    model: Model,
    out: str | Path,
    keyframes: Keyframes,
    fps: float = 30.0,
    scale: int | None = None,
    background: Colour = WHITE,
    task: Task = UNWATCHED,
) -> dict[str, Any]:
    """Writes a video along keyframes. `task` counts frames; arguments and result are those of `write_grid_video`."""
    frames = _frames(model, keyframes, fps, task)
    return write_grid_video(out, frames, (1, 1), model.resolution, scale, fps, background)


def _frames(model: Model, keyframes: Keyframes, fps: float, task: Task) -> Iterator[Images]:
    count, size, taker = keyframes.frames(fps), model.batch_size(), keyframes.latents.taker(model)
    for start in range(0, count, size):
        rows = [keyframes.at(frame, fps) for frame in range(start, min(start + size, count))]
        inputs = np.concatenate([inputs for inputs, _ in rows])
        labels = [labels for _, labels in rows if labels is not None]
        yield from taker.images(inputs, np.concatenate(labels) if labels else None)[:, None]
        task.advance(len(rows))
