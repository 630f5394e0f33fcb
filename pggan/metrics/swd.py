"""Sliced Wasserstein distance between the patches of two sets of images, by level of a Laplacian pyramid.

Karras et al., "Progressive Growing of GANs", section 5, and the release's protocol: 128 random 7x7 patches of each
image and level, each colour channel normalised to mean 0 and deviation 1, 4 x 128 random directions; x 1000.

Memory: a level is stored whole where that is smaller than its patches. That makes 140 kB a colour image at 128x128 and
365 kB at 1024x1024, for reals and fakes each. While a level is compared, its patches add 75 kB an image of each set,
and the projections 131 kB an image.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import ClassVar

import numpy as np
import torch
from numpy.random import Generator, Philox
from threadpoolctl import threadpool_limits
from torch import Tensor

from pggan.metrics.base import Batch, Metric, RowBuffer, Setting, State
from pggan.metrics.laplacian import LOWEST, laplacian_pyramid
from pggan.metrics.swd_threads import single_core_threads, wasserstein_1d
from pggan.utils.errors import UsageError

PATCH = 7
PATCHES = 128  # of each image and level
REPEATS, DIRECTIONS = 4, 128
GPU_DIRECTIONS = 64  # directions projected at once on a GPU: bounds the memory of the projections
CPU_DIRECTIONS = 128  # the same for all threads of a CPU together
CPU_IMAGES, GPU_IMAGES = 16, 256  # images whose pyramid is made at once: on a CPU they stay in its cache
CHUNK_ROWS = 1 << 12  # descriptors summed or projected at once: they stay in the processor's cache


class SWD(Metric):
    """Stores patches of all pyramid levels as float32, compares them at the end. Raises `UsageError` below 16x16."""

    names: ClassVar = {"": "swd"}

    def __init__(self, setting: Setting, role: str | None = None) -> None:
        super().__init__(setting, role)
        if setting.resolution < LOWEST:
            raise UsageError(
                f"swd needs pictures of {LOWEST}x{LOWEST} at least, not {setting.resolution}: leave swd out"
            )
        self.levels = [side for i in range(32) if (side := setting.resolution >> i) >= LOWEST]
        self._images_at_once = CPU_IMAGES if setting.device.type == "cpu" else GPU_IMAGES
        self.begin(0)

    @property
    def options(self) -> dict[str, object]:
        return {"seed": self.setting.seed, "patches": PATCHES}

    def begin(self, count: int) -> None:
        self._numbers = RowBuffer(count)
        self._levels = {side: RowBuffer(count) for side in self.levels}

    def feed(self, batch: Batch) -> None:
        for start in range(0, len(batch), self._images_at_once):
            chunk = slice(start, start + self._images_at_once)
            numbers = torch.tensor(batch.numbers[chunk])
            self._numbers.add(numbers)
            levels = laplacian_pyramid(batch.images[chunk].float())
            centres = patch_centres(numbers, self.setting.seed, self.levels)
            for side, level in levels.items():
                rows = level if stores_whole_level(side) else cut_patches(level, centres[side])
                self._levels[side].add(rows.cpu())

    def end(self) -> State:
        return {"numbers": self._numbers.end(), **{str(side): rows.end() for side, rows in self._levels.items()}}

    def result(self, fakes: State, reals: State) -> dict[str, float]:
        """Returns `swd_R` of each level and their mean `swd`, each with a `..._std`.

        The latter is the standard error over the directions: how far another seed moves the figure. Raises
        `UsageError` unless both sets have equally many images.
        """
        count = len(reals["numbers"])
        if len(fakes["numbers"]) != count:
            raise UsageError(f"swd needs as many pictures of both: {len(fakes['numbers'])} and {count} given")
        figures: dict[str, float] = {}
        means, errors = [], []
        # both sets mostly have the same numbers: their patches then have the same centres, drawn once
        centres = [patch_centres(reals["numbers"], self.setting.seed, self.levels)]
        same = torch.equal(reals["numbers"], fakes["numbers"])
        centres.append(centres[0] if same else patch_centres(fakes["numbers"], self.setting.seed, self.levels))
        # buffers that all levels share: allocating them anew would take as long as filling them
        width = self.setting.channels * PATCH * PATCH
        device = self.setting.device
        patches = [torch.empty(count, PATCHES, width, device=device) for _ in centres]
        projections = ProjectionBuffers(count * PATCHES)
        for side in self.levels:
            sets = zip((reals, fakes), centres, patches)
            a, b = (self._descriptors(state, at, out, side).to(device) for state, at, out in sets)
            distances = sliced_wasserstein(a, b, self._directions(side), self.setting.channels, projections) * 1e3
            means.append(float(distances.mean()))
            errors.append(float(distances.std() / len(distances) ** 0.5) if len(distances) > 1 else 0.0)
            figures[f"swd_{side}"], figures[f"swd_{side}_std"] = means[-1], errors[-1]
        figures["swd"] = float(np.mean(means))
        figures["swd_std"] = float(np.linalg.norm(errors) / len(errors))
        return figures

    def _descriptors(self, state: State, centres: dict[int, Tensor], out: Tensor, side: int) -> Tensor:
        """Returns all patches of a level, (images x 128, C x 49), not normalised. Patches cut here are put in `out`."""
        level = state[str(side)]
        if not stores_whole_level(side):
            return level.flatten(0, 1)
        for start in range(0, len(level), self._images_at_once):
            chunk = slice(start, start + self._images_at_once)
            out[chunk] = cut_patches(level[chunk].to(out.device), centres[side][chunk])
        return out.flatten(0, 1)

    def _directions(self, side: int) -> Tensor:
        """Returns random unit vectors (C x 49, 512), the same for reals and fakes, others for each level."""
        width = self.setting.channels * PATCH * PATCH
        random = np.random.default_rng([self.setting.seed, side]).standard_normal((width, REPEATS * DIRECTIONS))
        unit = random / np.linalg.norm(random, axis=0)
        return torch.from_numpy(unit.astype(np.float32)).to(self.setting.device)


def stores_whole_level(side: int) -> bool:
    """Whether a level has fewer pixels than its patches together."""
    return side * side < PATCHES * PATCH * PATCH


def patch_centres(numbers: Tensor, seed: int, levels: list[int]) -> dict[int, Tensor]:
    """Draws the patches' centres (N, 128, 2) as x, y for each level, uniform over all places where a patch fits.

    The draws depend on seed and number of an image alone, so that neither batches nor processes change them.
    """
    shape, half = (len(levels), PATCHES, 2), PATCH // 2
    uniform = np.stack([Generator(Philox(key=[seed, int(number)])).random(shape) for number in numbers], axis=1)
    return {
        side: torch.from_numpy((uniform[i] * (side - 2 * half)).astype(np.int64) + half)
        for i, side in enumerate(levels)
    }


def cut_patches(level: Tensor, centres: Tensor) -> Tensor:
    """Cuts the patches around `centres` (N, P, 2) out of a level (N, C, S, S).

    Returns (N, P, C x 49), channel by channel and column by column, as the release orders them; the distance does not
    depend on the order.
    """
    windows = level.unfold(3, PATCH, 1).unfold(2, PATCH, 1)
    image = torch.arange(len(level), device=level.device)[:, None]
    x, y = (centres - PATCH // 2).to(level.device).unbind(-1)
    if level.device.type == "cpu":  # numpy takes half the time of torch
        return torch.from_numpy(windows.numpy()[image.numpy(), :, y.numpy(), x.numpy()]).flatten(2)
    return windows[image, :, y, x].flatten(2)


def channel_statistics(descriptors: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Returns mean and deviation of each channel of descriptors (M, C x 49): float64 (C,) each."""
    width = descriptors.shape[1] // channels
    # sums around a typical value, so that squares lose no digits; float32 within a chunk, float64 over the chunks
    middle = descriptors[:64].reshape(-1, channels, width).mean((0, 2)).repeat_interleave(width)
    total, squares = torch.zeros(2, descriptors.shape[1], dtype=torch.float64, device=descriptors.device)
    for chunk in descriptors.split(CHUNK_ROWS):
        values = chunk - middle
        total += values.sum(0)
        squares += values.square_().sum(0)
    total, squares = (sums.view(channels, width).sum(1).cpu() for sums in (total, squares))
    count = descriptors.numel() / channels
    mean = total / count
    return mean + middle[::width].double().cpu(), (squares / count - mean * mean).clamp_min(0).sqrt()


