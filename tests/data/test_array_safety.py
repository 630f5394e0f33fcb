"""HDF5, .npz and .npy: only data in the file itself, cut files, and which of several arrays is read."""

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from pggan.cli import run
from pggan.data.sources import open_source
from pggan.data.sources.array_choice import label_names
from pggan.data.sources.arrays import NpzSource
from pggan.data.sources.base import BadImage
from pggan.utils.errors import DataError, UsageError
from tests.helpers.source_files import ARRAYS, CLASSES, COUNT, GREY, assert_portraits, read_all, stored

SECRET = b"SECRET-KEY-0123456789abcdefghij!" * 64
LABELS = [str(c) for c in CLASSES]


def external(file, folder):
    (folder / "secret.bin").write_bytes(SECRET)
    file.create_dataset("pictures", (8, 16, 16), "u1", external=[(str(folder / "secret.bin"), 0, len(SECRET))])


def virtual(file, folder):
    other(folder)
    layout = h5py.VirtualLayout((COUNT, 32, 32, 3), "u1")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "images", ARRAYS.shape)
    file.create_virtual_dataset("pictures", layout)


def unlimited(file, folder):
    """The extent of this virtual data set comes from the other file."""
    other(folder)
    layout = h5py.VirtualLayout((COUNT, 32, 32, 3), "u1", maxshape=(None, 32, 32, 3))
    source = h5py.VirtualSource(str(folder / "other.h5"), "images", ARRAYS.shape, maxshape=(None, 32, 32, 3))
    layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
    file.create_virtual_dataset("pictures", layout)


def a_link(file, folder):
    other(folder)
    file["pictures"] = h5py.ExternalLink(str(folder / "other.h5"), "images")


def a_group(file, folder):
    other(folder)
    file["train"] = h5py.ExternalLink(str(folder / "other.h5"), "/")


def other(folder):
    with h5py.File(folder / "other.h5", "w") as file:
        file.create_dataset("images", data=ARRAYS, maxshape=(None, 32, 32, 3))
        file["labels"] = CLASSES


@pytest.mark.parametrize("write", [external, virtual, unlimited, a_link, a_group])
def test_an_hdf5_whose_pictures_lie_in_another_file_is_refused(write, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file, tmp_path)
    with pytest.raises(DataError, match=r"a\.h5: (pictures|train) lies in another file .*h5repack"):
        open_source(str(tmp_path / "a.h5"))


@pytest.mark.parametrize("write", [external, virtual, a_link])
def test_an_hdf5_with_masks_of_its_own_does_not_hide_pictures_elsewhere(write, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file, tmp_path)
        file["masks"] = ARRAYS
    with pytest.raises(DataError, match="lies in another file"):
        open_source(str(tmp_path / "a.h5"))


