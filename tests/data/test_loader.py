"""The order of images, and batches that are loaded, cached and prefetched."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pggan.data.loading.cache_policy import CachePolicy
from pggan.data.loading.loader import BatchRequest, Loader
from pggan.data.loading.sampler import Sampler
from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.data.store.lmdb_environment import FILE
from pggan.data.store.store import Store
from pggan.utils.errors import DataError
from tests.helpers.waiting import PATIENCE, wait_for

COUNT = 24
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def memory(tmp_path, monkeypatch):
    """A memory file system of the test's own: what lies in it at the end was left behind."""
    place = tmp_path / "shm"
    place.mkdir()
    monkeypatch.setattr("pggan.data.loading.shared_memory.DIRECTORY", place)
    # a device cache that closes collects garbage, which takes half a second beside torch: tests open many
    monkeypatch.setattr("pggan.data.loading.device_cache.free_cached", lambda device: None)
    return place


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("loader") / "data"
    prepare(f"drawn:{COUNT}", path, PrepareOptions(max_res=16, codec="4:raw,16:png"))
    with Store(path) as opened:
        yield opened


@pytest.fixture
def copy(store, tmp_path):
    """A store that may be spoilt."""
    shutil.copytree(store.path, tmp_path / "copy")
    with Store(tmp_path / "copy") as opened:
        yield opened


@pytest.mark.long
@settings(max_examples=80, deadline=None)
@given(count=st.integers(1, 200), seed=st.integers(0, 2**31), epoch=st.integers(0, 10**6))
def test_an_epoch_shows_each_picture_once(count, seed, epoch):
    indices, _ = Sampler(count, seed).at(epoch * count, count)
    assert sorted(indices) == list(range(count))


@pytest.mark.long
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


@pytest.mark.long
@settings(max_examples=80, deadline=None)
@given(count=st.integers(1, 60), nimg=st.integers(0, 10**6), batch=st.integers(0, 150), world=st.integers(1, 9))
def test_processes_share_the_positions(count, nimg, batch, world):
    whole, flips = Sampler(count, 3).at(nimg, batch)
    for rank in range(world):
        indices, mirrored = Sampler(count, 3).at(nimg, batch, rank, world)
        own = np.arange(nimg, nimg + batch) % world == rank
        np.testing.assert_array_equal(indices, whole[own])
        np.testing.assert_array_equal(mirrored, flips[own])


def test_a_rank_beyond_the_world_is_refused():
    with pytest.raises(ValueError, match="rank 2 of 2"):
        Sampler(3, 0).at(0, 3, rank=2, world=2)


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
        yield BatchRequest(nimg, batch, resolution)
        nimg += batch


STEPS = [(5, 4), (8, 4), (3, 8), (40, 16), (2, 16), (7, 16)]


CACHES = {
    "none": CachePolicy("none"),
    "auto": CachePolicy("auto", device="cpu"),  # in memory
    "ram": CachePolicy("ram"),
    "device": CachePolicy("device", device="cpu"),
}


def expected(store, request, seed=5, rank=0, world=1):
    """The plain way: picture by picture."""
    indices, mirrored = Sampler(COUNT, seed).at(request.nimg, request.batch)
    own = [at for at in range(request.batch) if at % world == rank]
    pictures = [store.read(request.resolution, [indices[at]])[0][:, :, :: -1 if mirrored[at] else 1] for at in own]
    shape = (len(own), store.channels, request.resolution, request.resolution)
    return np.array(pictures, np.uint8).reshape(shape), store.labels[indices[own]]


def check(store, batches, batch_requests, **how):
    assert [b.request for b in batches] == batch_requests
    for batch, request in zip(batches, batch_requests):
        images, labels = expected(store, request, **how)
        np.testing.assert_array_equal(batch.numpy_images(), images)
        np.testing.assert_array_equal(batch.labels, labels)
        assert batch.numpy_images().dtype == np.uint8


@pytest.mark.long
@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("mode", CACHES)
def test_batches_are_what_the_sampler_says(store, mode, workers, memory):
    with Loader(store, 5, workers=workers, cache_policy=CACHES[mode]) as loader:
        batches = list(loader.stream(requests(*STEPS)))
        assert loader.kind == {"auto": "ram"}.get(mode, mode)
    check(store, batches, list(requests(*STEPS)))
    assert any((b.numpy_images() != b.numpy_images()[:, :, :, ::-1]).any() for b in batches)  # mirroring would be seen
    assert not list(memory.iterdir())


@pytest.mark.long
@pytest.mark.parametrize("mode", CACHES)
def test_resuming_anywhere_and_processes_change_nothing(store, mode):
    batch_requests = list(requests(*STEPS))
    for start in range(len(batch_requests)):
        for rank, world in ((0, 1), (1, 2), (4, 5)):
            with Loader(store, 5, workers=2, cache_policy=CACHES[mode], rank=rank, world=world) as loader:
                batches = list(loader.stream(batch_requests[start:]))
            check(store, batches, batch_requests[start:], rank=rank, world=world)


@pytest.mark.parametrize("mode", CACHES)
def test_a_stream_given_up_leaves_no_holes(store, mode):
    batch_requests = list(requests(*[(5, 8)] * 12))
    with Loader(store, 5, workers=2, cache_policy=CACHES[mode]) as loader:
        for taken in (1, 4, 2):
            stream = loader.stream(batch_requests)
            check(store, [next(stream) for _ in range(taken)], batch_requests[:taken])
            stream.close()
        check(store, list(loader.stream(batch_requests)), batch_requests)


