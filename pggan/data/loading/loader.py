"""Loads batches of training images: the order is a function of images seen; threads prefetch, a cache may hold them.

Threads instead of processes: the decoders release the interpreter lock, so that two threads decode 1.9 times as much
as one, without processes to start, data to copy or leftovers to clean up. Each process opens the store itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pggan.data.loading.cache import Cache, Images, Indices
from pggan.data.loading.cache_policy import CachePolicy
from pggan.data.loading.sampler import Sampler, split_held_out
from pggan.data.loading.store_watch import StoreWatch
from pggan.data.store.decoders import use_torchvision
from pggan.data.store.store import Store
from pggan.utils.process_pool import available_cores

__all__ = ["BatchRequest", "LoadedBatch", "Loader", "Sampler"]

# Batches to prefetch per worker.
PREFETCH = 2
# Threads unless --workers says otherwise: on a CPU, and at most.
CPU_WORKERS, MOST_WORKERS = 2, 16


class BatchRequest(NamedTuple):
    """A batch of `batch` images, of all processes together, at a resolution, after `nimg` images seen."""

    nimg: int
    batch: int
    resolution: int


class LoadedBatch(NamedTuple):
    """One process's share of a batch."""

    images: Any  # uint8 (N, C, R, R), already mirrored; an array, or a tensor if the device caches images
    labels: NDArray[np.int32]  # (N, columns)
    request: BatchRequest
    held_out: Any = None  # as `images`: N images that training never sees, if some are held out

    def numpy_images(self) -> Images:
        """Returns `images` as an array; waits for the device if they are a tensor."""
        return self.images if isinstance(self.images, np.ndarray) else self.images.cpu().numpy()


class Loader:
    """Yields batches in the requested order and prefetches a few.

    Args:
        store: Where the images are; stays open after `close`.
        seed: Of the order.
        mirror: Flip half of the images left to right at random.
        workers: Threads; 0 reads each batch when it is requested.
        cache_policy: Where to cache decoded images. A cache lives until another resolution is requested, or `close`.
        rank: Of this process among `world` processes; each takes its share of every batch.
        world: Number of processes.
        held_out: Share of the images that are never among `images` (see `split_held_out`); each batch then carries as
            many of these, too.
        labels: int32 (N, columns), replaces the store's own.
    """

    def __init__(
        self,
        store: Store,
        seed: int,
        mirror: bool = True,
        workers: int = 2,
        cache_policy: CachePolicy | None = None,
        rank: int = 0,
        world: int = 1,
        held_out: float = 0.0,
        labels: NDArray[np.int32] | None = None,
    ) -> None:
        use_torchvision()
        self.store, self.workers, self.cache_policy = store, workers, cache_policy or CachePolicy()
        self.rank, self.world = rank, world
        groups = store.manifest.duplicates
        trained, held = split_held_out(len(store), held_out, seed, groups) if held_out else (None, None)
        self.sampler = Sampler(len(store), seed, mirror, trained)
        self.held_out_sampler = None if held is None else Sampler(len(store), seed, mirror, held)
        self._watch = StoreWatch(store.path)
        self._labels = store.labels if labels is None else labels
        self._resolution = 0
        self._cache: Cache | None = None

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def kind(self) -> str:
        """Where images of the current resolution are cached: none, ram or device."""
        return self._cache.kind if self._cache is not None else "none"

    def close(self) -> None:
        """Frees the cache; may be called twice."""
        if self._cache is not None:
            self._cache.close()
        self._cache = None

    def stream(self, requests: Iterable[BatchRequest]) -> Generator[LoadedBatch, None, None]:
        """Yields a batch for each request. Closing the generator stops the prefetching.

        Raises `DataError` if the store lacks a resolution, a record is damaged or the file has changed.
        """
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="pggan-loader") if self.workers else None
        pending: deque[Callable[[], LoadedBatch]] = deque()
        try:
            for request in requests:
                if self._cache is None or request.resolution != self._resolution:
                    while pending:  # the old cache is freed before the new one is allocated
                        yield pending.popleft()()
                    self._open_cache(request.resolution)
                pending.append(self._start_batch(request, pool))
                if len(pending) > PREFETCH * self.workers:
                    yield pending.popleft()()
            while pending:
                yield pending.popleft()()
        finally:
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)
            if self._cache is not None:
                self._cache.cancel()

    def _open_cache(self, resolution: int) -> None:
        self.close()
        shape = (len(self.store), self.store.channels, resolution, resolution)
        self._cache = self.cache_policy.create_cache(
            lambda indices: self._read(resolution, indices), shape, self._watch.identity
        )
        self._resolution = resolution

    def _start_batch(self, request: BatchRequest, pool: ThreadPoolExecutor | None) -> Callable[[], LoadedBatch]:
        """Starts to read a batch; returns a function that waits for it and returns it."""
        cache = self._cache
        assert cache is not None
        # This process takes samples rank, rank + world, ... of the batch, as its share of the latents is defined. The
        # sampler counts from the beginning of the run, where nimg need not be a multiple of world.
        remainder = (request.nimg + self.rank) % self.world
        indices, mirrored = self.sampler.at(request.nimg, request.batch, remainder, self.world)
        labels = self._labels[indices]
        if self.held_out_sampler is not None:  # read together, after the training images
            held, held_mirrored = self.held_out_sampler.at(request.nimg, request.batch, remainder, self.world)
            indices, mirrored = np.concatenate([indices, held]), np.concatenate([mirrored, held_mirrored])
        work = cache.start_fetch(indices, mirrored)
        result = work if work is None or pool is None else pool.submit(work).result

        def finish() -> LoadedBatch:
            images = cache.finish_fetch(None if result is None else result(), indices, mirrored)
            held_out = images[len(labels) :] if len(indices) > len(labels) else None
            return LoadedBatch(images[: len(labels)], labels, request, held_out)

        return finish

    def _read(self, resolution: int, indices: Indices) -> Images:
        self._watch.check()
        images = self.store.read(resolution, indices)
        self._watch.check()  # images read while the file changed may be wrong
        return images


def default_workers(device: str) -> int:
    """Returns the number of threads: on a CPU 2, which training needs itself; beside a GPU this process's cores."""
    from pggan.utils.distributed import local_world_size  # imports torch

    if device == "cpu":
        return CPU_WORKERS
    return min(MOST_WORKERS, max(CPU_WORKERS, available_cores() // local_world_size()))
