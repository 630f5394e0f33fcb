"""Labels from files beside the pictures, from files that are named, and from folders."""

import json
from pathlib import Path

import pytest

from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.data.sources import open_source
from pggan.data.sources.label_files import with_labels
from pggan.data.sources.label_table import LabelTable
from pggan.data.store.store import Store
from pggan.utils.errors import DataError
from tests.helpers.image_files import encoded, portrait, write_folder
from tests.helpers.label_sources import listed, packed, rows


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "pictures", 4)


# lists beside the pictures


@pytest.mark.parametrize("ending", ["", ".zip", ".tar", ".tgz"])
def test_a_table_beside_the_pictures_is_found(folder, tmp_path, ending):
    (folder / "labels.csv").write_text("name,hair\n0.png,red\n1.png,blond\n2.png,red\n")
    columns, labels = rows(packed(folder, tmp_path / f"a{ending}"))
    assert columns == {"hair": ("blond", "red")}
    assert labels == {"0.png": "red", "1.png": "blond", "2.png": "red", "3.png": None}
    # the order of classes, and classes that no picture here has, come from beside, too
    (folder / "classes.json").write_bytes(b"\xef\xbb\xbf" + json.dumps({"hair": ["red", "grey", "blond"]}).encode())
    columns, again = rows(packed(folder, tmp_path / f"b{ending}"))
    assert columns == {"hair": ("red", "grey", "blond")}
    assert again == labels


@pytest.mark.parametrize("ending", ["", ".zip", ".tar"])
def test_stylegans_list_beside_the_pictures_is_found(folder, tmp_path, ending):
    (folder / "00000").mkdir()
    for i in range(4):
        (folder / f"{i}.png").rename(folder / f"00000/img{i:08d}.png")
    pairs = [[f"00000/img{i:08d}.png", [3, 0, 0, 1][i]] for i in range(4)]
    (folder / "dataset.json").write_text(json.dumps({"labels": pairs}))
    columns, labels = rows(packed(folder, tmp_path / f"a{ending}"))
    assert columns == {"class": ("0", "1", "2", "3")}
    assert list(labels.values()) == ["3", "0", "0", "1"]


@pytest.mark.parametrize("text", ['{"labels": null}', '{"images": []}'])
def test_a_list_without_labels_is_none(folder, text):
    (folder / "dataset.json").write_text(text)
    assert rows(folder)[0] == {}


