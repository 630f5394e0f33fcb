"""Decoded pictures of one resolution: kept in memory, on the device, or nowhere; and the choice between them.

Every cache answers alike: `start_fetch` in the order of the batches, in the consumer's thread; what it returns in any thread;
`finish_fetch` in order again. The batches are the same bytes whichever is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.data.loading.shared_memory import SharedMemory
from pggan.utils.formatting import size

Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]
Pictures = NDArray[np.uint8]
Read = Callable[[Indices], Pictures]
Shape = tuple[int, int, int, int]

# Of the memory that is free on a GPU when a resolution begins, so much may hold pictures: unasked, the quarter that
# training never misses; asked for, what leaves it room at 1024x1024 on the GPUs that have room for the pictures.
GPU_SHARE = {"auto": 0.25, "device": 0.7}
# A batch of pictures in memory is copied at once rather than by a worker up to here: handing it over costs as much.
DIRECT_BYTES = 1 << 20
# From this side on pictures are mirrored one channel at a time.
LARGE = 128


def mirror(pictures: Pictures, mirrored: Flags) -> Pictures:
    """Pictures (N, C, R, R), contiguous, turned left to right in place where `mirrored` (N,) says so."""
    # eight pixels at a time (four at 4x4): the order of words reversed, and the bytes within them
    word = "u8" if pictures.shape[-1] >= 8 else "u4"
    there, turned = pictures.view("<" + word), pictures.view(">" + word)
    if pictures.shape[-1] < LARGE:
        there[mirrored] = turned[mirrored][:, :, :, ::-1]
        return pictures
    for at in np.flatnonzero(mirrored):  # what is set aside meanwhile stays in the processor's cache
        for channel in range(pictures.shape[1]):
            there[at, channel] = turned[at, channel, :, ::-1]
    return pictures


class Cache:
    """Keeps nothing: every batch is read."""

    kind = "none"

    def __init__(self, read: Read) -> None:
        self.read = read

    def start_fetch(self, indices: Indices, mirrored: Flags) -> Callable[[], Any] | None:
        """What a worker has to do for this batch; None where nothing."""
        return lambda: mirror(self.read(indices), mirrored)

    def finish_fetch(self, done: Any, indices: Indices, mirrored: Flags) -> Any:
        """The batch, uint8 (N, C, R, R), from what the worker returned: the caller's to change."""
        return done

    def cancel(self) -> None:
        """What has begun will not be finished."""

    def close(self) -> None:
        """Gives the memory back."""


class RamCache(Cache):
    """In memory, one copy for all processes of the machine where it can be shared, filled by all as they read.

    Threads and processes may fill the same entry twice, with the same bytes; it counts as present once it is whole.
    """

    kind = "ram"

    def __init__(self, read: Read, shape: Shape, key: object) -> None:
        super().__init__(read)
        count, pixels = shape[0], math.prod(shape)
        self.memory = SharedMemory.attach((key, shape), pixels + count)
        held: Any = self.memory.view if self.memory else np.zeros(pixels + count, np.uint8)
        self._pictures: Pictures = np.frombuffer(held, np.uint8, pixels).reshape(shape)
        self._present: Flags = np.frombuffer(held, np.bool_, count, pixels)

    def start_fetch(self, indices: Indices, mirrored: Flags) -> Callable[[], Any] | None:
        if self._present[indices].all() and len(indices) * self._pictures[0].nbytes <= DIRECT_BYTES:
            return None
        return lambda: self._take(indices, mirrored)

    def finish_fetch(self, done: Any, indices: Indices, mirrored: Flags) -> Any:
        return self._take(indices, mirrored) if done is None else done

    def _take(self, indices: Indices, mirrored: Flags) -> Pictures:
        missing = np.unique(indices[~self._present[indices]])
        if len(missing):
            self._pictures[missing] = self.read(missing)
            self._present[missing] = True
        return mirror(self._pictures[indices], mirrored)

    def close(self) -> None:
        del self._pictures, self._present  # they look at the shared memory
        if self.memory is not None:
            self.memory.close()


@dataclass(frozen=True)
class CachePolicy:
    """How to keep pictures. `mode`: auto, none, ram or device. `ram_bytes`: for one resolution, in main memory.

    `device`: torch's, by name; `note` hears where a cache that was asked for has no room.
    """

    mode: str = "auto"
    ram_bytes: int = 1 << 30
    device: str | None = None
    note: Callable[[str], None] | None = None

    def cache(self, read: Read, shape: Shape, key: object) -> Cache:
        """For pictures of this shape: the device's where it fits, else in memory where that does, else none."""
        found = self._on_device(read, shape) or self._in_memory(read, shape, key) or Cache(read)
        if self.note is not None and self.mode in ("ram", "device") and found.kind != self.mode:
            instead = {"none": "they are read each time", "ram": "they are kept in memory"}[found.kind]
            side, need = shape[-1], size(math.prod(shape))
            self.note(f"--cache {self.mode} has no room for the {side}x{side} pictures ({need}): {instead}")
        return found

    def _on_device(self, read: Read, shape: Shape) -> Cache | None:
        if self.device is None or self.mode not in GPU_SHARE:
            return None
        on_gpu = self.device.startswith("cuda")
        if not on_gpu and self.mode == "auto":
            return None  # the device's memory is the machine's
        from pggan.data.loading.device_cache import DeviceCache, room

        limit = room(self.device) * GPU_SHARE[self.mode] if on_gpu else self.ram_bytes
        return DeviceCache.made(read, shape, self.device) if math.prod(shape) <= limit else None

    def _in_memory(self, read: Read, shape: Shape, key: object) -> Cache | None:
        if self.mode == "none" or math.prod(shape) > self.ram_bytes:
            return None
        try:
            return RamCache(read, shape, key)
        except MemoryError:
            return None
