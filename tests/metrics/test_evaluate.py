"""Evaluation: cached states of real images, image sets of all kinds, copies and duplicates detected."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pggan.config.metrics import METRICS, chosen
from pggan.data.store.store import Store
from pggan.metrics import neighbours
from pggan.metrics.base import Setting
from pggan.metrics.cache import Cache
from pggan.metrics.evaluate import batch_size, compare, evaluate_model
from pggan.metrics.image_sets import GeneratedImages, StoreImages, open_images
from pggan.metrics.neighbour_grid import write_neighbour_grid
from pggan.utils.errors import DataError, UsageError
from tests.helpers.lmdb_contents import write


@pytest.fixture(scope="module")
def store_path(tmp_path_factory):
    codecs = dict.fromkeys((4, 8, 16, 32), "raw")
    return write(tmp_path_factory.mktemp("data") / "store", list(range(24)), codecs)


def noise(side, channels=3):
    def generate(seeds):
        return np.stack([np.random.default_rng(s).integers(0, 256, (side, side, channels), np.uint8) for s in seeds])

    return GeneratedImages(generate, side, channels)


def test_metrics_are_chosen_by_unique_known_names_and_load_under_them():
    assert chosen("swd, msssim") == ["swd", "msssim"]
    for text, message in (("swd,swd", "twice"), ("swed", "did you mean 'swd'"), ("", "no metric")):
        with pytest.raises(UsageError, match=message):
            chosen(text)
    means = lambda images: {}  # noqa: E731
    means.identity = "means"
    setting = Setting(16, 3, embeddings={"inception": means, "embedding": means})
    for spec in METRICS:
        assert METRICS.load(spec.name)(setting, spec.needs).name == spec.name


@pytest.mark.long
def test_states_of_real_images_are_cached_and_damaged_ones_computed_again(store_path, tmp_path):
    reals, fakes, names = open_images(str(store_path), 32), noise(32), "swd,neighbours"
    cache = Cache(tmp_path / "cache")
    first = compare(fakes, reals, names, count=16, cache=cache)
    again = compare(fakes, reals, names, count=16, cache=cache)
    assert first.reals.cached == []
    assert again.reals.cached == ["swd", "neighbours"]
    assert again.figures == pytest.approx(first.figures, rel=1e-9)
    other = compare(fakes, reals, names, count=16, cache=cache, seed=1)
    assert other.reals.cached == ["neighbours"]  # patches depend on the seed, the pixels do not
    for path in (tmp_path / "cache").iterdir():
        data = bytearray(path.read_bytes())
        data[-9] ^= 255  # one byte
        path.write_bytes(data)
    damaged = compare(fakes, reals, names, count=16, cache=cache)
    assert damaged.reals.cached == []
    assert damaged.figures == pytest.approx(first.figures, rel=1e-9)
    assert compare(fakes, reals, names, count=16, cache=cache).reals.cached == ["swd", "neighbours"]


def test_cached_states_of_other_images_are_stale(tmp_path):
    codecs = dict.fromkeys((4, 8, 16), "raw")
    cache = Cache(tmp_path / "cache")
    write(tmp_path / "one", list(range(8)), codecs)
    write(tmp_path / "two", list(range(8, 17)), codecs)
    comparisons = [
        compare(noise(16), open_images(str(tmp_path / name)), "swd", count=8, cache=cache) for name in ("one", "two")
    ]
    assert [comparison.reals.cached for comparison in comparisons] == [[], []]
    assert comparisons[0].figures != comparisons[1].figures
    assert Cache.beside(tmp_path / "one").folder == (tmp_path / "one.metrics").resolve()


def test_a_generator_is_evaluated_against_a_store_in_one_call(store_path, tmp_path):
    with Store(store_path) as store:
        figures = evaluate_model(
            lambda seeds: noise(16).read(seeds).transpose(0, 2, 3, 1), store, 16, ["swd"], 12, cache=tmp_path / "cache"
        )
    assert {"swd", "swd_16"} <= figures.keys()
    assert figures["swd"] == figures["swd_16"] > 50


def test_copies_of_training_images_and_mode_collapse_are_detected(store_path, tmp_path):
    with Store(store_path) as store:
        reals = StoreImages(store, 32)
        training = store.read(32, range(24)).transpose(0, 2, 3, 1)
        copies = GeneratedImages(lambda seeds: training[[seed % 24 for seed in seeds]], 32, 3)
        collapsed = GeneratedImages(lambda seeds: noise(32).read([0] * len(seeds)).transpose(0, 2, 3, 1), 32, 3)
        held = GeneratedImages(lambda seeds: training[[seed % 12 + 12 for seed in seeds]], 32, 3)

        comparison = compare(copies, reals, "neighbours", count=24)
        assert comparison.figures["copied"] == 1
        assert comparison.figures["nearest_ratio"] < 0.01
        assert comparison.figures["duplicates"] == 0
        shown = write_neighbour_grid(tmp_path / "grid.png", comparison, copies, reals, k=2)
        sheet = np.asarray(Image.open(tmp_path / "grid.png"))
        assert sheet.shape == (12 * 64, 3 * 64 + 4, 3)
        np.testing.assert_array_equal(sheet[:, :64], sheet[:, 68:132])  # every image beside itself
        assert len(set(shown)) == 12

        assert compare(collapsed, reals, "neighbours", count=10).figures["duplicates"] == 1
        assert compare(collapsed, reals, "neighbours", count=10).figures["copied"] == 0
        assert compare(held, reals, "neighbours", count=24).figures["duplicates"] == 1


def test_neighbours_and_pairs_do_not_depend_on_the_chunks(monkeypatch):
    rng = np.random.default_rng(0)
    rows, others = (torch.tensor(rng.normal(size=(count, 5)), dtype=torch.float32) for count in (23, 31))
    rows[7] = rows[20]
    distances = torch.cdist(rows.double(), others.double())
    for size in (4096, 6):
        monkeypatch.setattr(neighbours, "CHUNK_ROWS", size)
        near, where = neighbours.nearest(rows, others, 3, torch.device("cpu"))
        np.testing.assert_allclose(near, distances.topk(3, largest=False).values, atol=1e-5)
        np.testing.assert_array_equal(where, distances.topk(3, largest=False).indices)
        within = torch.cdist(rows.double(), rows.double()).fill_diagonal_(9) <= 1.0
        having, pairs = neighbours._pairs_within(rows, 1.0, torch.device("cpu"))
        assert having == pytest.approx(float(within.any(1).double().mean()))
        assert pairs == pytest.approx(float(within.sum()) / (23 * 22))


def test_an_exception_of_check_ends_the_evaluation_between_batches(store_path):
    reals, calls = open_images(str(store_path), 32), []

    def check():
        calls.append(1)
        if len(calls) == 4:
            raise InterruptedError("stopped")

    with pytest.raises(InterruptedError, match="stopped"):
        compare(noise(32), reals, "swd", count=200, check=check)


def folder(path, side, count=6, mode="RGB"):
    path.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        image = Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).convert(mode)
        image.save(path / f"{number}.png")
    return str(path)


def test_two_folders_of_images_are_compared(tmp_path):
    one, two = folder(tmp_path / "one", 32), folder(tmp_path / "two", 32)
    assert compare(open_images(one), open_images(two), "swd,msssim").figures["swd"] == 0  # the same pictures
    small = compare(open_images(one, 16), open_images(two, 16), "swd").figures
    assert next(iter(small)) == "swd_16"
    grey = folder(tmp_path / "grey", 32, mode="L")
    assert open_images(grey).read([0]).shape == (1, 1, 32, 32)


def test_sets_of_other_sizes_colours_or_too_few_images_are_refused(tmp_path, store_path):
    reals = open_images(str(store_path), 32)
    small, grey = folder(tmp_path / "small", 16), folder(tmp_path / "grey", 32, mode="L")
    few, odd = folder(tmp_path / "few", 32, 1), folder(tmp_path / "odd", 24)
    for other, names, count, message in (
        (open_images(small), "swd", None, "16x16.*32x32"),
        (open_images(grey), "swd", None, "grey.*colour"),
        (open_images(few), "swd", None, "2 pictures at least"),
        (noise(32), "fid", 8, "--inception-weights"),
        (open_images(few), "msssim", 4, "--n 4"),
        (noise(32), "msssim", 0, "2 pictures at least; there are 0 generated"),
    ):
        with pytest.raises(UsageError, match=message):
            compare(other, reals, names, count=count)
    with pytest.raises(DataError, match="24x24"):
        open_images(odd)
    with pytest.raises(DataError, match="64x64"):
        open_images(str(store_path), 64)


@pytest.mark.parametrize("device,sizes", [("cpu", [64, 64, 16, 4, 2, 2]), ("cuda", [64, 64, 64, 64, 16, 4])])
def test_batches_are_sized_by_memory_at_every_resolution(device, sizes):
    resolutions = [16, 128, 256, 512, 1024, 2048]
    settings = [Setting(resolution, 3, device=torch.device(device)) for resolution in resolutions]
    assert [batch_size(setting) for setting in settings] == sizes
