"""Which picture a row of a list means, and where lists are found: beside, around, above and below the pictures."""

import json
import tarfile
import zipfile

import pytest

from pggan.data.sources import open_source
from pggan.data.sources.label_files import with_labels
from pggan.utils.errors import DataError
from tests.helpers.image_files import encoded, portrait, write_folder
from tests.helpers.label_sources import listed, packed, rows


@pytest.fixture
def two(tmp_path):
    """Two folders with pictures of the same names."""
    for name in "ab":
        write_folder(tmp_path / "two" / name, 2)
    return tmp_path / "two"


# Which picture a row means


@pytest.mark.parametrize("ending", ["", ".zip", ".tar", ".tgz"])
def test_a_row_with_folders_labels_no_other_folders_picture(two, tmp_path, ending):
    source = packed(two, tmp_path / f"p{ending}")
    labels = rows(source, listed(tmp_path, "file,who\na/0.png,ann\na/1.png,bob\n"))[1]
    assert labels == {"a/0.png": "ann", "a/1.png": "bob", "b/0.png": None, "b/1.png": None}


def test_a_row_without_folders_is_nobodys_where_two_pictures_have_the_name(two, tmp_path):
    write_folder(two / "c", 3)
    path = listed(tmp_path, "file,who\n0.png,ann\n2.png,bob\n1,eve\n")
    assert {name for name, who in rows(two, path)[1].items() if who} == {"c/2.png"}
    remark = with_labels(open_source(str(two)), str(path)).remark
    assert remark == "names that several pictures have label none of them: 0.png; write their folders into the list"
    with pytest.raises(DataError, match=r"several pictures are called 0\.png: write their folders into the list"):
        rows(two, listed(tmp_path, "file,who\n0.png,ann\n"))


def test_a_row_may_begin_above_the_source(two, tmp_path):
    text = f"file,who\ntwo/a/0.png,ann\n{two}/a/1.png,bob\nother/b/0.png,eve\n"
    assert list(rows(two, listed(tmp_path, text))[1].values()) == ["ann", "bob", None, None]
    assert list(rows(two / "a", listed(tmp_path, text))[1].values()) == ["ann", "bob"]


@pytest.mark.parametrize("ending", ["", ".zip", ".tar"])
def test_names_are_compared_in_one_form(tmp_path, ending):
    folder = tmp_path / "p" / "Jos\u00e9"
    folder.mkdir(parents=True)
    portrait(0).save(folder / "e\u0301.PNG", "PNG")  # NFD, as macOS writes it
    portrait(1).save(folder / "b.Jpg", "JPEG")
    text = "file,who\n.\\Jose\u0301\\\u00e9.png,ann\n./Jos\u00e9/b.JPG,bob\n"
    assert list(rows(packed(tmp_path / "p", tmp_path / f"q{ending}"), listed(tmp_path, text))[1].values()) == [
        "bob",
        "ann",
    ]


# Where lists are found


def archive(path, members):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as file:
            for name, data in members.items():
                file.writestr(name, data)
        return path
    folder = path.parent / f"of-{path.name}"
    for name, data in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    if path.suffix == "":
        return folder
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as file:
        file.add(folder, ".")
    return path


PICTURES = {f"mine/{kind}/{i}.png": encoded(portrait(i)) for i in range(2) for kind in ("blond", "dark")}
PAIRS = json.dumps({"labels": [["blond/0.png", 0], ["dark/0.png", 1]]}).encode()


@pytest.mark.parametrize("ending", ["", ".zip", ".tar", ".tgz"])
def test_a_list_inside_the_one_folder_of_an_archive_is_read(tmp_path, ending):
    source = archive(tmp_path / f"a{ending}", {**PICTURES, "mine/dataset.json": PAIRS})
    assert rows(source)[1] == {
        "mine/blond/0.png": "0", "mine/blond/1.png": None, "mine/dark/0.png": "1", "mine/dark/1.png": None
    }  # fmt: skip
    assert with_labels(open_source(str(source)), None).remark == "labels are read from mine/dataset.json"


