"""idx files and NumPy arrays as sources."""

import gzip
import struct

import numpy as np
import pytest

from pggan.data.sources import open_source
from pggan.utils.errors import DataError
from tests.helpers.image_files import encoded, portrait
from tests.helpers.source_files import (
    ARRAYS,
    CLASSES,
    COUNT,
    GREY,
    assert_portraits,
    idx_bytes,
    reasons,
    stored,
    write_idx,
)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_files_are_read_with_their_labels(tmp_path, ending):
    folder = write_idx(tmp_path / "mnist", [("t10k", slice(8, 12), True), ("train", slice(0, 8), True)], ending)
    names = [(str(c),) for c in CLASSES]
    for part in (slice(0, 12), slice(8, 12)):
        source = folder if part.start == 0 else folder / f"t10k-images-idx3-ubyte{ending}"
        levels, rows = stored(source, tmp_path / f"data{part.start}")
        np.testing.assert_array_equal(levels[32][:, 0], GREY[part])
        assert rows == names[part]
    assert not any(reasons(open_source(str(folder))))


def test_idx_beside_its_own_gzip_counts_once(tmp_path):
    for ending in ("", ".gz"):
        write_idx(tmp_path / "mnist", [("train", slice(0, 8), True)], ending)
    assert len(open_source(str(tmp_path / "mnist"))) == 8


def test_labels_that_a_part_of_idx_lacks_are_unknown(tmp_path):
    folder = write_idx(tmp_path / "mnist", [("t10k", slice(8, 12), False), ("train", slice(0, 8), True)])
    _, rows = stored(folder, tmp_path / "data")
    assert rows == [(str(c),) for c in CLASSES[:8]] + [(None,)] * 4


@pytest.mark.parametrize(
    "data, message",
    [
        (idx_bytes(GREY)[:-1], "is not a whole idx file .*; copy it again"),
        (idx_bytes(GREY)[:9], "is not a whole idx file"),
        (gzip.compress(idx_bytes(GREY))[:-20], "is not a whole idx file"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), "absurdly large"),
        (idx_bytes(GREY[:0]), "holds no pictures"),
        (idx_bytes(GREY[:, :0]), "holds no pictures"),
    ],
)
def test_damaged_idx_files_are_refused(tmp_path, data, message):
    (tmp_path / "a-images-idx3-ubyte").write_bytes(data)
    with pytest.raises(DataError, match=message):
        open_source(str(tmp_path / "a-images-idx3-ubyte"))


def test_idx_files_that_do_not_fit_are_refused(tmp_path):
    folder = write_idx(tmp_path / "mnist", [("train", slice(0, 8), True)], "")
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(CLASSES))
    with pytest.raises(DataError, match="has 12 labels for 8 pictures"):
        open_source(str(folder))
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(GREY[:, :16]))
    with pytest.raises(DataError, match="pictures of several sizes; name one file"):
        open_source(str(folder))


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 3, 1, 2)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_npy_of_all_pictures_is_read_in_any_layout(tmp_path, axes, order):
    np.save(tmp_path / "a.npy", np.asarray(ARRAYS.transpose(axes), order=order))
    assert_portraits(tmp_path / "a.npy", tmp_path)
    np.save(tmp_path / "a-labels.npy", np.array(["b", "a", ""])[CLASSES])
    assert_portraits(tmp_path / "a.npy", tmp_path, [["b", "a", None][c] for c in CLASSES])
    assert not any(reasons(open_source(str(tmp_path / "a.npy"))))


def test_an_npy_may_be_grey_or_have_an_alpha_channel(tmp_path):
    np.save(tmp_path / "a.npy", GREY)
    levels, _ = stored(tmp_path / "a.npy", tmp_path / "grey")
    np.testing.assert_array_equal(levels[32][:, 0], GREY)
    np.save(tmp_path / "b.npy", np.concatenate([ARRAYS, np.full((COUNT, 32, 32, 1), 255, np.uint8)], 3))
    assert_portraits(tmp_path / "b.npy", tmp_path)


