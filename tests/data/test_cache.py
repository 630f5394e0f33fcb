"""Caches of decoded images, memory shared between processes, and the decoders."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pggan.data.loading import device_cache, shared_memory
from pggan.data.loading.cache import RamCache, mirror
from pggan.data.loading.cache_policy import CachePolicy
from pggan.data.loading.shared_memory import SharedMemory
from pggan.data.store import codecs
from pggan.data.store.codecs import decode, encode
from pggan.data.store.decoders import use_torchvision

ROOT = Path(__file__).parents[2]
SHAPE = (10, 3, 8, 8)
PICTURES = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
NO_FLIPS = np.zeros(4, bool)


@pytest.fixture(autouse=True)
def memory(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_memory, "DIRECTORY", tmp_path)
    return tmp_path


@pytest.mark.long
@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(0, 6),
    channels=st.sampled_from([1, 3]),
    side=st.sampled_from([4, 8, 16, 64, 128, 256]),
    flips=st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_mirroring_flips_left_to_right(count, channels, side, flips):
    pictures = np.random.default_rng(count).integers(0, 256, (count, channels, side, side), np.uint8)
    flips = np.array(flips[:count], bool)
    expected = np.array([p[:, :, ::-1] if flip else p for p, flip in zip(pictures, flips)]).reshape(pictures.shape)
    np.testing.assert_array_equal(mirror(pictures, flips), expected)


class Reading:
    def __init__(self):
        self.count = 0

    def __call__(self, indices):
        self.count += len(indices)
        return PICTURES[indices]


def take(cache, *indices):
    numbers = np.array(indices)
    work = cache.start_fetch(numbers, NO_FLIPS[: len(numbers)])
    return cache.finish_fetch(None if work is None else work(), numbers, NO_FLIPS[: len(numbers)])


def test_processes_of_a_machine_share_one_copy(memory):
    first, second = (RamCache(Reading(), SHAPE, "key") for _ in range(2))
    other = RamCache(Reading(), SHAPE, "another store")
    take(first, 1, 2, 3)
    np.testing.assert_array_equal(take(second, 3, 1), PICTURES[[3, 1]])
    take(second, 4)
    take(first, 4, 4)
    take(other, 1)
    assert (first.read.count, second.read.count, other.read.count) == (3, 1, 1)
    assert len(list(memory.iterdir())) == 2
    first.close()
    np.testing.assert_array_equal(take(second, 2), PICTURES[[2]])  # the last one keeps it
    second.close()
    other.close()
    assert not list(memory.iterdir())


def test_forgotten_memory_goes_too(memory):
    cache = RamCache(Reading(), SHAPE, "key")
    take(cache, 1)
    del cache
    assert not list(memory.iterdir())


HOLDS = """
import sys, time
from pathlib import Path
from pggan.data.loading import shared_memory as shared
shared.DIRECTORY = Path(sys.argv[1])
held = shared.SharedMemory.attach("key", 100)
held.view[7] = 42
print(held.view[8], flush=True)
{then}
"""


def holder(place, then):
    code = HOLDS.format(then=then)
    return subprocess.Popen([sys.executable, "-c", code, str(place)], stdout=subprocess.PIPE, cwd=ROOT)


@pytest.mark.long
def test_other_processes_see_it_and_what_a_killed_one_left_is_swept(memory):
    with holder(memory, "time.sleep(60)") as process:
        assert process.stdout.readline() == b"0\n"
        shared_memory.remove_unused_files()  # in use: stays
        mine = SharedMemory.attach("key", 100)
        assert mine.view[7] == 42
        process.kill()
    mine.close()
    assert not list(memory.iterdir())
    with holder(memory, "time.sleep(60)") as process:
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert len(list(memory.iterdir())) == 1
    fresh = SharedMemory.attach("another key", 10)
    assert list(memory.iterdir()) == [fresh.path]
    fresh.close()


@pytest.mark.parametrize("then", ["raise ValueError", "sys.exit(3)", "held.close()"])
def test_nothing_is_left_by_an_error(memory, then):
    with holder(memory, then) as process:
        process.stdout.readline()
    assert not list(memory.iterdir())


def test_without_room_or_place_memory_is_private(memory, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    for place in (memory, memory / "nowhere"):
        monkeypatch.setattr(shared_memory, "DIRECTORY", place)
        cache = RamCache(Reading(), SHAPE, "key")
        assert cache.memory is None
        take(cache, 1, 2)
        np.testing.assert_array_equal(take(cache, 2, 1), PICTURES[[2, 1]])
        assert cache.read.count == 2
        cache.close()
    assert not list(memory.iterdir())


@pytest.mark.long
@pytest.mark.parametrize(
    "mode,device,free,ram,kind",
    [
        ("auto", "cuda:0", 4.0, 1, "device"),
        ("auto", "cuda:0", 3.9, 1, "ram"),
        ("auto", "cuda:0", 3.9, 0.9, "none"),
        ("auto", "cpu", 9, 1, "ram"),
        ("auto", None, 9, 1, "ram"),
        ("none", "cuda:0", 9, 9, "none"),
        ("ram", "cuda:0", 9, 1, "ram"),
        ("ram", "cuda:0", 9, 0.9, "none"),
        ("device", "cuda:0", 1.5, 1, "device"),
        ("device", "cuda:0", 1.4, 1, "ram"),
        ("device", "cuda:0", 1.4, 0, "none"),
        ("device", "cpu", 0, 1, "device"),
    ],
)
def test_a_cache_is_chosen_by_the_memory_that_is_free(monkeypatch, mode, device, free, ram, kind):
    """Memory in units of the level: a quarter of a GPU's unasked, 70 % when asked for."""
    need = int(np.prod(SHAPE))
    create = device_cache.DeviceCache.try_create
    monkeypatch.setattr(device_cache, "free_device_bytes", lambda device: int(free * need) + 1)
    monkeypatch.setattr(device_cache.DeviceCache, "try_create", lambda read, shape, device: create(read, shape, "cpu"))
    cache = CachePolicy(mode, int(ram * need), device).create_cache(Reading(), SHAPE, "key")
    assert cache.kind == kind
    np.testing.assert_array_equal(np.asarray(take(cache, 5, 6, 5)), PICTURES[[5, 6, 5]])
    cache.close()