@pytest.mark.parametrize(
    "name, data, message",
    [
        (
            "labels.csv",
            b"name,kind\nx.png,a\ny.png,b\n",
            "none of the pictures is in the labels.csv beside them: it",
        ),
        ("labels.csv", b"name,kind\n0.png\n", "labels.csv: row 2 has 1 columns, the header 2; mend the row"),
        (
            "labels.csv",
            "name,kind\n0.png,wei\u00df\n".encode("cp1252"),
            "labels.csv is no text in UTF-8; save it as that",
        ),
        ("labels.csv", "name,kind\n0.png,a\n".encode("utf-16"), "labels.csv is no text in UTF-8; save it as that"),
        ("labels.csv", b"0.png,a\n1.png,b\n", r"begins with a picture's row \(0.png\), not with a header"),
        ("dataset.json", b'{"labels": [["x.png", 1]]}', "none of the pictures is in the dataset.json"),
    ],
)
def test_wrong_lists_beside_the_pictures_are_errors(folder, tmp_path, name, data, message):
    (folder / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        rows(folder)
    # another one on the command line has the last word
    assert rows(folder, listed(tmp_path, "name,kind\n0.png,a\n1.png,b\n"))[1]["1.png"] == "b"


@pytest.mark.parametrize(
    "text, reason",
    [
        ("[1, 2]", 'dataset.json is not {"labels": [[name, class], ...]}'),
        ("[" * 100_000, 'dataset.json is not {"labels": [[name, class], ...]}'),
        ('{"labels": [["0.png", [0.5, 1]]]}', "labels have to be class numbers or names"),
        ('{"images": [{"file": "0.png"}]}', None),
    ],
)
def test_a_list_of_another_kind_that_nobody_asked_for_is_passed_over_with_a_line(folder, text, reason):
    (folder / "dataset.json").write_text(text)
    source = with_labels(open_source(str(folder)), None)
    assert source.label_columns == ()
    assert source.remark == (f"dataset.json is not read: {reason}" if reason else None)


def test_null_is_an_unknown_class_and_none_is_no_labels(folder):
    (folder / "dataset.json").write_text('{"labels": [["0.png", 1], ["1.png", null], ["2.png", 0], ["3.png", 1]]}')
    columns, labels = rows(folder)
    assert columns == {"class": ("0", "1")}
    assert labels == {"0.png": "1", "1.png": None, "2.png": "0", "3.png": "1"}
    assert rows(folder, "none") == ({}, dict.fromkeys(labels, ()))


@pytest.mark.parametrize("order", [b"\xff\xfe", b"{", b"[" * 100_000])
def test_a_damaged_order_of_classes_is_an_error(folder, order):
    (folder / "labels.csv").write_text("name,kind\n0.png,a\n")
    (folder / "classes.json").write_bytes(order)
    with pytest.raises(DataError, match=r"the classes\.json beside labels\.csv is damaged; mend or remove it"):
        rows(folder)


def test_an_order_that_does_not_fit_is_passed_over(folder):
    (folder / "labels.csv").write_text("name,kind\n0.png,a\n1.png,b\n")
    for order in (["a"], {"kind": ["a"]}, {"kind": 5}, {"other": ["a", "b"]}):
        (folder / "classes.json").write_text(json.dumps(order))
        assert rows(folder)[0] == {"kind": ("a", "b")}


# CSV

PLAIN = "name,hair,age\n0.png,red,7\n1.png,blond,9\n2.png,red,7\n3.png,red,8\n"


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        b"\xef\xbb\xbf" + PLAIN.encode(),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.replace("red", '"red"').replace(",", " , "),
        PLAIN.replace(".png", ""),
        PLAIN.replace(".png", ".jpg"),
        PLAIN.replace("\n", "\n\n") + ",,\n",
        PLAIN.replace("0.png", "pictures/0.png") + "unknown.png,red,8\nelsewhere/0.png,blond,9\n",
        "sep=;\n" + PLAIN.replace(",", ";"),
        "".join(f"{i}".replace("0", "", i == 0) + f",{line}\n" for i, line in enumerate(PLAIN.splitlines())),
    ],
)
def test_csv_is_read_in_all_its_forms(folder, tmp_path, text):
    for name in ("my.csv", "my.tsv"):
        columns, labels = rows(folder, listed(tmp_path, text, name))
        assert columns["hair"] == ("blond", "red")
        assert list(labels.values()) == [("red", "7"), ("blond", "9"), ("red", "7"), ("red", "8")]


def test_quotes_keep_the_delimiter(folder, tmp_path):
    columns, labels = rows(folder, listed(tmp_path, 'name,kind\n0.png,"a, b"\n1.png,"say ""c"""\n'))
    assert columns == {"kind": ("a, b", 'say "c"')}
    assert labels["0.png"] == "a, b"


def test_pictures_that_the_list_lacks_are_counted(folder, tmp_path):
    path = listed(tmp_path, "name,kind\n0.png,a\n1.png,\n2.png,b\n")
    report = prepare(str(folder), tmp_path / "data", PrepareOptions(labels=str(path)))
    assert report.converted["without a label"] == 1
    assert report.labels == ["kind"]
    with Store(tmp_path / "data") as store:
        assert store.labels.tolist() == [[0], [-1], [1], [-1]]


@pytest.mark.parametrize(
    "values, classes",
    [
        (["0", "3", "1", "-1"], ("0", "1", "3")),  # the values that occur, and no others
        (["10", "9", "-5", "2000"], ("-5", "9", "10", "2000")),
        (["-2", "-1", "0", "1"], ("-2", "-1", "0", "1")),  # beside other negative numbers -1 is one, too
        (["007", "8", "9", "10"], ("007", "8", "9", "10")),  # 007 is a name: it stays as it is
        (["01", "1", "02", "2"], ("01", "1", "02", "2")),
        (["1", "-1", "1", ""], ("no", "yes")),
        (["c10", "c9", "c9", "b"], ("b", "c9", "c10")),
    ],
)
def test_classes_get_an_order(folder, tmp_path, values, classes):
    text = "name,kind\n" + "".join(f"{i}.png,{value}\n" for i, value in enumerate(values))
    columns, labels = rows(folder, listed(tmp_path, text))
    assert columns == {"kind": classes}
    unknown = {""} if classes == ("no", "yes") or "-1" in classes else {"-1", ""}
    names = {"1": "yes", "-1": "no"} if classes == ("no", "yes") else {}
    assert list(labels.values()) == [None if v in unknown else names.get(v, v) for v in values]


