"""Folders, archives and drawn faces as sources."""

import errno
import io
import os
import pickle
import tarfile
import zipfile

import numpy as np
import pytest

from pggan.data.sources import SOURCES, open_source
from pggan.data.sources.base import BadImage, DecodedImage
from pggan.data.sources.folder import FolderReader, FolderSource
from pggan.data.sources.synthetic import DrawnSource
from pggan.data.sources.tar_archive import TarSource
from pggan.data.sources.zip_archive import ZipSource
from pggan.utils.errors import DataError, UsageError
from tests.helpers.image_files import encoded, portrait, tree, write_folder

COUNT = 12  # past 9: natural order is not text order
NESTED = "deep/er/10.jpg"


@pytest.fixture
def folder(tmp_path):
    folder = write_folder(tmp_path / "pictures", COUNT)
    (folder / "deep/er").mkdir(parents=True)
    (folder / NESTED).write_bytes(encoded(portrait(99), "JPEG"))
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(encoded(portrait(98)))
    (folder / "broken.png").write_bytes(encoded(portrait(97))[:60])
    return folder


def zipped(folder, path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in tree(folder).items():
            file.writestr(name, data)
    return path


def tarred(folder, path, mode):
    with tarfile.open(path, mode) as file:
        file.add(folder, ".")
    return path


def everything(source):
    """{name: picture or the reason why not}, read by a reader that has been sent to another process."""
    reader = pickle.loads(pickle.dumps(source.reader(32, 0)))
    images = {}
    for ref in source.refs():
        name = ref.name.removeprefix("./")
        try:
            picture = reader.read(pickle.loads(pickle.dumps(ref)), 3)
            images[name] = picture.image.tobytes()
            assert reader.size(ref) == picture.image.shape[1::-1]
        except BadImage:
            images[name] = None
    return images


NAMES = [*(f"{i}.png" for i in range(COUNT)), "broken.png", NESTED]


def test_a_folder_in_natural_order(folder):
    source = open_source(str(folder))
    assert isinstance(source, FolderSource)
    assert len(source) == len(NAMES)
    assert [ref.name for ref in source.refs()] == NAMES
    images = everything(source)
    assert images["10.png"] == np.asarray(portrait(10)).tobytes()
    assert [name for name, picture in images.items() if picture is None] == ["broken.png"]


def test_iteration_gives_pictures_and_reports(folder):
    items = list(open_source(str(folder)))
    assert [type(item) for item in items] == [DecodedImage] * COUNT + [BadImage, DecodedImage]


@pytest.mark.parametrize(
    "ending, mode", [("zip", ""), ("tar", "w"), ("tar.gz", "w:gz"), ("txz", "w:xz"), ("tbz2", "w:bz2")]
)
def test_archives_equal_the_folder(folder, tmp_path, ending, mode):
    path = tmp_path / f"pictures.{ending}"
    zipped(folder, path) if ending == "zip" else tarred(folder, path, mode)
    source = open_source(str(path))
    assert isinstance(source, ZipSource if ending == "zip" else TarSource)
    expected, images = everything(open_source(str(folder))), everything(source)
    assert images == expected
    if mode in ("", "w"):
        assert list(images) == NAMES
    assert len(list(source.sample(5, len(source)))) <= 5
    assert source.sniff(str(path))


def test_archives_are_known_by_their_content(folder, tmp_path):
    for path in (zipped(folder, tmp_path / "a"), tarred(folder, tmp_path / "b", "w:gz")):
        assert len(open_source(str(path))) == len(NAMES)


def test_members_never_leave_the_archive(tmp_path):
    data = encoded(portrait(0))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("../../out.png", data)
        file.writestr("/tmp/absolute.png", data)
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        member = tarfile.TarInfo("../out.png")
        member.size = len(data)
        file.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    before = tree(tmp_path)
    for name, count in (("a.zip", 2), ("a.tar", 1)):
        pictures = list(open_source(str(tmp_path / name)))
        if name == "a.tar":
            assert "a link to /etc/passwd; pack the files themselves" in str(pictures.pop())
        assert [p.image.tobytes() for p in pictures] == [np.asarray(portrait(0)).tobytes()] * count
    assert tree(tmp_path) == before
    assert not (tmp_path.parent / "out.png").exists()


def test_damaged_members_are_bad_pictures_and_damaged_archives_errors(folder, tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:  # stored: the damage hits one picture
        for index in range(3):
            file.writestr(f"{index}.png", encoded(portrait(index)))
    data = bytearray(path.read_bytes())
    at = data.index(encoded(portrait(1))) + 30
    data[at : at + 10] = b"\0" * 10
    path.write_bytes(data)
    assert [value is None for value in everything(open_source(str(path))).values()] == [False, True, False]
    for name, whole in (("b.zip", zipped(folder, path)), ("b.tar.gz", tarred(folder, tmp_path / "c.tar.gz", "w:gz"))):
        (tmp_path / name).write_bytes(whole.read_bytes()[:-3000])
        with pytest.raises(DataError, match=r"not a whole (zip|tar) file .*; copy or make it again"):
            open_source(str(tmp_path / name))


def test_links_are_followed_once(folder):
    os.symlink("..", folder / "deep" / "loop")
    os.symlink(folder / "deep", folder / "also")
    os.symlink(folder / "0.png", folder / "z.png")
    assert [ref.name for ref in open_source(str(folder)).refs()] == [*NAMES, "z.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed_is_one_bad_picture(folder):
    (folder / "locked").mkdir(mode=0)
    assert everything(open_source(str(folder)))["locked"] is None


def test_names_that_are_no_text_are_read(folder):
    name = os.fsencode(str(folder)) + b"/\xff\xfe.png"
    with open(name, "wb") as file:
        file.write(encoded(portrait(5)))
    assert np.asarray(portrait(5)).tobytes() in everything(open_source(str(folder))).values()


def test_a_source_without_pictures_is_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("hello")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    for name, message in (
        ("empty", "holds no pictures"),
        ("empty.zip", "holds no pictures"),
        ("text.txt", "is not a source of pictures; give one of: drawn:COUNT"),
        ("missing", "does not exist; give one of: drawn:COUNT"),
    ):
        with pytest.raises(DataError, match=message):
            open_source(str(tmp_path / name))


def test_every_source_of_the_table_refuses_what_is_not_there():
    assert SOURCES.names()[0] == "drawn"
    assert SOURCES.names()[-3:] == ["zip", "tar", "folder"]  # what is asked last: the others look closer
    for name in SOURCES.names():
        assert not SOURCES.load(name).sniff("/nothing/here")


# drawn faces


def draw(indices, resolution=32, seed=0, channels=3, count=10):
    source = DrawnSource(f"drawn:{count}")
    reader = source.reader(resolution, seed)
    refs = list(source.refs())
    return [reader.read(refs[i], channels) for i in indices]


def test_a_drawn_picture_depends_on_its_seed_and_number_alone():
    all_ten = draw(range(10))
    again = draw([7, 3], count=8)  # another reader, another count, another order
    for picture, index in zip(again, (7, 3)):
        np.testing.assert_array_equal(picture.image, all_ten[index].image)
        assert picture.labels == all_ten[index].labels
    assert len({p.image.tobytes() for p in all_ten + draw(range(10), seed=1)}) == 20


def test_drawn_pictures_are_whole_faces():
    for resolution in (8, 64, 200):
        for picture in draw(range(3), resolution):
            assert picture.image.shape == (resolution, resolution, 3)
            assert picture.image.dtype == np.uint8
    for picture in draw(range(10), 64):
        values = picture.image.astype(int)
        assert values.std() > 15
        # the head is not the background: the middle differs from the upper corners
        assert np.abs(values[28:40, 26:38].mean((0, 1)) - values[:3, :3].mean((0, 1))).max() > 8
    (grey,), (colour,) = draw([1], 64, channels=1), draw([1], 64)
    assert grey.image.shape == (64, 64, 1)
    assert np.abs(grey.image[:, :, 0] - colour.image @ [0.299, 0.587, 0.114]).max() <= 1


@pytest.mark.long
def test_drawn_labels_name_what_is_drawn():
    columns = {column.name: column.classes for column in DrawnSource("drawn:1").label_columns}
    assert set(columns) >= {"hair", "beard", "mouth", "clothes", "eyes", "skin-colour", "hair-colour", "clothes-colour"}
    assert columns["beard"][0] == "none"
    pictures = draw(range(150), 8, count=150)
    labels = np.array([p.labels for p in pictures])
    assert labels.shape == (150, len(columns))
    for at, classes in enumerate(columns.values()):
        assert len(set(classes)) == len(classes)
        assert set(labels[:, at]) == set(range(len(classes)))  # every class occurs, and nothing else
    # the labelled skin colours are those on the face
    at = list(columns).index("skin-colour")
    mean = {name: [] for name in columns["skin-colour"]}
    for picture in draw(range(60), 64, count=60):
        # between the eyes and the mouth, where a face shows skin
        mean[columns["skin-colour"][picture.labels[at]]].append(
            np.median(picture.image[36:40, 24:40].reshape(-1, 3), 0).sum()
        )
    assert np.median(mean["dark"]) < np.median(mean["brown"]) < np.median(mean["tan"]) < np.median(mean["light"])


def test_drawn_attribution_names_author_title_and_licence():
    attribution = DrawnSource("drawn:1").attribution
    for part in ("Johan Melin", "ToonHead", "CC BY 4.0"):
        assert part in attribution


@pytest.mark.parametrize("spec", ["drawn", "drawn:", "drawn:0", "drawn:-1", "drawn:many", "drawn:1000000000"])
def test_wrong_drawn_specs_are_refused(spec):
    with pytest.raises(UsageError, match="drawn:COUNT"):
        open_source(spec)


def test_a_source_that_disappears_while_it_is_read_stops_it(tmp_path):
    write_folder(tmp_path / "p", 3)
    zipped(tmp_path / "p", tmp_path / "p.zip")
    tarred(tmp_path / "p", tmp_path / "p.tar", "w")
    sources = {name: open_source(str(tmp_path / name)) for name in ("p", "p.zip", "p.tar")}
    (tmp_path / "p" / "0.png").unlink()
    first = next(iter(sources["p"]))
    assert str(first) == "No such file or directory"  # one file alone is a bad picture
    for path in (tmp_path / "p").iterdir():
        path.unlink()  # an unplugged disk leaves an empty folder
    for name in ("p.zip", "p.tar"):
        (tmp_path / name).unlink()
    for name, source in sources.items():
        with pytest.raises(DataError, match=rf"the pictures in .*{name} cannot be read any more \(No such file"):
            list(source)


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_a_failing_disk_stops_reading(tmp_path, monkeypatch, code):
    write_folder(tmp_path / "p", 2)
    source = open_source(str(tmp_path / "p"))

    def fail(reader, ref):
        raise OSError(code, "")

    monkeypatch.setattr(FolderReader, "open", fail)
    with pytest.raises(DataError, match="cannot be read any more"):
        list(source)