def test_a_batch_belongs_to_who_gets_it(store):
    loader = Loader(store, 0, workers=1)
    first, again = (next(loader.stream([BatchRequest(0, 6, 8)])) for _ in range(2))
    expected = again.images.copy()
    first.images[:] = 0
    np.testing.assert_array_equal(next(loader.stream([BatchRequest(0, 6, 8)])).images, expected)


def test_too_high_a_resolution_is_an_error_with_advice(store):
    for workers in (0, 2):
        with pytest.raises(DataError, match=r"no 32x32 pictures.*--max-res 32"):
            list(Loader(store, 0, workers=workers).stream([BatchRequest(0, 4, 32)]))


def test_a_worker_s_error_reaches_the_consumer_in_its_turn(store, monkeypatch):
    read = Store.read

    def failing(self, resolution, indices):
        if resolution == 8:
            raise DataError("a damaged record")
        return read(self, resolution, indices)

    monkeypatch.setattr(Store, "read", failing)
    stream = Loader(store, 0, workers=2, cache_policy=CachePolicy(mode="none")).stream(requests((4, 4), (4, 8), (4, 4)))
    assert next(stream).request.resolution == 4
    with pytest.raises(DataError, match="damaged"):
        next(stream)
    assert not loader_threads()


def loader_threads():
    return [t for t in threading.enumerate() if t.name.startswith("pggan-loader")]


def endless():
    nimg = 0
    while True:
        yield BatchRequest(nimg, 2, 4)
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
    wait_for(lambda: not loader_threads())


@pytest.mark.parametrize("mode,workers", [("ram", 0), ("ram", 1), ("device", 0), ("device", 3)])
def test_a_cached_level_is_decoded_once_within_its_budget(store, monkeypatch, mode, workers):
    reads, notes = [], []
    read = Store.read

    def counting(self, resolution, indices):
        reads.append(len(indices))
        return read(self, resolution, indices)

    monkeypatch.setattr(Store, "read", counting)
    level = COUNT * 3 * 8 * 8
    for limit, kind, times in ((level, mode, 1), (level - 1, "none", 3)):
        reads.clear()
        caching = CachePolicy(mode, limit, "cpu", notes.append)
        with Loader(store, 5, workers=workers, cache_policy=caching) as loader:
            check(store, list(loader.stream(requests(*[(9, 8)] * 8))), list(requests(*[(9, 8)] * 8)))
            assert loader.kind == kind
            if kind == "none":
                assert sum(reads[:8]) == times * COUNT
        assert sum(reads) - 8 * 9 == times * COUNT  # the test itself reads each picture
    assert notes == [f"--cache {mode} has no room for the 8x8 pictures (4.5 KiB): they are read each time"]


def test_a_sampler_of_no_pictures_is_refused():
    with pytest.raises(DataError, match="no pictures"):
        Sampler(0, 0)


def truncate(path):
    os.truncate(path, 4096)


def replace(path):
    shutil.copy(path, path.with_name("new"))
    os.replace(path.with_name("new"), path)


def touch(path):
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize(
    "spoil,message",
    [
        (truncate, "cut short.*4096 of"),
        (replace, "replaced by another store"),
        (touch, "written to"),
        (Path.unlink, "no longer there"),
    ],
)
def test_a_file_that_changes_underneath_is_an_error(copy, spoil, message):
    with Loader(copy, 0, workers=0, cache_policy=CachePolicy("none")) as loader:
        stream = loader.stream(endless())
        next(stream)
        spoil(copy.path / FILE)
        with pytest.raises(DataError, match=message):
            next(stream)


def test_a_file_that_changes_while_a_batch_is_read_is_an_error(copy, monkeypatch):
    read = Store.read

    def changed(self, resolution, indices):
        images = read(self, resolution, indices)
        touch(self.path / FILE)
        return images

    monkeypatch.setattr(Store, "read", changed)
    with Loader(copy, 0, workers=0) as loader, pytest.raises(DataError, match="written to"):
        next(loader.stream(endless()))


TRUNCATED = """
import os, sys, time
from pggan.data.loading.cache_policy import CachePolicy
from pggan.data.loading.loader import BatchRequest, Loader
from pggan.data.store.store import Store
from pggan.utils.errors import PgganError
with Store(sys.argv[1]) as store, Loader(store, 0, workers=2, cache_policy=CachePolicy(sys.argv[2])) as loader:
    try:
        for number, _ in enumerate(loader.stream(BatchRequest(2 * n, 2, 16) for n in range(1000))):
            if number == 3:
                time.sleep(0.5)  # the workers are ahead and wait
                os.truncate(sys.argv[1] + "/data.mdb", 4096)
    except PgganError as error:
        sys.exit(f"error: {error}")
"""


@pytest.mark.long
@pytest.mark.parametrize("mode", ["none", "ram"])
def test_a_file_truncated_while_workers_read_is_one_line(copy, mode):
    done = subprocess.run(
        [sys.executable, "-c", TRUNCATED, str(copy.path), mode],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=PATIENCE,
    )
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert "cut short" in line
    assert "copy or make it again" in line