class ProjectionBuffers:
    """Memory for the projections of two sets of `count` descriptors: a buffer for each thread, made when first used."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free: SimpleQueue[np.ndarray] = SimpleQueue()

    @property
    def threads(self) -> int:
        """Threads that share the directions."""
        return min(torch.get_num_threads(), CPU_DIRECTIONS // 4)

    @contextmanager
    def borrow(self) -> Iterator[np.ndarray]:
        """Yields a buffer (2, directions at once, count) that no other thread uses meanwhile."""
        try:
            buffer = self._free.get_nowait()
        except Empty:
            buffer = torch.empty(2, CPU_DIRECTIONS // self.threads, self.count).numpy()
        try:
            yield buffer
        finally:
            self._free.put(buffer)


def sliced_wasserstein(
    a: Tensor, b: Tensor, directions: Tensor, channels: int, buffers: ProjectionBuffers | None = None
) -> Tensor:
    """Computes the Wasserstein distance of two sets of descriptors along each direction.

    Normalisation is folded into the directions, which saves a normalised copy of the descriptors.

    Args:
        a: Descriptors (M, W), not normalised.
        b: As many others.
        directions: Unit vectors (W, K).
        channels: Colour channels in W, each of which is normalised.
        buffers: Memory for the projections on a CPU; None: new.

    Returns:
        float64 (K,) on the CPU.
    """
    folded = [_fold_normalisation(descriptors, directions, channels) for descriptors in (a, b)]
    weights = [weight.T.contiguous() for weight, _ in folded]
    shifts = folded[0][1] - folded[1][1]
    if a.device.type == "cpu":
        buffers = buffers or ProjectionBuffers(len(a))
        return _distances_on_cpu([a.numpy(), b.numpy()], [w.numpy() for w in weights], shifts.numpy(), buffers)
    return _distances_on_gpu([a, b], weights, shifts)


def _distances_on_gpu(sets: list[Tensor], weights: list[Tensor], shifts: Tensor) -> Tensor:
    """Does what `_distances_on_cpu` does on the tensors' device."""
    distances = []
    for start in range(0, len(shifts), GPU_DIRECTIONS):
        part = slice(start, start + GPU_DIRECTIONS)
        x, y = ((weight[part] @ rows.T).sort(dim=1).values for weight, rows in zip(weights, sets))
        distances.append((x - y).add_(shifts[part, None]).abs_().mean(dim=1, dtype=torch.float64))
    return torch.cat(distances).cpu()