@pytest.mark.parametrize("wrap", ["link", "soft link", "group", "external"])
def test_labels_in_another_file_are_not_read(wrap, tmp_path):
    other(tmp_path)
    outside = h5py.ExternalLink(str(tmp_path / "other.h5"), "labels")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = ARRAYS
        if wrap == "external":
            (tmp_path / "secret.bin").write_bytes(SECRET)
            file.create_dataset("labels", (COUNT,), "u1", external=[(str(tmp_path / "secret.bin"), 0, COUNT)])
        elif wrap == "group":
            file["meta"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/")
            file["labels"] = h5py.SoftLink("/meta/labels")
        else:
            file["labels" if wrap == "link" else "far"] = outside
            if wrap == "soft link":
                file["labels"] = h5py.SoftLink("/far")
    if wrap in ("link", "external"):
        with pytest.raises(DataError, match=r"a\.h5: labels lies in another file"):
            open_source(str(tmp_path / "a.h5"))
    else:
        assert not open_source(str(tmp_path / "a.h5")).label_columns


def test_an_hdf5_loads_no_plugins(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = ARRAYS
    code = (
        "import sys; from pggan.data.sources import open_source; s = open_source(sys.argv[1]); import os, h5py; "
        "print(len(s), h5py.h5pl.size(), os.environ.get('HDF5_PLUGIN_PATH'), os.environ['HDF5_PLUGIN_PRELOAD'])"
    )
    environment = {**os.environ, "HDF5_PLUGIN_PATH": str(tmp_path)}
    command = [sys.executable, "-c", code, str(tmp_path / "a.h5")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == [str(COUNT), "0", "None", "::"]


def test_an_hdf5_with_other_filters_or_missing_pieces_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images", data=ARRAYS, chunks=(1, 32, 32, 3), scaleoffset=0)
    with pytest.raises(
        DataError, match=r"compressed in a way that is not read \(\[6\]\); copy it with h5repack -f GZIP"
    ):
        open_source(str(tmp_path / "a.h5"))
    with h5py.File(tmp_path / "b.h5", "w") as file:
        images = file.create_dataset("images", ARRAYS.shape, "u1", chunks=(1, 32, 32, 3), compression="gzip")
        images[:5] = ARRAYS[:5]
    with pytest.raises(DataError, match="images: 5 of its 12 pieces are there"):
        open_source(str(tmp_path / "b.h5"))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunks": (5, 8, 32, 2), "compression": "gzip", "shuffle": True, "fletcher32": True},
        {"chunks": True, "compression": "lzf"},
        {"chunks": (1, 32, 32, 3), "fletcher32": True},
    ],
)
def test_an_hdf5_is_read_however_it_is_stored(options, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=512 * (not options)) as file:
        file.create_dataset("train/images", data=ARRAYS, **options)
        file.create_dataset("train/labels", data=CLASSES, **({} if not options else {"compression": "gzip"}))
        file["train/masks"] = ARRAYS[::-1]
    assert_portraits(tmp_path / "a.h5", tmp_path, LABELS)
    assert open_source(str(tmp_path / "a.h5")).remark == (
        "read train/images; passed over train/masks (--dataset NAME chooses)"
    )


def write_h5(path, arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


@pytest.mark.parametrize("ending, save", [("h5", write_h5), ("npz", lambda path, arrays: np.savez(path, **arrays))])
def test_names_that_say_pictures_win(ending, save, tmp_path):
    path = tmp_path / f"a.{ending}"
    save(path, {"masks": ARRAYS[::-1], "images": ARRAYS, "zebra": ARRAYS[::-1], "label": np.array(CLASSES)})
    assert_portraits(path, tmp_path, LABELS)
    assert open_source(str(path)).remark == "read images; passed over masks, zebra (--dataset NAME chooses)"
    levels, _ = stored(path, tmp_path / "masks", dataset="masks")
    np.testing.assert_array_equal(levels[32][0], ARRAYS[-1].transpose(2, 0, 1))
    with pytest.raises(DataError, match=r"has no pictures 'mask' \(--dataset\); it has .*masks"):
        open_source(str(path), dataset="mask")
    save(path, {"seg_masks": ARRAYS[::-1], "data": ARRAYS})
    assert_portraits(path, tmp_path)


def test_labels_belong_to_their_split(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=ARRAYS, y_train=CLASSES, x_test=ARRAYS, y_test=[c + 1 for c in CLASSES])
    assert_portraits(tmp_path / "a.npz", tmp_path, LABELS)
    assert_portraits(tmp_path / "a.npz", tmp_path, [str(c + 1) for c in CLASSES], dataset="x_test")
    np.savez(tmp_path / "b.npz", x_train=ARRAYS, y_train=CLASSES, x_test=ARRAYS)
    assert_portraits(tmp_path / "b.npz", tmp_path, dataset="x_test")
    assert label_names("train/images")[0] == "y"


def test_labels_that_cannot_be_read_are_named(tmp_path):
    np.savez(tmp_path / "a.npz", images=ARRAYS, labels=np.linspace(0, 1, COUNT))
    assert NpzSource(str(tmp_path / "a.npz")).remark == "labels holds no labels that can be read"
    np.savez(tmp_path / "a.npz", images=ARRAYS, labels=np.array([float("nan"), *CLASSES[1:]]))
    assert_portraits(tmp_path / "a.npz", tmp_path, [None, *LABELS[1:]])


@pytest.mark.parametrize("grey", [False, True])
def test_matlab_files_are_read_with_their_axes_turned(grey, tmp_path):
    path = tmp_path / "a.mat"
    tall = np.concatenate([ARRAYS, ARRAYS[:, ::-1]], axis=1)[..., 0:1] if grey else np.concatenate([ARRAYS] * 2, axis=1)
    with h5py.File(path, "w", userblock_size=512) as file:
        turned = tall[..., 0].transpose(0, 2, 1) if grey else tall.transpose(0, 3, 2, 1)  # MATLAB's H x W x C x N
        file.create_dataset("X", data=turned).attrs["MATLAB_class"] = np.bytes_("uint8")
        file.create_dataset("y", data=np.array([CLASSES], float)).attrs["MATLAB_class"] = np.bytes_("double")
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM")
    source = open_source(str(path))
    images = read_all(source)
    assert source.channels == (1 if grey else 3)
    np.testing.assert_array_equal(np.stack([image.image for image in images]), tall)
    assert [image.labels for image in images] == [(c,) for c in CLASSES]
    path.write_bytes(b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\1IM")
    with pytest.raises(DataError, match=r"is a MATLAB file of an older format; save it in MATLAB with '-v7\.3'"):
        open_source(str(path))


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_npy_cut_short_while_it_is_read_ends_with_one_line(order, tmp_path):
    np.save(tmp_path / "a.npy", np.asarray(ARRAYS, order=order))
    source = open_source(str(tmp_path / "a.npy"))
    refs, reader = list(source.refs()), source.reader(32, 0)
    if order == "C":
        reader.read(refs[0], 3)
    os.truncate(tmp_path / "a.npy", 5000)
    message = r"a\.npy was cut short while it was read" if order == "C" else r"is not a whole array of pictures"
    with pytest.raises(DataError, match=message):
        reader.read(refs[-1], 3)


def test_arrays_that_are_pipes_are_not_waited_for(tmp_path):
    for i in range(2):
        np.save(tmp_path / f"{i}.npy", ARRAYS[i])
    os.mkfifo(tmp_path / "2.npy")
    source = open_source(str(tmp_path))
    with pytest.raises(BadImage, match="not a file"):
        source.reader(32, 0).read(list(source.refs())[2], 3)


def test_the_command_says_what_it_passed_over(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", images=GREY, masks=GREY)
    arguments = ["prepare-data", str(tmp_path / "a.npz"), str(tmp_path / "data"), "--workers", "1"]
    for dry in (["--dry-run"], []):
        assert run([*arguments, *dry]) == 0
        assert "note: read images; passed over masks (--dataset NAME chooses)" in capsys.readouterr().out
    assert run([*arguments, "--dataset", "masks", "--overwrite"]) == 0
    assert "note: read masks; passed over images" in capsys.readouterr().out
    np.save(tmp_path / "a.npy", GREY)
    with pytest.raises(UsageError, match=r"--dataset does not go with .*a\.npy, a \.npy array of pictures"):
        open_source(str(tmp_path / "a.npy"), dataset="x")
