"""Batches of real pictures: an order that is a pure function of images seen, read ahead by threads, kept by a cache.

Threads, not processes: the decoders let go of the interpreter, so that two threads decode 1.9 times what one does, and
nothing has to be started, copied or cleaned up. Each process opens the store for itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pggan.data.loading.cache import Cache, CachePolicy, Indices, Pictures
from pggan.data.loading.sampler import Sampler, split
from pggan.data.loading.store_watch import StoreWatch
from pggan.data.store.decoders import use_torchvision
from pggan.data.store.store import Store

__all__ = ["BatchRequest", "LoadedBatch", "Loader", "Sampler"]

# Batches read ahead of training, per worker.
AHEAD = 2


class BatchRequest(NamedTuple):
    """The `batch` pictures that follow `nimg` images seen, of all processes together, at a resolution."""

    nimg: int
    batch: int
    resolution: int


class LoadedBatch(NamedTuple):
    """`images` uint8 (N, C, R, R), mirrored where the sampler says so: an array, or a tensor where the device keeps
    the pictures; `labels` int32 (N, columns). `held_out`: as many pictures that training never sees, where some are
    held out, else none.
    """

    images: Any
    labels: NDArray[np.int32]
    request: BatchRequest
    held_out: Any = None

    def pictures(self) -> Pictures:
        """`images` as an array; waits for the device where they are there."""
        return self.images if isinstance(self.images, np.ndarray) else self.images.cpu().numpy()


class Loader:
    """Reads what is requested, in order, a few batches ahead. `workers` 0 reads when asked.

    `rank` of `world` processes takes its share of each request. What `caching` keeps lasts until another resolution is
    asked for, or `close`. `held_out`: share of the pictures that are never among `images` (`sampler.split`); each batch
    then brings as many of them along. `labels` (N, columns): instead of the store's own.
    """

    def __init__(
        self,
        store: Store,
        seed: int,
        mirror: bool = True,
        workers: int = 2,
        caching: CachePolicy | None = None,
        rank: int = 0,
        world: int = 1,
        held_out: float = 0.0,
        labels: NDArray[np.int32] | None = None,
    ) -> None:
        use_torchvision()
        self.store, self.workers, self.caching = store, workers, caching or CachePolicy()
        self.rank, self.world = rank, world
        self.held: Sampler | None = None
        if held_out:
            trained, held = split(len(store), held_out, seed)
            self.sampler = Sampler(len(store), seed, mirror, trained)
            self.held = Sampler(len(store), seed, mirror, held)
        else:
            self.sampler = Sampler(len(store), seed, mirror)
        self._watch = StoreWatch(store.path)
        self._labels = store.labels if labels is None else labels
        self._resolution = 0
        self._cache: Cache | None = None

    def __enter__(self) -> Loader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def kind(self) -> str:
        """Where the pictures of the resolution being read are kept: none, ram or device."""
        return self._cache.kind if self._cache is not None else "none"

    def close(self) -> None:
        """Gives back what is kept; harmless when done twice. The store stays open."""
        if self._cache is not None:
            self._cache.close()
        self._cache = None

    def stream(self, requests: Iterable[BatchRequest]) -> Generator[LoadedBatch, None, None]:
        """Yields a batch for each request. Closing the generator stops the reading ahead.

        Raises `DataError` where the store lacks a resolution, a record is damaged or the file has changed.
        """
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="pggan-loader") if self.workers else None
        waiting: deque[_Begun] = deque()
        try:
            for request in requests:
                if self._cache is None or request.resolution != self._resolution:
                    while waiting:  # the old cache goes before the new one comes
                        yield waiting.popleft().finish_fetch()
                    self._enter(request.resolution)
                waiting.append(self._begin(request, pool))
                if len(waiting) > AHEAD * self.workers:
                    yield waiting.popleft().finish_fetch()
            while waiting:
                yield waiting.popleft().finish_fetch()
        finally:
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)
            if self._cache is not None:
                self._cache.cancel()

    def _enter(self, resolution: int) -> None:
        self.close()
        shape = (len(self.store), self.store.channels, resolution, resolution)
        self._cache = self.caching.cache(lambda indices: self._read(resolution, indices), shape, self._watch.identity)
        self._resolution = resolution

    def _begin(self, request: BatchRequest, pool: ThreadPoolExecutor | None) -> _Begun:
        assert self._cache is not None
        # of each request, samples rank, rank + world, ...: the minibatch's noise is dealt out by the same rule, which
        # by position in the run would be another one where the images seen are no multiple of the processes
        place = (request.nimg + self.rank) % self.world
        indices, mirrored = self.sampler.at(request.nimg, request.batch, place, self.world)
        labels = self._labels[indices]
        if self.held is not None:  # they come with the others, behind them
            more, turned = self.held.at(request.nimg, request.batch, place, self.world)
            indices, mirrored = np.concatenate([indices, more]), np.concatenate([mirrored, turned])
        work = self._cache.start_fetch(indices, mirrored)
        wait = work if work is None or pool is None else pool.submit(work).result
        return _Begun(self._cache, indices, mirrored, labels, request, wait)

    def _read(self, resolution: int, indices: Indices) -> Pictures:
        self._watch.check()
        pictures = self.store.read(resolution, indices)
        self._watch.check()  # what was read while the file changed is not to be trusted
        return pictures


class _Begun(NamedTuple):
    """A batch on its way. `wait` returns what its worker did; None where there is nothing to do."""

    cache: Cache
    indices: Indices
    mirrored: NDArray[np.bool_]
    labels: NDArray[np.int32]
    request: BatchRequest
    wait: Callable[[], Any] | None

    def finish_fetch(self) -> LoadedBatch:
        done = None if self.wait is None else self.wait()
        images, trained = self.cache.finish_fetch(done, self.indices, self.mirrored), len(self.labels)
        held_out = images[trained:] if len(self.indices) > trained else None
        return LoadedBatch(images[:trained], self.labels, self.request, held_out)
