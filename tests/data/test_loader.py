import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pggan.data.loader import Loader, Request, Sampler
from pggan.data.prepare import PrepareOptions, prepare
from pggan.data.store import Store
from pggan.errors import DataError

COUNT = 24


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("loader") / "data"
    prepare(f"drawn:{COUNT}", path, PrepareOptions(max_res=16, codec="4:raw,16:png"))
    with Store(path) as opened:
        yield opened


@settings(max_examples=80, deadline=None)
@given(count=st.integers(1, 200), seed=st.integers(0, 2**31), epoch=st.integers(0, 10**6))
def test_an_epoch_shows_each_picture_once(count, seed, epoch):
    indices, _ = Sampler(count, seed).at(epoch * count, count)
    assert sorted(indices) == list(range(count))


@settings(max_examples=80, deadline=None)
@given(
    count=st.integers(1, 60),
    seed=st.integers(0, 2**31),
    nimg=st.integers(0, 10**9),
    cuts=st.lists(st.integers(1, 70), min_size=1, max_size=5),
)
def test_the_order_does_not_depend_on_how_it_is_cut(count, seed, nimg, cuts):
    whole, flips = Sampler(count, seed).at(nimg, sum(cuts))
    parts, sampler = [], Sampler(count, seed)
    for cut in cuts:
        parts.append(sampler.at(nimg + sum(len(p[0]) for p in parts), cut))
    np.testing.assert_array_equal(np.concatenate([p[0] for p in parts]), whole)
    np.testing.assert_array_equal(np.concatenate([p[1] for p in parts]), flips)
    assert whole.dtype == np.int64
    assert flips.dtype == np.bool_


def test_seeds_and_epochs_differ_and_mirroring_is_fair():
    orders = [tuple(Sampler(100, seed).at(100 * epoch, 100)[0]) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4
    mirrored = Sampler(1000, 0).at(0, 10_000)[1]
    assert 0.47 < mirrored.mean() < 0.53
    assert not Sampler(1000, 0, mirror=False).at(0, 1000)[1].any()
    # mirroring changes nothing of the order
    np.testing.assert_array_equal(Sampler(50, 3, mirror=False).at(7, 90)[0], Sampler(50, 3).at(7, 90)[0])


def requests(*steps):
    nimg = 0
    for batch, resolution in steps:
        yield Request(nimg, batch, resolution)
        nimg += batch


STEPS = [(5, 4), (8, 4), (3, 8), (40, 16), (2, 16), (7, 16)]


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
def test_batches_are_what_the_sampler_says(store, workers, cache_bytes):
    sampler = Sampler(COUNT, 5)
    loader = Loader(store, 5, workers=workers, cache_bytes=cache_bytes)
    found = list(loader.stream(requests(*STEPS)))
    assert [b.request for b in found] == list(requests(*STEPS))
    for batch in found:
        indices, mirrored = sampler.at(batch.request.nimg, batch.request.batch)
        expected = np.stack(
            [store.read(batch.request.resolution, [i])[0][:, :, :: -1 if m else 1] for i, m in zip(indices, mirrored)]
        )
        np.testing.assert_array_equal(batch.images, expected)
        np.testing.assert_array_equal(batch.labels, store.labels[indices])
        assert batch.images.dtype == np.uint8
    assert any((b.images != b.images[:, :, :, ::-1]).any() for b in found)  # mirroring would be seen


def test_a_batch_belongs_to_who_gets_it(store):
    loader = Loader(store, 0, workers=1)
    first, again = (next(loader.stream([Request(0, 6, 8)])) for _ in range(2))
    expected = again.images.copy()
    first.images[:] = 0
    np.testing.assert_array_equal(next(loader.stream([Request(0, 6, 8)])).images, expected)


def test_too_high_a_resolution_is_an_error_that_says_the_mend(store):
    for workers in (0, 2):
        with pytest.raises(DataError, match=r"no 32x32 pictures.*--max-res 32"):
            list(Loader(store, 0, workers=workers).stream([Request(0, 4, 32)]))


def test_a_worker_s_error_reaches_the_consumer_in_its_turn(store, monkeypatch):
    read = Store.read

    def failing(self, resolution, indices):
        if resolution == 8:
            raise DataError("a damaged record")
        return read(self, resolution, indices)

    monkeypatch.setattr(Store, "read", failing)
    stream = Loader(store, 0, workers=2, cache_bytes=0).stream(requests((4, 4), (4, 8), (4, 4)))
    assert next(stream).request.resolution == 4
    with pytest.raises(DataError, match="damaged"):
        next(stream)
    assert not loader_threads()


def loader_threads():
    return [t for t in threading.enumerate() if t.name.startswith("pggan-loader")]


def endless():
    nimg = 0
    while True:
        yield Request(nimg, 2, 4)
        nimg += 2


def test_closing_stops_the_threads_and_reads_only_a_little_ahead(store):
    asked = []

    def counted():
        for request in endless():
            asked.append(request)
            yield request

    stream = Loader(store, 0, workers=2).stream(counted())
    next(stream)
    assert loader_threads()
    assert len(asked) <= 8
    stream.close()
    deadline = time.monotonic() + 5
    while loader_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not loader_threads()


def test_a_cached_level_is_decoded_once(store, monkeypatch):
    reads = []
    read = Store.read

    def counting(self, resolution, indices):
        reads.append(len(indices))
        return read(self, resolution, indices)

    monkeypatch.setattr(Store, "read", counting)
    level = COUNT * 3 * 8 * 8
    for limit, expected in ((level, COUNT), (level - 1, 3 * COUNT)):
        reads.clear()
        list(Loader(store, 0, workers=1, cache_bytes=limit).stream(requests(*[(COUNT, 8)] * 3)))
        assert sum(reads) == expected


def test_no_pictures():
    with pytest.raises(DataError, match="no pictures"):
        Sampler(0, 0)
