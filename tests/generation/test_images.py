"""PNG files with metadata that says how to generate them again; grids; memory that runs out."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

import pggan
from pggan.data.label_columns import LabelColumn
from pggan.generation.grid import Grid, grid_image
from pggan.generation.images import read_metadata, write_images
from pggan.generation.labels import LabelSpace
from pggan.utils.errors import DataError, OutOfMemoryError, UsageError
from tests.helpers.model_files import saved


def test_an_image_file_holds_the_image_of_its_seed_and_says_which_model_made_it(tmp_path):
    path = saved(tmp_path / "m.safetensors")
    model = pggan.load(path, device="cpu")
    out = tmp_path / "out"
    written = write_images(model, [3, 700], out, grid=(2, 1), batch=1)
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


def test_the_recorded_class_makes_the_same_image_again(tmp_path):
    model = pggan.load(saved(tmp_path / "c.safetensors", labels=3), device="cpu")
    free = write_images(model, range(6), tmp_path / "free")
    for name in free.names():
        about = read_metadata(tmp_path / "free" / name)
        with Image.open(tmp_path / "free" / name) as picture:
            again = model.generate([about["seed"]], label=about["class"]["number"])[0]
            assert np.abs(np.asarray(picture).astype(int) - again).max() <= 1
    chosen = write_images(model, [1], tmp_path / "chosen", label="kind2")
    name = next(iter(chosen.names()))
    assert name == "seed0000000001-kind2.png"
    assert read_metadata(tmp_path / "chosen" / name)["class"] == {"number": 2, "name": "kind2"}


def test_a_grey_model_writes_grey_files(tmp_path):
    model = pggan.load(saved(tmp_path / "g.safetensors", channels=1), device="cpu")
    written = write_images(model, [0], tmp_path / "out", grid=(1, 1))
    for path in (written.grid, tmp_path / "out" / next(iter(written.names()))):
        with Image.open(path) as picture:
            assert picture.mode == "L"


def test_a_grid_is_filled_row_by_row_and_black_where_images_are_missing():
    images = np.arange(5 * 2 * 2 * 1, dtype=np.uint8).reshape(5, 2, 2, 1)
    grid = grid_image(images, 3, 2)
    assert grid.shape == (4, 6, 1)
    assert np.array_equal(grid[2:, 2:4], images[4])
    assert grid[2:, 4:].max() == 0
    with pytest.raises(UsageError, match="5 pictures do not fit a grid of 2x2"):
        grid_image(images, 2, 2)


@pytest.mark.long
def test_a_grid_of_large_images_is_shrunk_and_leaves_out_what_is_beyond_its_tiles():
    large = Grid(5, 5, 1024, 3)
    assert max(large.image.shape) <= 4096
    large.add(np.full((26, 1024, 1024, 3), 7, np.uint8))
    assert large.filled == 25
    assert (large.image == 7).all()


def test_a_file_in_the_way_of_the_folder_is_refused(tmp_path):
    model = pggan.load(saved(tmp_path / "m.safetensors"), device="cpu")
    with pytest.raises(UsageError, match="is a file, not a folder"):
        write_images(model, [0], tmp_path / "m.safetensors" / "inner")


@pytest.mark.long
@pytest.mark.parametrize("capacity", [3, 1])
def test_batches_that_do_not_fit_the_memory_are_halved(tmp_path, monkeypatch, capacity):
    model = pggan.load(saved(tmp_path / "m.safetensors"), device="cpu")
    expected, network, sizes = model.generate(range(11)), model.file.generator.forward, []

    def narrow(latents, *rest):
        sizes.append(len(latents))
        if len(latents) > capacity:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return network(latents, *rest)

    monkeypatch.setattr(model.file.generator, "forward", narrow)
    # one image at a time is computed by other kernels: rounding may turn a value by one
    assert np.abs(model.generate(range(11)).astype(int) - expected).max() <= 1
    assert max(sizes[4:]) <= capacity
    with pytest.raises(OutOfMemoryError, match="with 8 pictures at a time"):
        model.generate(range(11), batch=8)


@pytest.mark.long
def test_memory_for_not_even_one_image_is_an_error(tmp_path, monkeypatch):
    model = pggan.load(saved(tmp_path / "m.safetensors"), device="cpu")

    def none(*_):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(model.file.generator, "forward", none)
    with pytest.raises(OutOfMemoryError, match="with one picture at a time; free memory"):
        model.generate(range(5))


@pytest.mark.parametrize(
    "classes,number,word",
    [
        (["pale", "dark"], 1, "-dark"),
        (["sehr dunkel/ä", "hell"], 0, "-sehr_dunkel_ä"),
        (["a" * 99, "b"], 0, "-" + "a" * 40),
        (["Dark", "dark!"], 1, "-class1"),  # not unique, on some file systems
        (["???", "x"], 0, "-class0"),
        (["0", "1"], 1, "-class1"),
        (["1998", "1999"], 1, "-1999"),
        (["x", "raw"], 1, "-class1"),  # as of --raw
        (["x", "code0_3"], 1, "-class1"),
    ],
)
def test_files_have_the_users_words(classes, number, word):
    space = LabelSpace((LabelColumn("hair", tuple(classes)),))
    assert space.file_name((number,)) == word
    assert space.file_name(()) == ""


def test_files_name_the_columns_where_there_are_several():
    space = LabelSpace((LabelColumn("hair", ("dark", "blond")), LabelColumn("my beard", ("none", "full"))))
    assert space.file_name((1, None)) == "-hair-blond"
    assert space.file_name((0, 1)) == "-hair-dark-my_beard-full"