@pytest.mark.parametrize(
    "array, message",
    [
        (ARRAYS.astype(np.float32), r"a\.npy is float32 of shape \(12, 32, 32, 3\); pictures are uint8"),
        (ARRAYS[0], r"of shape \(32, 32, 3\)"),  # one picture, not 32 of 32x3
        (ARRAYS[0].transpose(2, 0, 1), "pictures are uint8"),
        (ARRAYS[:0], "pictures are uint8"),
        (ARRAYS[:, :0], "pictures are uint8"),
        (np.zeros((2, 5, 6, 7), np.uint8), "pictures are uint8"),
        (np.array([{"a": 1}], dtype=object), "is not a whole array of pictures"),
    ],
)
def test_an_npy_of_something_else_is_refused(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=message):
        open_source(str(tmp_path / "a.npy"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "images, labels", [("x_train", "y_train"), ("train_images", "train_labels"), ("arr_0", "none")]
)
def test_the_largest_array_of_an_npz_is_read(tmp_path, save, images, labels):
    path = tmp_path / "a.npz"
    save(path, **{images: ARRAYS, "x_test": ARRAYS[:3], labels: np.array(CLASSES)[:, None]})
    assert_portraits(path, tmp_path, None if labels == "none" else [str(c) for c in CLASSES])
    assert not any(reasons(open_source(str(path))))


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"a": ARRAYS / 255}, r"no array of pictures \(a: float64 \(12, 32, 32, 3\)\); pictures are uint8 from 0"),
        ({"a": np.asfortranarray(ARRAYS)}, "in Fortran's order; save them with np.ascontiguousarray"),
        ({"a": ARRAYS, "y": np.array(["a"] * COUNT, object)}, r"y\.npy holds pickled objects, which are never loaded"),
        ({"a": np.array([{}] * COUNT, object)}, "no array of pictures"),
        ({f"a{i}": each[None] for i, each in enumerate(np.tile(ARRAYS, (2, 1, 1, 1)))}, "24 arrays, .*; unpack it"),
    ],
)
def test_an_npz_of_something_else_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        open_source(str(tmp_path / "a.npz"))


def write_arrays(folder, first=0):
    folder.mkdir()
    for i in range(COUNT):
        np.save(folder / f"imgHQ{i + first:05d}.npy", ARRAYS[i].transpose(2, 0, 1)[None])
    return folder


def test_a_folder_of_arrays_is_read_in_natural_order(tmp_path):
    folder = write_arrays(tmp_path / "arrays")
    (folder / "readme.txt").write_text("hello")
    (folder / "preview.png").write_bytes(encoded(portrait(0)))
    assert_portraits(folder, tmp_path)
    (folder / "labels.csv").write_text("name,kind\n" + "".join(f"imgHQ{i:05d},k{c}\n" for i, c in enumerate(CLASSES)))
    assert_portraits(folder, tmp_path, [f"k{c}" for c in CLASSES])


def test_bad_arrays_do_not_stop_the_others(tmp_path):
    folder = write_arrays(tmp_path / "arrays")
    (folder / "imgHQ00003.npy").write_bytes((folder / "imgHQ00003.npy").read_bytes()[:-100])
    np.save(folder / "imgHQ00004.npy", ARRAYS[4] / 255)
    np.save(folder / "imgHQ00005.npy", ARRAYS)
    np.save(folder / "imgHQ00006.npy", np.array([{}], object))
    (folder / "imgHQ00007.npy").unlink()
    (folder / "imgHQ00007.npy").mkdir()
    bad = {i: reason for i, reason in enumerate(reasons(open_source(str(folder)))) if reason}
    assert list(bad) == [3, 4, 5, 6, 7]
    assert bad[3].startswith("not a whole array (")
    assert bad[4] == "an array of float64; pictures are uint8 from 0 to 255"
    assert bad[5] == "an array of shape (12, 32, 32, 3), which is no picture"
    assert_portraits(folder, tmp_path, indices=[0, 1, 2, 8, 9, 10, 11])


def test_an_idx_folder_of_several_data_sets_is_refused(tmp_path):
    names = ("letters-train", "letters-test", "digits-train")
    folder = write_idx(tmp_path / "emnist", [(name, slice(0, 4), True) for name in names])
    with pytest.raises(DataError, match=r"holds several data sets .*name one file, or put each into its own folder"):
        open_source(str(folder))
    for path in folder.glob("digits*"):
        path.unlink()
    assert len(open_source(str(folder))) == 8