@pytest.mark.parametrize("mode", ["auto", "device"])
@pytest.mark.parametrize(("left", "kind"), [(0.41, "device"), (0.39, "ram")])
def test_a_gpu_keeps_more_where_training_has_enough(monkeypatch, mode, left, kind):
    """Beside the pictures, training may need 0.4 of what they take."""
    need, asked = int(np.prod(SHAPE)), []
    create = device_cache.DeviceCache.try_create
    monkeypatch.setattr(device_cache, "free_device_bytes", lambda device: int((1 + left) * need))
    monkeypatch.setattr(device_cache.DeviceCache, "try_create", lambda read, shape, device: create(read, shape, "cpu"))

    def needed(side):
        asked.append(side)
        return 0.4 * need

    caching = CachePolicy(mode, need, "cuda:0", needed=needed)
    with contextlib.closing(caching.create_cache(Reading(), SHAPE, "key")) as cache:
        assert cache.kind == kind
    assert asked == [SHAPE[-1]]


def test_a_device_out_of_memory_falls_back_to_ram(monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "empty", full)
    assert CachePolicy("device", 1 << 30, "cpu").create_cache(Reading(), SHAPE, "key").kind == "ram"


@pytest.mark.long
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("codec", codecs.CODECS)
def test_torchvision_decodes_as_pillow_does(codec, channels, monkeypatch):
    random = np.random.default_rng(channels)
    smooth = np.kron(random.integers(0, 256, (channels, 8, 8), np.uint8), np.ones((16, 16), np.uint8))
    image = (smooth // 2 + random.integers(0, 64, (channels, 128, 128))).astype(np.uint8)
    data = encode(image, codec, 90)
    monkeypatch.setattr(codecs, "FAST_DECODERS", {})
    pillow = decode(data, codec, channels, 128)
    assert codec == "jpeg" or np.array_equal(pillow, image)
    assert use_torchvision()
    assert set(codecs.FAST_DECODERS) == {"webp", "jpeg"}  # and PNG by Pillow
    np.testing.assert_array_equal(decode(data, codec, channels, 128), pillow)
    if codec != "raw":
        for damaged in (b"", data[: len(data) // 2], b"nothing" + data[7:]):
            with pytest.raises(ValueError, match=f"damaged {codec} record"):
                decode(damaged, codec, channels, 128)
    with pytest.raises(ValueError, match=r"cannot reshape|it holds 128x128 pixels"):
        decode(data, codec, channels, 64)