def test_columns_that_are_no_labels_are_left_out(folder, tmp_path):
    text = "name,score,kind\n" + "".join(f"{i}.png,{i + 0.5},k{i % 2}\n" for i in range(4))
    assert rows(folder, listed(tmp_path, text))[0] == {"kind": ("k0", "k1")}
    many = LabelTable.read_csv("name,id\n" + "".join(f"{i}.png,id{i}\n" for i in range(1001)), "many")
    assert many.columns == ()
    text = "name,score\n0.png,0.5\n1.png,1.5\n"
    with pytest.raises(DataError, match="names no classes that the pictures could have"):
        rows(folder, listed(tmp_path, text))


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("my.csv", "", "a header, and rows of a file name and labels, are needed"),
        ("my.csv", "name,kind\n", "a header, and rows"),
        ("my.csv", "name\n0.png\n", "a header, and rows"),
        ("my.csv", "name,kind\n0.png,a,b\n", r"my\.csv: row 2 has 3 columns, the header 2; mend the row"),
        ("my.csv", "name,kind,kind\n0.png,a,b\n", "two columns have the same name; rename one"),
        ("my.csv", "name,kind\n0.png," + "a" * 200_000 + "\n", "is no CSV .*; save it again as one"),
        ("my.csv", "name,kind\nx,a\ny,b\n", r"none of the pictures is in --labels .*: it names x, they 0\.png"),
        ("my.csv", "0.png,a\n1.png,b\n", r"begins with a picture's row \(0.png\), not with a header; put one above"),
        ("my.csv", "0,a\n1,b\n", r"begins with a picture's row \(0\), not with a header; put one above"),
        ("my.csv", "name,kind\n0.png,a\n".encode("utf-16"), "is no text in UTF-8; save it as that"),
        ("my.csv", 'name,kind\n0.png,"a\n1.png,b\n', r"the quotation mark before 'a\\n1.png,b' is not closed; mend"),
        ("my.txt", "hello\n", "is no attribute list"),
        ("my.txt", "1\nSmiling\n0.png 1\n1.png 1 -1\n", r"1\.png \(row 2\) has 2 values, not 1; mend the row"),
        ("my.json", "{", "mend or remove it"),
    ],
)
def test_wrong_lists_are_errors(folder, tmp_path, name, text, message):
    with pytest.raises(DataError, match=message) as caught:
        rows(folder, listed(tmp_path, text, name))
    assert "\n" not in str(caught.value)


def test_lists_that_are_not_there_are_errors(folder, tmp_path):
    with pytest.raises(DataError, match="does not exist; give a CSV, an attribute list, or folders"):
        rows(folder, tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\); give a file, or folders"):
        rows(folder, tmp_path)


def test_a_list_that_names_one_of_many_is_used(tmp_path):
    folder = write_folder(tmp_path / "many", 30, side=8)
    assert rows(folder, listed(tmp_path, "name,kind\n29.png,a\n"))[1]["29.png"] == "a"


def test_names_that_two_pictures_share_are_ambiguous(tmp_path):
    table = LabelTable.read_csv("name,kind\na/1.png,x\nb/1.png,y\n2.png,x\n2.jpg,y\n3.jpg,y\nv1.0,x\n", "a")
    assert table.get("a/1.png") == (0,)
    assert table.get("b/1.png") == (1,)
    assert table.get("./b/1.png") == (1,)
    assert table.get("c/1.png") is None  # whose is it?
    assert table.get("2.png") == (0,)
    assert table.get("2.bmp") is None
    assert table.get("deep\\3.png") == (1,)
    assert table.get("v1.0.png") == (0,)
    assert table.get("4.png") is None


# CelebA's lists


def test_celebas_list_is_read(folder, tmp_path):
    text = "4\nSmiling Young \n" + "".join(f"{i}.jpg  {1 if i % 2 else -1}   1\n" for i in range(4))
    for name in ("list_attr_celeba.txt", "list"):
        columns, labels = rows(folder, listed(tmp_path, text, name))
        assert columns == {"Smiling": ("no", "yes"), "Young": ("no", "yes")}
        assert list(labels.values()) == [("no", "yes"), ("yes", "yes")] * 2
    # as Kaggle has it
    text = "image_id,Smiling\n" + "".join(f"{i}.jpg,{1 if i % 2 else -1}\n" for i in range(4))
    assert list(rows(folder, listed(tmp_path, text))[1].values()) == ["no", "yes"] * 2


# folders


@pytest.fixture
def sorted_folder(tmp_path):
    root = tmp_path / "sorted"
    for number, place in enumerate(("cats/a", "cats/b", "dogs", "owls")):
        (root / place).mkdir(parents=True)
        (root / place / f"{number}.png").write_bytes(encoded(portrait(number)))
    return root


