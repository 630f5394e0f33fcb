"""Sliced Wasserstein distance between the patches of two sets of pictures, level by level of a Laplacian pyramid.

Karras et al., "Progressive Growing of GANs", section 5, and the release's protocol: 128 random 7x7 patches of each
picture and level, each colour channel brought to mean 0 and deviation 1, 4 x 128 random directions; x 1000.

Memory: a level is kept whole where that is less than its patches: 140 kB a colour picture at 128x128, 365 kB at
1024x1024, for reals and fakes each; a level's patches come on top (75 kB a picture of each), and projections (131 kB a
picture).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from pggan.metrics.base import Batch, Metric, Rows, Setting, State
from pggan.metrics.laplacian import LOWEST, laplacian_pyramid
from pggan.metrics.swd_threads import compared, cores
from pggan.utils.errors import UsageError

PATCH = 7
PATCHES = 128  # of each picture and level
REPEATS, DIRECTIONS = 4, 128
GROUP = 64  # directions at a time on a graphics card: what bounds the memory of the projections
ROOM = 128  # the same of all processor cores together
PIECE = 16  # pictures whose pyramid is made at once: they stay in the processor's cache
ROWS = 1 << 12  # descriptors summed at once: they stay in the processor's cache


class SWD(Metric):
    """Patches of a pyramid's levels, kept as float32 and compared at the end. Raises `UsageError` below 16x16."""

    name = "swd"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        if setting.resolution < LOWEST:
            raise UsageError(f"swd wants pictures of {LOWEST}x{LOWEST} at least, these are {setting.resolution}")
        self.levels = [
            setting.resolution >> i for i in range(setting.resolution.bit_length() - LOWEST.bit_length() + 1)
        ]
        self.begin(0)

    @property
    def options(self) -> dict[str, object]:
        return {"seed": self.setting.seed, "patches": PATCHES}

    def begin(self, room: int) -> None:
        self._numbers = Rows(room)
        self._kept = {side: Rows(room) for side in self.levels}

    def feed(self, batch: Batch) -> None:
        for start in range(0, len(batch), self.piece):
            part = slice(start, start + self.piece)
            numbers = torch.tensor(batch.numbers[part])
            self._numbers.add(numbers)
            levels = laplacian_pyramid(batch.pictures[part].float())
            places = patch_places(numbers, self.setting.seed, self.levels)
            for side, level in levels.items():
                kept = level if kept_whole(side) else patches(level, places[side])
                self._kept[side].add(kept.cpu())

    def end(self) -> State:
        return {"numbers": self._numbers.end(), **{str(side): rows.end() for side, rows in self._kept.items()}}

    @property
    def piece(self) -> int:
        return PIECE if self.setting.device.type == "cpu" else 256

    def result(self, fakes: State, reals: State) -> dict[str, float]:
        """`swd_R` of each level and `swd`, their mean; `..._std`: how far another seed moves them, by the directions.

        The two sets have as many pictures; raises `UsageError` otherwise.
        """
        if len(fakes["numbers"]) != len(reals["numbers"]):
            raise UsageError(f"swd compares as many: {len(fakes['numbers'])} and {len(reals['numbers'])} pictures")
        found: dict[str, float] = {}
        means, errors = [], []
        # both sides mostly have the same numbers: their places are drawn once
        places = [patch_places(reals["numbers"], self.setting.seed, self.levels)]
        same = torch.equal(reals["numbers"], fakes["numbers"])
        places.append(places[0] if same else patch_places(fakes["numbers"], self.setting.seed, self.levels))
        # memory that all levels use: to get it anew takes as long as to fill it
        width = self.setting.channels * PATCH * PATCH
        device = self.setting.device
        kept = [torch.empty(len(reals["numbers"]), PATCHES, width, device=device) for _ in places]
        rooms = Rooms(len(reals["numbers"]) * PATCHES)
        for side in self.levels:
            a, b = (self.descriptors(*each, side).to(device) for each in zip((reals, fakes), places, kept))
            each = sliced_wasserstein(a, b, self.directions(side), self.setting.channels, rooms) * 1e3
            means.append(float(each.mean()))
            errors.append(float(each.std() / len(each) ** 0.5) if len(each) > 1 else 0.0)
            found[f"swd_{side}"], found[f"swd_{side}_std"] = means[-1], errors[-1]
        found["swd"] = float(np.mean(means))
        found["swd_std"] = float(np.linalg.norm(errors) / len(errors))
        return found

    def descriptors(self, state: State, places: dict[int, Tensor], out: Tensor, side: int) -> Tensor:
        """All patches of a level, (pictures x 128, C x 49), not normalised; `out` holds those that are cut here."""
        kept = state[str(side)]
        if not kept_whole(side):
            return kept.flatten(0, 1)
        for at in range(0, len(kept), self.piece):
            part = slice(at, at + self.piece)
            out[part] = patches(kept[part].to(out.device), places[side][part])
        return out.flatten(0, 1)

    def directions(self, side: int) -> Tensor:
        """Random unit vectors, (C x 49, 512), the same for reals and fakes, others at each level."""
        width = self.setting.channels * PATCH * PATCH
        random = np.random.default_rng([self.setting.seed, side]).standard_normal((width, REPEATS * DIRECTIONS))
        unit = random / np.linalg.norm(random, axis=0)
        return torch.from_numpy(unit.astype(np.float32)).to(self.setting.device)


