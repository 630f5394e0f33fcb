"""PNGs that say how to make them again, and grids."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

import pggan
from pggan.generation.images import Grid, grid_image, read_metadata, write_pictures
from pggan.utils.errors import DataError, OutOfMemoryError, UsageError
from tests.helpers.model_files import saved


def test_pictures_and_their_metadata(tmp_path):
    path = saved(tmp_path / "m.safetensors")
    model = pggan.load(path, device="cpu")
    out = tmp_path / "out"
    written = write_pictures(model, [3, 700], out, grid=(2, 1), batch=1)
    names = list(written.names())
    assert sorted(p.name for p in out.iterdir()) == ["grid.png", *names]
    with Image.open(out / names[1]) as picture:
        assert np.array_equal(np.asarray(picture), model.generate([700])[0])
    about = read_metadata(out / names[1])
    assert about["seed"] == 700
    assert about["model"] == "m"
    assert about["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_metadata(written.grid)["seeds"] == "3,700"
    Image.new("RGB", (4, 4)).save(tmp_path / "other.png")
    with pytest.raises(DataError, match="not a picture that pggan generated"):
        read_metadata(tmp_path / "other.png")


def test_labels_are_recorded(tmp_path):
    model = pggan.load(saved(tmp_path / "c.safetensors", labels=3), device="cpu")
    free = write_pictures(model, range(6), tmp_path / "free")
    for name in free.names():
        about = read_metadata(tmp_path / "free" / name)
        with Image.open(tmp_path / "free" / name) as picture:
            again = model.generate([about["seed"]], label=about["class"]["number"])[0]
            assert np.abs(np.asarray(picture).astype(int) - again).max() <= 1
    chosen = write_pictures(model, [1], tmp_path / "chosen", label="kind2")
    name = next(iter(chosen.names()))
    assert name == "seed0000000001-class2.png"
    assert read_metadata(tmp_path / "chosen" / name)["class"] == {"number": 2, "name": "kind2"}


def test_grey_models_give_grey_files(tmp_path):
    model = pggan.load(saved(tmp_path / "g.safetensors", channels=1), device="cpu")
    written = write_pictures(model, [0], tmp_path / "out", grid=(1, 1))
    for path in (written.grid, tmp_path / "out" / next(iter(written.names()))):
        with Image.open(path) as picture:
            assert picture.mode == "L"


def test_grids():
    pictures = np.arange(5 * 2 * 2 * 1, dtype=np.uint8).reshape(5, 2, 2, 1)
    grid = grid_image(pictures, 3, 2)
    assert grid.shape == (4, 6, 1)
    assert np.array_equal(grid[2:, 2:4], pictures[4])
    assert grid[2:, 4:].max() == 0
    with pytest.raises(UsageError, match="do not fit"):
        grid_image(pictures, 2, 2)
    large = Grid(10, 10, 1024, 3)
    assert max(large.image.shape) <= 4096
    large.add(np.full((101, 1024, 1024, 3), 7, np.uint8))
    assert large.filled == 100
    assert (large.image == 7).all()


def test_a_file_in_the_way(tmp_path):
    model = pggan.load(saved(tmp_path / "m.safetensors"), device="cpu")
    with pytest.raises(UsageError, match="is a file, not a folder"):
        write_pictures(model, [0], tmp_path / "m.safetensors" / "inner")


@pytest.mark.parametrize("room", [3, 1])
def test_a_batch_that_memory_is_short_of_is_halved(tmp_path, monkeypatch, room):
    model = pggan.load(saved(tmp_path / "m.safetensors"), device="cpu")
    expected, network, sizes = model.generate(range(11)), model.file.generator.forward, []

    def narrow(latents, *rest):
        sizes.append(len(latents))
        if len(latents) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return network(latents, *rest)

    monkeypatch.setattr(model.file.generator, "forward", narrow)
    # one picture at a time is computed by other kernels: rounding may turn a value by one
    assert np.abs(model.generate(range(11)).astype(int) - expected).max() <= 1
    assert max(sizes[4:]) <= room
    with pytest.raises(OutOfMemoryError, match="with 8 pictures at a time"):
        model.generate(range(11), batch=8)  # as it was asked for


def test_memory_for_no_picture_at_all(tmp_path, monkeypatch):
    model = pggan.load(saved(tmp_path / "m.safetensors"), device="cpu")

    def none(*_):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(model.file.generator, "forward", none)
    with pytest.raises(OutOfMemoryError, match="with 1 pictures at a time"):
        model.generate(range(5))
