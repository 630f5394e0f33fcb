"""Which pictures the rows of a landmarks file or face table are for: by their names, which have to differ."""

import io
import os
import tarfile
import threading

import pytest
from PIL import Image

from pggan.data.photos.face_search import FaceChoice, find_faces
from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.data.sources import open_source
from pggan.data.sources.aligned import AlignedSource
from pggan.data.sources.face_table import USED, FaceRow, FaceTable
from pggan.utils.errors import DataError

NUMBERS = (40, 50, 80, 50, 60, 70, 45, 90, 75, 90)


def picture():
    file = io.BytesIO()
    Image.new("RGB", (130, 130), "grey").save(file, "PNG")
    return file.getvalue()


def folder_of(path, *names):
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(picture())
    return str(path)


def written(path, kind, *names):
    """A list of landmarks or a table of faces with a row for each name."""
    if kind == "table":
        FaceTable([FaceRow(name, 1, USED, 0.9, 80.0, 5.0, NUMBERS) for name in names]).write(path)
    else:
        path.write_text("\n".join(f"{name} {' '.join(map(str, NUMBERS))}" for name in names))
    return str(path)


def with_landmarks(source):
    return [ref.name for ref in source.refs() if source.landmarks.points(ref.name)]


@pytest.mark.parametrize("kind", ["list", "table"])
def test_pictures_of_one_name_are_refused(tmp_path, kind):
    folder = tmp_path / "tars"
    folder.mkdir()
    for shard in "ab":
        with tarfile.open(folder / f"{shard}.tar", "w") as tar:
            member = tarfile.TarInfo("0.jpg")
            member.size = len(picture())
            tar.addfile(member, io.BytesIO(picture()))
    source = open_source(str(folder))
    with pytest.raises(DataError, match=r"--align .*several are called 0\.jpg; give them different names"):
        AlignedSource(source, written(tmp_path / "faces", kind, "0.jpg"))


def test_rows_of_a_table_with_one_path_are_refused(tmp_path):
    pytest.importorskip("pyarrow")
    import pyarrow as pa
    import pyarrow.parquet

    rows = pa.table({"image": [{"bytes": picture(), "path": "image.jpg"}] * 2})
    pyarrow.parquet.write_table(rows, tmp_path / "data.parquet")
    source = open_source(str(tmp_path / "data.parquet"))
    with pytest.raises(DataError, match=r"several are called image\.jpg"):
        list(AlignedSource(source, written(tmp_path / "faces", "list", "image.jpg")).refs())
    pytest.importorskip("cv2")
    with pytest.raises(DataError, match=r"several are called image\.jpg"):
        find_faces(source, FaceChoice())


@pytest.mark.parametrize("kind", ["list", "table"])
def test_rows_are_found_as_those_of_labels(tmp_path, kind):
    two = open_source(folder_of(tmp_path / "two", "a/0.jpg", "b/0.jpg", "b/p1.jpg"))
    assert with_landmarks(AlignedSource(two, written(tmp_path / "1", kind, "0.jpg", "p1.png"))) == ["b/p1.jpg"]
    assert with_landmarks(AlignedSource(two, written(tmp_path / "2", kind, "two/a/0.jpg"))) == ["a/0.jpg"]
    beside = open_source(folder_of(tmp_path / "beside", "0.jpg", "b/0.jpg"))
    assert with_landmarks(AlignedSource(beside, written(tmp_path / "3", kind, "0.jpg"))) == ["0.jpg"]


def test_rows_of_other_pictures_do_not_count(tmp_path):
    source = open_source(folder_of(tmp_path / "two", "a.png", "b.png"))
    faces = written(tmp_path / "faces.csv", "table", "a.png", "a.png", "gone.png", "gone.png", "gone.png")
    assert len(AlignedSource(source, faces)) == 3
    assert len(list(AlignedSource(source, faces).refs())) == 3


@pytest.mark.parametrize("kind", ["list", "table"])
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_landmarks_come_through_a_pipe(tmp_path, kind):
    written(tmp_path / "faces", kind, "a.png")
    content = (tmp_path / "faces").read_bytes()
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(content,), daemon=True)
    writer.start()
    source = AlignedSource(open_source(folder_of(tmp_path / "one", "a.png")), str(tmp_path / "pipe"))
    writer.join(10)
    assert with_landmarks(source) == ["a.png"]


def test_a_labelled_table_is_not_read_for_its_names(tmp_path):
    """A source behind labels still says that its names are known only when its pictures are read."""
    pytest.importorskip("pyarrow")
    import pyarrow as pa
    import pyarrow.parquet

    rows = pa.table({"image": [{"bytes": picture(), "path": f"{i}.png"} for i in range(4)], "kind": list("abab")})
    pyarrow.parquet.write_table(rows, tmp_path / "data.parquet")
    (tmp_path / "own.csv").write_text("file,label\n0.png,x\n1.png,y\n2.png,x\n3.png,y\n")
    align = written(tmp_path / "faces", "list", "0.png", "1.png")
    options = PrepareOptions(max_res=16, align=align, labels=str(tmp_path / "own.csv"))
    assert prepare(str(tmp_path / "data.parquet"), tmp_path / "store", options).count == 2
