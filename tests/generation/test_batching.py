"""Prefetched batches: their order, memory that runs out, batch sizes; threads that write PNGs."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

import pggan
from pggan.generation import batching, images
from pggan.generation.to_uint8 import start_to_uint8, to_uint8
from pggan.utils.errors import OutOfMemoryError, UsageError
from tests.helpers.model_files import saved


@pytest.fixture
def model(tmp_path):
    return pggan.load(saved(tmp_path / "m.safetensors"), device="cpu")


class Launches:
    """Stands in for a GPU with memory for `capacity` images in flight; records what was started and fetched."""

    def __init__(self, model, capacity=1 << 30):
        self.events, self.start_images, self.capacity, self.in_flight = [], model.start_images, capacity, 0
        self.count = 0

    def __call__(self, latents, labels=None, remaining=0):
        if self.in_flight + len(latents) > self.capacity:
            self.events.append(("short", len(latents)))
            raise OutOfMemoryError("short")
        number, self.count = self.count, self.count + 1
        self.events.append(("started", number))
        self.in_flight += len(latents)
        wait = self.start_images(latents, labels, remaining)

        def fetch():
            self.events.append(("fetched", number))
            self.in_flight -= len(latents)
            return wait()

        return fetch


@pytest.fixture
def gpu(model, monkeypatch):
    """Two batches in flight, as on a GPU, of four images."""

    def on(capacity=1 << 30):
        launches = Launches(model, capacity)
        monkeypatch.setattr(model, "start_images", launches)
        monkeypatch.setattr(model, "batch_size", lambda: 4)
        monkeypatch.setitem(batching.IN_FLIGHT, "cpu", 2)
        return launches

    return on


def near(a, b):
    return np.abs(a.astype(int) - b).max() <= 1


def test_a_batch_is_started_before_the_last_one_is_waited_for(model, gpu):
    expected, launches = model.generate(range(10)), gpu()
    stream = model.stream(range(10))
    first = next(stream)
    assert launches.events == [("started", 0), ("started", 1), ("fetched", 0)]
    rest = list(stream)
    assert launches.events[3:] == [("started", 2), ("fetched", 1), ("fetched", 2)]
    assert [len(part) for part in (first, *rest)] == [4, 4, 2]
    assert near(np.concatenate([first, *rest]), expected)


@pytest.mark.long
@pytest.mark.parametrize("capacity,short", [(4, [4]), (7, [4]), (3, [4, 2]), (1, [4, 2, 1])])
def test_when_memory_runs_out_first_prefetching_stops_then_batches_are_halved(model, gpu, capacity, short):
    expected, launches = model.generate(range(10)), gpu(capacity)
    assert near(np.concatenate(list(model.stream(range(10)))), expected)
    assert [size for event, size in launches.events if event == "short"] == short
    if capacity >= 4:  # the batch in flight is fetched before the next one is tried again
        assert launches.events[:4] == [("started", 0), ("short", 4), ("fetched", 0), ("started", 1)]


@pytest.mark.long
def test_a_requested_batch_size_is_not_halved(model, gpu):
    gpu(capacity=4)
    assert len(list(model.stream(range(10), batch=4))) == 3  # one at a time
    gpu(capacity=3)
    with pytest.raises(OutOfMemoryError, match="with 4 pictures at a time"):
        list(model.stream(range(10), batch=4))
    with pytest.raises(UsageError, match="a batch of 0 is none; give 1 or more"):
        list(model.stream(range(10), batch=0))


def test_batch_sizes_are_bounded_by_host_memory_cpu_caches_and_free_memory(model, monkeypatch):
    monkeypatch.setattr(batching, "free_memory", lambda device: 1 << 40)
    monkeypatch.setattr(batching, "CPU_BYTES", 0)
    assert model.batch_size() == batching.CPU_BATCH
    monkeypatch.setattr(batching, "HOST_BYTES", 4 * 3 * 16**2)
    assert model.batch_size() == 4
    monkeypatch.setattr(batching, "CPU_BATCH", 1 << 20)
    monkeypatch.setattr(batching, "HOST_BYTES", 1 << 40)
    one = batching.synthesis_bytes(model.file.generator.config, 4) + 3 * 16**2
    monkeypatch.setattr(batching, "free_memory", lambda device: 4 * 8 * one)
    assert model.batch_size() == 8
    monkeypatch.setitem(batching.IN_FLIGHT, "cpu", 2)  # the 8-bit images of both batches count
    assert model.batch_size() == 4


def test_images_started_and_fetched_later_are_those_converted_at_once(model):
    raw = model.synthesize(model.seed_latents(range(3)))
    before = raw.clone()
    assert np.array_equal(start_to_uint8(raw)(), to_uint8(raw))
    assert raw.equal(before)  # nothing is converted in place
    assert np.array_equal(to_uint8(raw), model.images(model.seed_latents(range(3))))


def test_threads_return_results_in_order_and_take_a_bounded_number_of_items():
    taken, lock, most = [], threading.Lock(), 0

    def items():
        for n in range(20):
            taken.append(n)
            yield (n,)

    def work(n):
        with lock:
            time.sleep(0.002 if n % 3 else 0.005)
        return n

    results: list[int] = []
    for n in images.in_threads(work, items(), images.Writers(2, 5)):
        results.append(n)
        most = max(most, len(taken) - len(results))
    assert results == list(range(20))
    assert 1 < most <= 5


def test_a_failure_in_a_writer_thread_ends_the_writing(tmp_path, model):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / images.image_name(3)).mkdir()  # no file can be put there
    with pytest.raises(OSError, match="seed0000000003"):
        images.write_images(model, range(8), tmp_path / "out")
    assert not list((tmp_path / "out").glob(".*"))


def test_the_same_seed_can_be_written_by_several_threads_at_once(tmp_path, model):
    written = images.write_images(model, [5] * 12, tmp_path / "out")
    assert [p.name for p in written.folder.iterdir()] == [images.image_name(5)]
    assert images.read_metadata(written.folder / images.image_name(5))["seed"] == 5


def test_larger_images_get_more_writer_threads_up_to_the_cores(model, monkeypatch):
    monkeypatch.setattr(images, "available_cores", lambda: 16)
    assert images.writers(model) == (2, images.CPU_QUEUE)
    monkeypatch.setattr(model, "device", torch.device("cuda"))
    for level, expected in ((4, (2, 32)), (7, (6, 32)), (10, (16, 64))):
        monkeypatch.setattr(model.file, "level", level)
        assert images.writers(model) == expected
    monkeypatch.setattr(images, "available_cores", lambda: 1)
    assert images.writers(model).threads == 1