@pytest.mark.parametrize("ending", ["", ".zip", ".tar", ".tgz"])
def test_folders_are_classes(sorted_folder, tmp_path, ending):
    columns, labels = rows(packed(sorted_folder, tmp_path / f"a{ending}"), "folders")
    assert columns == {"class": ("cats", "dogs", "owls")}
    assert labels == {"cats/a/0.png": "cats", "cats/b/1.png": "cats", "dogs/2.png": "dogs", "owls/3.png": "owls"}
    assert rows(packed(sorted_folder, tmp_path / f"b{ending}"))[0] == {}  # only where asked for


@pytest.mark.parametrize("ending", ["", ".zip"])
def test_a_folder_around_all_is_no_class(sorted_folder, tmp_path, ending):
    outer = tmp_path / "outer"
    outer.mkdir()
    sorted_folder.rename(outer / "train")
    columns, _ = rows(packed(outer, tmp_path / f"a{ending}"), "folders")
    assert columns == {"class": ("cats", "dogs", "owls")}
    (outer / "train/9.png").write_bytes(encoded(portrait(9)))
    columns, labels = rows(packed(outer, tmp_path / f"b{ending}"), "folders")
    assert columns == {"class": ("cats", "dogs", "owls")}
    assert labels["train/9.png"] is None
    (outer / "8.png").write_bytes(encoded(portrait(8)))
    assert rows(packed(outer, tmp_path / f"c{ending}"), "folders")[0] == {"class": ("train",)}


def test_one_folder_is_one_class(tmp_path):
    write_folder(tmp_path / "all/cats", 3)
    assert rows(tmp_path / "all", "folders")[0] == {"class": ("cats",)}


def test_labels_by_folders_need_folders(folder):
    with pytest.raises(DataError, match="--labels folders: the pictures lie in no folders; give a CSV"):
        rows(folder, "folders")


def test_numbered_folders_are_ordered_as_numbers(tmp_path):
    for name in ("10", "2"):
        write_folder(Path(tmp_path, "all", name), 1)
    columns, labels = rows(tmp_path / "all", "folders")
    assert columns == {"class": ("2", "10")}
    assert labels == {"2/0.png": "2", "10/0.png": "10"}


def test_classes_called_nan_or_inf_stay_and_measures_are_named(folder, tmp_path):
    text = "name,kind,size,part\n0.png,nan,0.5,0.5\n1.png,inf,nan,b\n2.png,-inf,2,b\n3.png,,,nan\n"
    columns, labels = rows(folder, listed(tmp_path, text))
    assert columns == {"kind": ("-inf", "inf", "nan"), "part": ("0.5", "b", "nan")}
    assert list(labels.values())[:4] == [("nan", "0.5"), ("inf", "b"), ("-inf", "b"), (None, "nan")]
    source = with_labels(open_source(str(folder)), listed(tmp_path, text))
    assert source.remark == "columns that hold no classes: size"
    (folder / "labels.csv").write_text("name,size\n0.png,0.5\n1.png,0.7\n")
    source = with_labels(open_source(str(folder)), None)
    assert (source.label_columns, source.remark) == ((), "columns that hold no classes: size")


def test_whole_numbers_with_a_point_are_whole_numbers(tmp_path):
    """As pandas writes a column of whole numbers with gaps."""
    folder = tmp_path / "p"
    write_folder(folder, 4)
    text = "file,age,sign,known\n0.png,60.0,1.0,-1.0\n1.png,62.0,-1.0,0.0\n2.png,,1.0,1.0\n3.png,60.0,1.0,-0.0\n"
    columns, labels = rows(folder, listed(tmp_path, text))
    assert columns == {"age": ("60", "62"), "sign": ("no", "yes"), "known": ("0", "1")}
    assert list(labels.values()) == [("60", "yes", None), ("62", "no", "0"), (None, "yes", "1"), ("60", "yes", "0")]


def test_two_rows_of_a_picture_have_to_agree(tmp_path):
    folder = tmp_path / "p"
    write_folder(folder, 2)
    with pytest.raises(DataError, match=r"two rows of 0\.png that differ; keep one"):
        rows(folder, listed(tmp_path, "file,who\n0.png,ann\n1.png,bob\n0.png,eve\n"))
    assert rows(folder, listed(tmp_path, "file,who\n0.png,ann\n1.png,bob\n0.png,ann\n"))[1]["0.png"] == "ann"
