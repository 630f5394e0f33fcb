"""Batches of generated images: how large they are, and prefetching, which computes one while the last is written.

On a GPU two batches are in flight: while the host waits for the first, converts and writes it, the GPU computes the
second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from pggan.config.train import GeneratorConfig
from pggan.generation.grid import Images
from pggan.generation.to_uint8 import PendingImages
from pggan.networks.flops import synthesis_bytes
from pggan.utils.devices import free_cached, free_memory, out_of_memory
from pggan.utils.errors import OutOfMemoryError

# Batches in flight by kind of device (others: 1). A GPU works in order, so that a second batch adds the memory of its
# 8-bit images alone.
IN_FLIGHT = {"cuda": 2}
# Share of the free memory that one batch may take, and images at most.
MEMORY_SHARE = 0.25
MAX_BATCH = 256
# Pinned memory for the 8-bit images of a batch; fewer pixels keep a GPU busy.
HOST_BYTES = 64 << 20
# Activations that a CPU computes at once, and images at least: larger batches take up to twice the time an image,
# measured from 4x4 to 64x64 on two cores. From 128x128 on, two images at once are as fast as sixteen: there are no
# more than take CPU_MOST_BYTES.
CPU_BYTES = 96 << 20
CPU_BATCH = 16
CPU_MOST_BYTES = 256 << 20

# Starts a batch: its seeds, the batch size, and how many images of the request remain, these included. May raise
# `OutOfMemoryError`.
StartBatch = Callable[[Sequence[int], int, int], PendingImages]


def in_flight(device: torch.device) -> int:
    """Returns how many batches are in flight on a device."""
    return IN_FLIGHT.get(device.type, 1)


def largest_batch(config: GeneratorConfig, level: int, device: torch.device) -> int:
    """Returns the images of one batch of synthesis: a power of two, 1 to 256, that takes a quarter of the free memory.

    Fewer on a CPU, whose caches hold no more, and of large images, two batches of which wait on the host.
    """
    pixels = config.channels * 4**level
    image_bytes = synthesis_bytes(config, level) + in_flight(device) * pixels
    # the reference batch of virtual batch normalisation passes through the layers with every batch
    reference = config.reference_size if config.norm == "virtual-batch" else 0
    most = min(MAX_BATCH, max(1, HOST_BYTES // pixels))
    if device.type == "cpu":
        most = min(most, max(min(CPU_BATCH, CPU_MOST_BYTES // image_bytes), CPU_BYTES // image_bytes))
    fitting = int(max(1, min(most, MEMORY_SHARE * free_memory(device) // image_bytes - reference)))
    return 1 << (fitting.bit_length() - 1)  # so that small changes of the free memory change nothing


def stream_batches(
    seeds: Sequence[int], start_batch: StartBatch, size: int, device: torch.device, is_fixed: bool = False
) -> Iterator[Images]:
    """Yields the images of seeds in batches, prefetching as many as `in_flight` allows.

    When memory runs out, first one batch at a time is tried, then half the batch size, again and again.

    Args:
        seeds: The seeds, in the order of the images.
        start_batch: Starts to compute a batch.
        size: Images a batch.
        device: Where they are computed.
        is_fixed: Whether the user chose the size, which is then never halved.

    Yields:
        uint8 (N, H, W, C), on a GPU in pinned memory.

    Raises:
        OutOfMemoryError: Memory runs out at the smallest size allowed.
    """
    limit = in_flight(device)
    pending: deque[tuple[int, PendingImages]] = deque()
    start = 0
    while start < len(seeds):
        batch = seeds[start : start + size]
        images = _try_to_start(start_batch, batch, size, len(seeds) - start)
        if images is not None:
            pending.append((len(batch), images))
            start += len(batch)
        elif pending:
            limit = 1  # one batch alone may fit
        elif is_fixed or len(batch) == 1:
            if is_fixed and size > 1:
                raise OutOfMemoryError(f"out of memory with {size} pictures at a time; give a smaller batch")
            raise OutOfMemoryError(f"out of memory with one picture at a time; free memory on {device}")
        else:
            size = len(batch) // 2
        while pending and (len(pending) >= limit or images is None):
            yield _wait(*pending.popleft())
        if images is None:
            free_cached(device)
    while pending:
        yield _wait(*pending.popleft())


def _try_to_start(start_batch: StartBatch, batch: Sequence[int], size: int, remaining: int) -> PendingImages | None:
    """Starts a batch; returns None when memory runs out."""
    try:
        return start_batch(batch, size, remaining)
    except OutOfMemoryError:
        return None


def _wait(count: int, images: PendingImages) -> Images:
    """Waits for a batch and drops the images that pad it to the batch size."""
    return images()[:count]


@contextmanager
def translate_out_of_memory(count: int) -> Iterator[None]:
    """Raises `OutOfMemoryError` for any of the errors by which torch says that memory ran out."""
    try:
        yield
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise OutOfMemoryError(f"out of memory with {count} pictures at a time; give a smaller batch") from None
