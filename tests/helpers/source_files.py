"""Image sources of every format for tests, and what a store of them must hold."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import shutil
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.data.sources.base import BadImage
from pggan.data.store.pyramid import pyramid
from pggan.data.store.store import Store
from tests.helpers.image_files import encoded, portrait

FIXTURES = Path(__file__).parents[1] / "fixtures/data"
COUNT = 12  # past 9: natural order is not text order
ARRAYS = np.stack([np.asarray(portrait(i)) for i in range(COUNT)])  # (N, 32, 32, 3)
GREY = np.stack([np.asarray(portrait(i).convert("L")) for i in range(COUNT)])  # (N, 32, 32)
CLASSES = [i % 3 for i in range(COUNT)]
# Hugging Face's type of an image column
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def stored(source, dest, **options):
    """Prepares a store; returns its levels by side, and the names of each image's classes (None: unknown)."""
    prepare(str(source), dest, PrepareOptions(**options))
    with Store(dest) as store:
        levels = {side: store.read(side, range(len(store))) for side in store.resolutions}
        columns = store.manifest.labels
        rows = [tuple(c.classes[n] if n >= 0 else None for c, n in zip(columns, row)) for row in store.labels]
    return levels, rows


def assert_same_levels(levels, expected):
    assert sorted(levels) == sorted(expected)
    for side in expected:
        np.testing.assert_array_equal(levels[side], expected[side])


def assert_portraits(source, tmp_path, names=None, indices=range(COUNT), **options):
    """A store of the source holds these portraits in their order, at all levels, with these labels."""
    levels, rows = stored(source, tmp_path / "data", **options)
    pyramids = [pyramid(ARRAYS[i]) for i in indices]
    assert pyramids
    assert_same_levels(levels, {side: np.stack([one[side] for one in pyramids]) for side in pyramids[0]})
    assert rows == ([(name,) for name in names] if names else [()] * len(pyramids))
    shutil.rmtree(tmp_path / "data")


def read_all(source):
    """Reads all images with a reader and references that were pickled, as for another process; errors as texts."""
    reader = pickle.loads(pickle.dumps(source.reader(32, 0)))
    images = []
    for ref in source.refs():
        try:
            image = reader.read(pickle.loads(pickle.dumps(ref)), source.channels or 3)
            assert reader.size(ref) == image.image.shape[1::-1]
            images.append(image)
        except BadImage as bad:
            images.append(str(bad))
    assert len(images) == len(source)
    assert len(list(source.sample(3, len(source)))) <= 3
    return images


def reasons(source):
    """Returns why each image is bad, None for the others."""
    return [image if isinstance(image, str) else None for image in read_all(source)]


def rows_of(indices=range(COUNT)):
    return [{"bytes": encoded(portrait(i)), "path": f"{i}.png"} for i in indices]


def write_parquet(path, features=None, row_group_size=4, **columns):
    table = pa.table({k: v if isinstance(v, pa.Array) else pa.array(v) for k, v in columns.items()})
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(exist_ok=True, parents=True)
    pyarrow.parquet.write_table(table, path, row_group_size=row_group_size)
    return path


def idx_bytes(array):
    array = np.asarray(array, np.uint8)
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(folder, parts, ending=".gz"):
    folder.mkdir(exist_ok=True)
    for name, part, labelled in parts:
        pack = gzip.compress if ending else bytes
        (folder / f"{name}-images-idx3-ubyte{ending}").write_bytes(pack(idx_bytes(GREY[part])))
        if labelled:
            (folder / f"{name}-labels-idx1-ubyte{ending}").write_bytes(pack(idx_bytes(np.array(CLASSES)[part])))
    return folder


def write_shard(path, part, labels="cls", mode="w"):
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, mode) as file:
        for i in part:
            members = {"png": encoded(portrait(i)), "txt": b"a caption"}
            if labels == "cls":
                members["cls"] = str(CLASSES[i]).encode()
            elif labels == "json":
                members["json"] = json.dumps({"label": f"k{CLASSES[i]}", "more": [1]}).encode()
            for ending, data in members.items():
                info = tarfile.TarInfo(f"{i:06d}.{ending}")
                info.size = len(data)
                file.addfile(info, io.BytesIO(data))
    return path


def write_zip(folder, path, prefix="", extra=()):
    with zipfile.ZipFile(path, "w") as file:
        for name, data in extra:
            file.writestr(name, data)
        for each in sorted(folder.rglob("*"), key=str):
            if each.is_file():
                file.write(each, prefix + each.relative_to(folder).as_posix())
    return path