def _distances_on_cpu(
    sets: list[np.ndarray], weights: list[np.ndarray], shifts: np.ndarray, buffers: ProjectionBuffers
) -> Tensor:
    """Returns the mean of |x + shift - y| over sorted projections x, y of two sets (M, W), for each weight of (K, W).

    Every thread projects and compares some directions at a time, in a buffer of its own. numpy's product takes two
    thirds of the time of torch's on an AMD processor.
    """
    at_once = CPU_DIRECTIONS // buffers.threads

    def distances(start: int) -> list[float]:
        part = slice(start, start + at_once)
        with buffers.borrow() as buffer:
            x, y = (_project(rows, weight[part], out) for rows, weight, out in zip(sets, weights, buffer))
            return [wasserstein_1d(*row) for row in zip(x, y, shifts[part])]

    with single_core_threads(buffers.threads) as pool, threadpool_limits(1, "blas"):
        parts = pool.map(distances, range(0, len(shifts), at_once))
        return torch.tensor([distance for part in parts for distance in part], dtype=torch.float64)


def _project(rows: np.ndarray, weights: np.ndarray, buffer: np.ndarray) -> np.ndarray:
    """Returns the projections (K, M) of descriptors (M, W) along `weights` (K, W), stored in `buffer`."""
    out = buffer[: len(weights)]
    for start in range(0, len(rows), CHUNK_ROWS):
        np.matmul(weights, rows[start : start + CHUNK_ROWS].T, out=out[:, start : start + CHUNK_ROWS])
    return out


def _fold_normalisation(descriptors: Tensor, directions: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Returns weights (W, K) and shifts (K,) that project descriptors as `directions` project normalised ones."""
    mean, std = channel_statistics(descriptors, channels)
    area = directions.shape[0] // channels
    # a constant channel has deviation 0: normalised it is 0 everywhere
    scale = torch.where(std > 0, 1 / std, 0).repeat_interleave(area)[:, None].to(directions.device)
    weights = directions.double() * scale
    shift = -(mean.repeat_interleave(area).to(directions.device) @ weights)
    return weights.float(), shift.float()
