"""Chooses where the decoded images of a resolution are cached: on the device, in main memory, or nowhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from pggan.data.loading.cache import Cache, RamCache, Read, Shape
from pggan.utils.formatting import size

# Share of a GPU's free memory, at the start of a resolution, that the cache may use: with --cache auto what training
# never misses, with --cache device what still leaves it room at 1024x1024. It may use more where training has enough.
GPU_SHARE = {"auto": 0.25, "device": 0.7}


@dataclass(frozen=True)
class CachePolicy:
    """Where to cache images."""

    mode: str = "auto"  # auto, none, ram or device
    ram_bytes: int = 1 << 30  # most main memory for one resolution
    device: str | None = None  # torch's name of the device that trains
    note: Callable[[str], None] | None = None  # called if a requested cache has no room
    needed: Callable[[int], float] = lambda side: math.inf  # bytes of a GPU that training may take at a resolution

    def create_cache(self, read: Read, shape: Shape, key: object) -> Cache:
        """Creates a cache: on the device if the images fit there, else in main memory, else none.

        Args:
            read: Reads images (n, C, R, R) by their numbers (n,).
            shape: (N, C, R, R) of all images.
            key: Identifies the images; processes of one machine share main memory by it.
        """
        cache = self._on_device(read, shape) or self._in_memory(read, shape, key) or Cache(read)
        if self.note is not None and self.mode in ("ram", "device") and cache.kind != self.mode:
            instead = {"none": "they are read each time", "ram": "they are kept in memory"}[cache.kind]
            side, need = shape[-1], size(math.prod(shape))
            self.note(f"--cache {self.mode} has no room for the {side}x{side} pictures ({need}): {instead}")
        return cache

    def _on_device(self, read: Read, shape: Shape) -> Cache | None:
        if self.device is None or self.mode not in GPU_SHARE:
            return None
        on_gpu = self.device.startswith("cuda")
        if not on_gpu and (self.mode == "auto" or self.device != "cpu"):
            return None  # the device's memory is main memory
        from pggan.data.loading.device_cache import DeviceCache, free_device_bytes  # only here: needs torch

        limit: float = self.ram_bytes
        if on_gpu:
            free = free_device_bytes(self.device)
            limit = max(free * GPU_SHARE[self.mode], free - self.needed(shape[-1]))
        return DeviceCache.try_create(read, shape, self.device) if math.prod(shape) <= limit else None

    def _in_memory(self, read: Read, shape: Shape, key: object) -> Cache | None:
        if self.mode == "none" or math.prod(shape) > self.ram_bytes:
            return None
        try:
            return RamCache(read, shape, key)
        except MemoryError:
            return None