@pytest.mark.parametrize("ending", ["", ".zip", ".tar", ".tgz"])
def test_a_list_beside_the_folder_or_the_archive_is_read_if_it_names_pictures(tmp_path, ending):
    source = archive(tmp_path / f"a{ending}", PICTURES)
    (tmp_path / "labels.csv").write_text("file,who\nblond/0.png,ann\ndark/1.png,bob\n")
    assert [who for who in rows(source)[1].values() if who] == ["ann", "bob"]
    assert with_labels(open_source(str(source)), None).remark == "labels are read from ../labels.csv"
    (tmp_path / "labels.csv").write_text("file,who\nothers/0.png,ann\nothers/1.png,bob\n")
    opened = with_labels(open_source(str(source)), None)
    assert (opened.label_columns, opened.remark) == ((), "../labels.csv is not read: it names none of the pictures")


@pytest.mark.parametrize("ending", ["", ".zip", ".tar", ".tgz"])
def test_a_list_one_folder_below_labels_the_pictures_there_alone(two, tmp_path, ending):
    (two / "a" / "labels.csv").write_text("file,who\n0.png,ann\n1.png,bob\n")
    assert list(rows(packed(two, tmp_path / f"p{ending}"))[1].values()) == ["ann", "bob", None, None]


def test_of_several_lists_in_folders_none_is_read(two):
    (two / "a" / "labels.csv").write_text("file,who\n0.png,ann\n1.png,bob\n")
    (two / "b" / "labels.csv").write_text("file,who\n0.png,ann\n1.png,bob\n")
    opened = with_labels(open_source(str(two)), None)
    assert opened.label_columns == ()
    assert "a/labels.csv is not read: there are several; join them" in opened.remark
    assert "b/labels.csv is not read: there are several" in opened.remark


def test_lists_that_are_seen_and_not_read_are_said(two):
    (two / "metadata.csv").write_text("file,who\na/0.png,ann\n")
    opened = with_labels(open_source(str(two)), None)
    assert opened.remark == "lists that are not read: metadata.csv; --labels FILE"
    (two / "labels.csv").write_text("file,who\na/0.png,ann\na/1.png,bob\n")
    (two / "dataset.json").write_text('{"labels": [["a/0.png", 1]]}')
    opened = with_labels(open_source(str(two)), None)
    assert opened.remark == (
        "dataset.json is not read: another list is; lists that are not read: metadata.csv; --labels FILE"
    )


def test_a_list_beside_webdataset_shards_is_read(tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    for number in range(2):
        with tarfile.open(folder / f"a-{number}.tar", "w") as file:
            file.add(write_folder(tmp_path / f"of{number}", 1) / "0.png", f"p{number}.png")
    (folder / "labels.csv").write_text("file,who\np0.png,ann\np1.png,bob\n")
    for source in (folder, folder / "a-{0..1}.tar"):
        assert rows(source)[1] == {"p0.png": "ann", "p1.png": "bob"}


def test_folders_in_a_zip_of_windows_are_classes(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for name in ("all\\blond\\0.png", "all\\dark\\0.png"):
            file.writestr(name, encoded(portrait(0)))
    assert list(rows(tmp_path / "a.zip", "folders")[1].values()) == ["blond", "dark"]


def test_a_row_is_nobodys_where_several_archives_have_its_very_path(tmp_path):
    (tmp_path / "tars").mkdir()
    for name in "ab":
        write_folder(tmp_path / name, 2 if name == "a" else 1)
        packed(tmp_path / name, tmp_path / "tars" / f"{name}.tar")
    path = listed(tmp_path, "file,who\n./0.png,ann\n1.png,bob\n")
    assert rows(tmp_path / "tars", path)[1] == {"0.png": None, "1.png": "bob"}
    remark = with_labels(open_source(str(tmp_path / "tars")), str(path)).remark
    assert remark.startswith("names that several pictures have label none of them: 0.png")
