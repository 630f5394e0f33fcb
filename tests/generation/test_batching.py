"""Batches under way together: their order, memory that is short of them, and sizes."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

import pggan
from pggan.generation import batching
from pggan.generation import images as files
from pggan.generation import model as models
from pggan.generation.to_uint8 import fetch, to_uint8
from pggan.utils.errors import OutOfMemoryError
from tests.helpers.model_files import saved


@pytest.fixture
def model(tmp_path):
    return pggan.load(saved(tmp_path / "m.safetensors"), device="cpu")


class Launches:
    """Stands in for a GPU: what was begun and fetched, in order; begins that the memory is short of raise."""

    def __init__(self, model, room=1 << 30):
        self.events, self.begin, self.room, self.under_way = [], model.begin, room, 0
        self.made = 0

    def __call__(self, latents, labels=None, remaining=0):
        if self.under_way + len(latents) > self.room:
            self.events.append(("short", len(latents)))
            raise OutOfMemoryError("short")
        number, self.made = self.made, self.made + 1
        self.events.append(("begun", number))
        self.under_way += len(latents)
        wait = self.begin(latents, labels, remaining)

        def landed():
            self.events.append(("fetched", number))
            self.under_way -= len(latents)
            return wait()

        return landed


@pytest.fixture
def gpu(model, monkeypatch):
    """Two batches at a time, as on a GPU, of four pictures."""

    def on(room=1 << 30):
        launches = Launches(model, room)
        monkeypatch.setattr(model, "begin", launches)
        monkeypatch.setattr(model, "batch_size", lambda level=None: 4)
        monkeypatch.setitem(batching.IN_FLIGHT, "cpu", 2)
        return launches

    return on


def near(a, b):
    return np.abs(a.astype(int) - b).max() <= 1


def test_a_batch_is_begun_before_the_last_one_is_waited_for(model, gpu):
    expected, launches = model.generate(range(10)), gpu()
    stream = model.stream(range(10))
    first = next(stream)
    assert launches.events == [("begun", 0), ("begun", 1), ("fetched", 0)]
    rest = list(stream)
    assert launches.events[3:] == [("begun", 2), ("fetched", 1), ("fetched", 2)]
    assert [len(part) for part in (first, *rest)] == [4, 4, 2]
    assert near(np.concatenate([first, *rest]), expected)


@pytest.mark.parametrize("room,short", [(4, [4]), (7, [4]), (3, [4, 2]), (1, [4, 2, 1])])
def test_memory_short_of_two_batches_or_of_one(model, gpu, room, short):
    """First there is one at a time, then batches are halved; the pictures stay in their order."""
    expected, launches = model.generate(range(10)), gpu(room)
    assert near(np.concatenate(list(model.stream(range(10)))), expected)
    assert [size for what, size in launches.events if what == "short"] == short
    if room >= 4:  # the batch under way is fetched before the next one is tried again
        assert launches.events[:4] == [("begun", 0), ("short", 4), ("fetched", 0), ("begun", 1)]


def test_a_batch_that_was_asked_for_is_not_halved(model, gpu):
    gpu(room=4)
    assert len(list(model.stream(range(10), batch=4))) == 3  # one at a time
    gpu(room=3)
    with pytest.raises(OutOfMemoryError, match="with 4 pictures at a time"):
        list(model.stream(range(10), batch=4))


def test_two_batches_under_way_count(model, monkeypatch):
    """What waits on the host and what is computed at once are bounded; pictures of two batches are counted."""
    monkeypatch.setattr(models, "free_memory", lambda device: 1 << 40)
    monkeypatch.setattr(models, "CPU_BYTES", 0)
    assert model.batch_size() == models.CPU_BATCH
    monkeypatch.setattr(models, "HOST_BYTES", 4 * 3 * 16**2)
    assert model.batch_size() == 4
    monkeypatch.setattr(models, "CPU_BATCH", 1 << 20)
    monkeypatch.setattr(models, "HOST_BYTES", 1 << 40)
    one = models.synthesis_bytes(model.file.generator.config, 4) + 3 * 16**2
    monkeypatch.setattr(models, "free_memory", lambda device: 4 * 8 * one)
    assert model.batch_size() == 8
    monkeypatch.setitem(batching.IN_FLIGHT, "cpu", 2)
    assert model.batch_size() == 4


def test_fetched_pictures_are_the_same(model):
    raw = model.synthesize(model.seed_latents(range(3)))
    before = raw.clone()
    assert np.array_equal(fetch(raw)(), to_uint8(raw))
    assert raw.equal(before)  # nothing is converted in place
    assert np.array_equal(to_uint8(raw), model.pictures(model.seed_latents(range(3))))


def test_threads_keep_order_and_bounds():
    """No more are taken beyond what was given out, however slow the work is."""
    taken, lock, most = [], threading.Lock(), 0

    def items():
        for n in range(20):
            taken.append(n)
            yield (n,)

    def work(n):
        with lock:
            time.sleep(0.002 if n % 3 else 0.005)
        return n

    found: list[int] = []
    for n in files.in_threads(work, items(), files.Threads(2, 5)):
        found.append(n)
        most = max(most, len(taken) - len(found))
    assert found == list(range(20))
    assert 1 < most <= 5


def test_a_failure_in_a_thread_ends_it(tmp_path, model):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / files.picture_name(3)).mkdir()  # no file can be put there
    with pytest.raises(OSError, match="seed0000000003"):
        files.write_pictures(model, range(8), tmp_path / "out")
    assert not list((tmp_path / "out").glob(".*"))


def test_the_same_seed_twice_at_once(tmp_path, model):
    written = files.write_pictures(model, [5] * 12, tmp_path / "out")
    assert sorted(p.name for p in written.folder.iterdir()) == [files.picture_name(5)]
    assert files.read_metadata(written.folder / files.picture_name(5))["seed"] == 5


def test_threads_are_as_many_as_pictures_are_worth(model, monkeypatch):
    monkeypatch.setattr(files, "available_cores", lambda: 16)
    assert files.writers(model) == (2, files.CPU_AHEAD)
    monkeypatch.setattr(model, "device", torch.device("cuda"))
    for level, threads in ((4, (2, 32)), (7, (6, 32)), (10, (16, 64))):
        monkeypatch.setattr(model.file, "level", level)
        assert files.writers(model) == threads
    monkeypatch.setattr(files, "available_cores", lambda: 1)
    assert files.writers(model).workers == 1