def kept_whole(side: int) -> bool:
    """Whether a level's pixels are fewer than those of its patches."""
    return side * side < PATCHES * PATCH * PATCH


def patch_places(numbers: Tensor, seed: int, levels: list[int]) -> dict[int, Tensor]:
    """Centres (N, 128, 2) as x, y by level, uniform over the places where a patch fits.

    Each picture's own draws, by its number: neither batches nor processes change them.
    """
    share = np.stack(
        [
            np.random.Generator(np.random.Philox(key=[seed, int(number)])).random((len(levels), PATCHES, 2))
            for number in numbers
        ]
    )
    half = PATCH // 2
    return {
        side: torch.from_numpy((share[:, at] * (side - 2 * half)).astype(np.int64) + half)
        for at, side in enumerate(levels)
    }


def patches(level: Tensor, places: Tensor) -> Tensor:
    """Patches around `places` (N, P, 2) of a level (N, C, S, S): (N, P, C x 49), channel by channel, column by column.

    Columns first, as the release orders them; the distance does not depend on it.
    """
    windows = level.unfold(3, PATCH, 1).unfold(2, PATCH, 1)
    picture = torch.arange(len(level), device=level.device)[:, None]
    x, y = (places - PATCH // 2).to(level.device).unbind(-1)
    if level.device.type == "cpu":  # numpy takes half the time of torch
        return torch.from_numpy(windows.numpy()[picture.numpy(), :, y.numpy(), x.numpy()]).flatten(2)
    return windows[picture, :, y, x].flatten(2)


def channel_statistics(descriptors: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel of descriptors (M, C x 49), float64 (C,)."""
    width = descriptors.shape[1] // channels
    # about a value in their midst, so that the squares lose nothing; float32 within a piece, float64 over the pieces
    middle = descriptors[:64].reshape(-1, channels, width).mean((0, 2)).repeat_interleave(width)
    total, squares = torch.zeros(2, descriptors.shape[1], dtype=torch.float64, device=descriptors.device)
    for part in descriptors.split(ROWS):
        values = part - middle
        total += values.sum(0)
        squares += values.square_().sum(0)
    total, squares = (each.view(channels, width).sum(1).cpu() for each in (total, squares))
    count = descriptors.numel() / channels
    mean = total / count
    return mean + middle[::width].double().cpu(), (squares / count - mean * mean).clamp_min(0).sqrt()


def normalised(descriptors: Tensor, channels: int) -> Tensor:
    """Descriptors with each channel at mean 0 and deviation 1."""
    mean, std = channel_statistics(descriptors, channels)
    values = descriptors.reshape(len(descriptors), channels, -1).double()
    return ((values - mean[:, None]) / std[:, None]).float().flatten(1)


class Rooms:
    """Memory for the projections of two sets of `count` descriptors: a part for every thread, made when first used."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free: SimpleQueue[np.ndarray] = SimpleQueue()

    @property
    def threads(self) -> int:
        return min(torch.get_num_threads(), ROOM // 4)

    @contextmanager
    def one(self) -> Iterator[np.ndarray]:
        """(2, directions at a time, count)."""
        try:
            room = self._free.get_nowait()
        except Empty:
            room = torch.empty(2, ROOM // self.threads, self.count).numpy()
        try:
            yield room
        finally:
            self._free.put(room)


def sliced_wasserstein(a: Tensor, b: Tensor, directions: Tensor, channels: int, rooms: Rooms | None = None) -> Tensor:
    """Distance of two sets of descriptors (M, W) along each of the unit `directions` (W, K): float64 (K,).

    Normalisation is folded into the directions: it needs no copy of the descriptors.
    """
    folded = [_folded(each, directions, channels) for each in (a, b)]
    weights = [each.T.contiguous() for each, _ in folded]
    apart = folded[0][1] - folded[1][1]
    if a.device.type == "cpu":
        rooms = rooms or Rooms(len(a))
        return _on_cores([a.numpy(), b.numpy()], [each.numpy() for each in weights], apart.numpy(), rooms)
    return _on_card([a, b], weights, apart)


def _on_card(sets: list[Tensor], weights: list[Tensor], apart: Tensor) -> Tensor:
    """As `_on_cores`, on the device of the tensors."""
    found = []
    for at in range(0, len(apart), GROUP):
        part = slice(at, at + GROUP)
        x, y = ((each[part] @ rows.T).sort(dim=1).values for each, rows in zip(weights, sets))
        found.append((x - y).add_(apart[part, None]).abs_().mean(dim=1, dtype=torch.float64))
    return torch.cat(found).cpu()


def _on_cores(sets: list[np.ndarray], weights: list[np.ndarray], apart: np.ndarray, rooms: Rooms) -> Tensor:
    """Mean of |x + apart - y| over the projections x, y of two sets (M, W) in order, along each of (K, W): (K,).

    Every thread takes some directions at a time through product and comparison, in memory of its own. numpy's product
    takes two thirds of the time of torch's on an AMD processor.
    """
    group = ROOM // rooms.threads

    def distances(at: int) -> list[float]:
        part = slice(at, at + group)
        with rooms.one() as room:
            x, y = (_projected(*each) for each in zip(sets, (each[part] for each in weights), room))
            return [compared(*each) for each in zip(x, y, apart[part])]

    with cores(rooms.threads) as pool, threadpool_limits(1, "blas"):
        found = pool.map(distances, range(0, len(apart), group))
        return torch.tensor([each for part in found for each in part], dtype=torch.float64)


def _projected(rows: np.ndarray, weights: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Projections (K, M) of descriptors (M, W) along `weights` (K, W); they lie in `room`."""
    out = room[: len(weights)]
    for at in range(0, len(rows), ROWS):
        np.matmul(weights, rows[at : at + ROWS].T, out=out[:, at : at + ROWS])
    return out


def _folded(descriptors: Tensor, directions: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    mean, std = channel_statistics(descriptors, channels)
    area = directions.shape[0] // channels
    # a flat channel has deviation 0 and says nothing: it is 0 everywhere
    scale = torch.where(std > 0, 1 / std, 0).repeat_interleave(area)[:, None].to(directions.device)
    weights = directions.double() * scale
    shift = -(mean.repeat_interleave(area).to(directions.device) @ weights)
    return weights.float(), shift.float()
