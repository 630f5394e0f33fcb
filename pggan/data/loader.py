"""Batches of real pictures: an order that is a pure function of images seen, read ahead by threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pggan.data.store import Store
from pggan.errors import DataError

# Batches read ahead of training, per worker.
AHEAD = 2


class Request(NamedTuple):
    """The `batch` pictures that follow `nimg` images seen, at a resolution."""

    nimg: int
    batch: int
    resolution: int


class LoadedBatch(NamedTuple):
    """`images` uint8 (N, C, R, R), mirrored where the sampler says so; `labels` int32 (N, columns)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int32]
    request: Request


class Sampler:
    """The order of pictures: each epoch is a permutation decided by (seed, epoch) and shows each picture once."""

    def __init__(self, count: int, seed: int, mirror: bool = True) -> None:
        if count < 1:
            raise DataError("the data holds no pictures; prepare it again")
        self.count, self.seed, self.mirror = count, seed, mirror
        self._epochs: dict[int, tuple[NDArray[np.int64], NDArray[np.bool_]]] = {}

    def _epoch(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        if epoch not in self._epochs:
            random = np.random.default_rng((self.seed, epoch))
            order = random.permutation(self.count)
            mirrored = random.random(self.count) < 0.5 if self.mirror else np.zeros(self.count, bool)
            # two epochs at a time: a batch may reach over a border
            self._epochs = {k: v for k, v in self._epochs.items() if k == epoch - 1} | {epoch: (order, mirrored)}
        return self._epochs[epoch]

    def at(self, nimg: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Picture numbers (count,) and whether each is mirrored (count,), for the images after `nimg` seen."""
        indices, mirrored = [], []
        while count > 0:
            epoch, start = divmod(nimg, self.count)
            order, flips = self._epoch(epoch)
            part = slice(start, start + count)
            indices.append(order[part])
            mirrored.append(flips[part])
            nimg += len(indices[-1])
            count -= len(indices[-1])
        return np.concatenate(indices), np.concatenate(mirrored)


class Loader:
    """Reads what is requested, in order, a few batches ahead. `workers` 0 reads when asked.

    A resolution whose decoded pictures fit into `cache_bytes` is kept in memory as it is read.
    """

    def __init__(
        self, store: Store, seed: int, mirror: bool = True, workers: int = 2, cache_bytes: int = 1 << 30
    ) -> None:
        self.store, self.workers, self.cache_bytes = store, workers, cache_bytes
        self.sampler = Sampler(len(store), seed, mirror)
        self._labels = store.labels
        self._cache = _Cache(store, 0)

    def stream(self, requests: Iterable[Request]) -> Generator[LoadedBatch, None, None]:
        """Yields a batch for each request. Closing the generator stops the reading ahead.

        Raises `DataError` where the store lacks a resolution or a record is damaged.
        """
        if self.workers == 0:
            for request in requests:
                yield self._load(request, *self._sampled(request))
            return
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="pggan-loader")
        waiting: deque[Future[LoadedBatch]] = deque()
        try:
            for request in requests:
                waiting.append(pool.submit(self._load, request, *self._sampled(request)))
                if len(waiting) > AHEAD * self.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _sampled(self, request: Request) -> tuple[NDArray[np.int64], NDArray[np.bool_], _Cache]:
        # in the caller's thread: the sampler and the choice of cache are not shared between threads
        if self._cache.resolution != request.resolution:
            self._cache = _Cache(self.store, request.resolution, self.cache_bytes)
        return (*self.sampler.at(request.nimg, request.batch), self._cache)

    def _load(
        self, request: Request, indices: NDArray[np.int64], mirrored: NDArray[np.bool_], cache: _Cache
    ) -> LoadedBatch:
        images = cache.read(indices)
        images[mirrored] = images[mirrored, :, :, ::-1]
        return LoadedBatch(images, self._labels[indices], request)


class _Cache:
    """Decoded pictures of one resolution. Threads may fill the same entry twice, with the same bytes."""

    def __init__(self, store: Store, resolution: int, limit: int = 0) -> None:
        self.store, self.resolution = store, resolution
        shape = (len(store), store.channels, resolution, resolution)
        self._images = np.empty(shape, np.uint8) if resolution and np.prod(shape) <= limit else None
        self._present = np.zeros(len(store), bool)

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """A copy of the pictures (N, C, R, R)."""
        if self._images is None:
            return self.store.read(self.resolution, indices)
        missing = np.unique(indices[~self._present[indices]])
        if len(missing):
            self._images[missing] = self.store.read(self.resolution, missing)
            self._present[missing] = True
        return self._images[indices]
