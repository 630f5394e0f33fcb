"""Labels that are numbers: from tables, arrays and drawn sets into stores, merged, exported and read again."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pggan.data.label_columns import STEPS, LabelColumn, choose_columns
from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.data.sources.array_base import label_array
from pggan.data.store.merge import merge
from pggan.data.store.store import Store
from pggan.data.store.verify import verify
from pggan.interop.export_data import export_data
from pggan.utils.errors import DataError, UsageError

AGE = LabelColumn("age", bounds=(10.0, 80.0))
HAIR = LabelColumn("hair", ("red", "black"))


@given(st.floats(10, 80))
def test_numbers_survive_entries_to_a_millionth_of_their_range(value):
    entry = int(AGE.entries(np.float64(value)))
    assert 0 <= entry <= STEPS
    assert abs(AGE.value(entry) - value) <= 70e-6
    assert AGE.parse(AGE.text(entry)) == pytest.approx(entry, abs=STEPS * 1e-6)
    assert AGE.entry_of(AGE.vectors(np.array([entry]))[0]) == pytest.approx(entry, abs=STEPS * 1e-6)


def test_vectors_go_from_minus_1_to_1_and_are_nan_where_unknown():
    vectors = AGE.vectors(np.array([0, STEPS // 2, STEPS, -1]))
    np.testing.assert_allclose(vectors[:3, 0], [-1, 0, 1], atol=1e-7)
    assert np.isnan(vectors[3, 0])
    assert AGE.vectors(np.array([0])).shape == (1, AGE.width)
    np.testing.assert_array_equal(HAIR.vectors(np.array([1, -1])), [[0, 1], [0, 0]])


def test_a_number_beyond_the_bounds_is_refused_with_them():
    with pytest.raises(UsageError, match="age is a number from 10 to 80 in the training data, not 95"):
        AGE.parse("95")
    assert AGE.parse("old") is None
    assert AGE.parse("80") == STEPS
    with pytest.raises(UsageError, match="not nan"):
        AGE.parse("nan")


def test_columns_are_chosen_by_name_alone_or_several():
    odd = LabelColumn("a,b", ("x",))
    assert choose_columns("hair", [AGE, HAIR]) == [1]
    assert choose_columns("hair, age", [AGE, HAIR]) == [1, 0]
    assert choose_columns("a,b", [AGE, odd]) == [1]
    with pytest.raises(DataError, match="no labels 'nose'; it has: age, hair"):
        choose_columns("age,nose", [AGE, HAIR])
    with pytest.raises(DataError, match="twice"):
        choose_columns("age,age", [AGE, HAIR])


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "pictures"
    path.mkdir()
    with open(path / "labels.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "age", "hair", "tilt"])
        for n in range(6):
            Image.new("RGB", (8, 8), (40 * n, 0, 0)).save(path / f"{n}.png")
            writer.writerow([f"{n}.png", 20 + n if n < 5 else "", ["red", "black"][n % 2], n / 4])
    return path


def numbers_of(store, name):
    at = [column.name for column in store.manifest.labels].index(name)
    column = store.manifest.labels[at]
    return [column.value(entry) if entry >= 0 else None for entry in store.labels[:, at]]


def test_columns_of_a_table_are_numbers_where_one_says_so(folder, tmp_path):
    prepare(str(folder), tmp_path / "classes")
    with Store(tmp_path / "classes") as store:  # as before: fractions are left out, whole numbers are classes
        assert [(c.name, c.is_number) for c in store.manifest.labels] == [("age", False), ("hair", False)]
        assert store.manifest.to_json()["format"] == 1
    report = prepare(str(folder), tmp_path / "numbers", PrepareOptions(numbers=("age", "tilt")))
    assert report.labels == ["age", "hair", "tilt"]
    with Store(tmp_path / "numbers") as store:
        assert store.manifest.to_json()["format"] == 2
        assert store.manifest.labels[0] == LabelColumn("age", bounds=(20.0, 24.0))
        assert numbers_of(store, "age")[:5] == pytest.approx([20, 21, 22, 23, 24], abs=1e-5)
        assert numbers_of(store, "age")[5] is None
        assert numbers_of(store, "tilt") == pytest.approx([n / 4 for n in range(6)], abs=1e-5)
    checked = verify(tmp_path / "numbers")
    assert not checked.general
    assert not checked.damaged_images


@pytest.mark.parametrize(
    "numbers,message", [(("nose",), "no such label"), (("hair",), "no number"), (("hair", "age"), "hair.*no numbers")]
)
def test_columns_that_hold_no_numbers_are_refused(folder, tmp_path, numbers, message):
    with pytest.raises(DataError, match=message if numbers != ("hair",) else "holds no numbers"):
        prepare(str(folder), tmp_path / "data", PrepareOptions(numbers=numbers))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_an_export_is_prepared_to_the_same_numbers(folder, tmp_path, kind):
    prepare(str(folder), tmp_path / "data", PrepareOptions(numbers=("age", "tilt")))
    written = export_data(tmp_path / "data", tmp_path / "out", kind, labels="tilt")["out"]
    prepare(written, tmp_path / "again")
    with Store(tmp_path / "data") as store, Store(tmp_path / "again") as again:
        assert [c.is_number for c in again.manifest.labels] == [c.is_number for c in store.manifest.labels]
        for name in ("age", "tilt"):
            assert numbers_of(again, name) == [None if v is None else pytest.approx(v) for v in numbers_of(store, name)]
    if kind == "folder":
        listed = json.loads((tmp_path / "out" / "dataset.json").read_text())["labels"]
        assert dict(listed)["00000/img00000003.png"] == [0.75]
        with pytest.raises(UsageError, match="is a number"):
            export_data(tmp_path / "data", tmp_path / "by", "folder", by_class="age")


def test_tfrecords_and_parquet_hold_numbers(folder, tmp_path):
    prepare(str(folder), tmp_path / "data", PrepareOptions(numbers=("age", "tilt")))
    export_data(tmp_path / "data", tmp_path / "records", "tfrecord", labels="tilt")
    prepare(str(tmp_path / "records"), tmp_path / "again")
    with Store(tmp_path / "again") as again:
        assert numbers_of(again, "class") == pytest.approx([n / 4 for n in range(6)], abs=1e-5)
    export_data(tmp_path / "data", tmp_path / "table", "parquet")
    prepare(str(tmp_path / "table"), tmp_path / "third", PrepareOptions(numbers=("tilt", "age")))
    with Store(tmp_path / "third") as third:
        assert numbers_of(third, "tilt") == pytest.approx([n / 4 for n in range(6)], abs=1e-5)
        assert numbers_of(third, "age")[5] is None


def test_arrays_of_fractions_are_numbers():
    (column,), entries = label_array(np.array([0.5, 2.0, np.nan]), 3, "labels.npy")
    assert column.bounds == (0.5, 2.0)
    assert entries[:, 0].tolist() == [0, STEPS, -1]
    with pytest.raises(DataError, match="two different numbers"):
        label_array(np.array([0.5, 0.5]), 2, "labels.npy")


def test_merged_stores_hold_all_numbers(tmp_path):
    for n in range(2):
        prepare("drawn:4", tmp_path / f"{n}", PrepareOptions(max_res=4, numbers=("size",), seed=n))
    merge(tmp_path / "both", [tmp_path / "0", tmp_path / "1"])
    with Store(tmp_path / "0") as a, Store(tmp_path / "1") as b, Store(tmp_path / "both") as both:
        assert numbers_of(both, "size") == pytest.approx(numbers_of(a, "size") + numbers_of(b, "size"), abs=1e-6)
    wide, narrow = LabelColumn("x", bounds=(0, 4)), LabelColumn("x", bounds=(1, 2))
    merged = LabelColumn.merged([narrow, wide])
    assert merged.bounds == (0, 4)
    assert merged.value(narrow.renumbering(merged)(STEPS)) == pytest.approx(2, abs=1e-6)
    assert narrow.renumbering(merged)(-1) == -1
    prepare("drawn:4", tmp_path / "plain", PrepareOptions(max_res=4))
    with pytest.raises(DataError, match="label columns"):
        merge(tmp_path / "none", [tmp_path / "0", tmp_path / "plain"])


def test_heads_are_drawn_to_their_numbers(tmp_path):
    prepare("drawn:60", tmp_path / "data", PrepareOptions(max_res=32, channels=4, numbers=("size", "shift")))
    with Store(tmp_path / "data") as store:
        alpha = store.read(32, range(60))[:, 3].astype(float)
        middle = (alpha.sum(1) * np.arange(32)).sum(1) / alpha.sum((1, 2))
        assert np.corrcoef(middle, numbers_of(store, "shift"))[0, 1] > 0.95
        assert np.corrcoef(alpha.mean((1, 2)), numbers_of(store, "size"))[0, 1] > 0.7
    with pytest.raises(UsageError, match="drawn heads have size, shift"):
        prepare("drawn:4", tmp_path / "none", PrepareOptions(numbers=("age",)))


def test_pictures_stay_the_same_without_numbers(tmp_path):
    prepare("drawn:3", tmp_path / "plain", PrepareOptions(max_res=8))
    prepare("drawn:3", tmp_path / "numbers", PrepareOptions(max_res=8, numbers=("size",)))
    with Store(tmp_path / "plain") as plain, Store(tmp_path / "numbers") as numbers:
        assert (plain.labels == numbers.labels[:, :-1]).all()


def test_a_manifest_with_senseless_bounds_is_refused():
    from pggan.data.store.manifest import Manifest

    values = {
        "count": 1, "channels": 3, "resolutions": [4], "codecs": {"4": "raw"}, "bytes": {"4": 48}, "source": "x",
        "labels": [{"name": "age", "bounds": [1, 2]}],
    }  # fmt: skip
    assert Manifest.from_json(values).labels == (LabelColumn("age", bounds=(1.0, 2.0)),)
    for bounds in ([2, 1], [1, 1], [float("nan"), 1]):
        with pytest.raises(ValueError, match="bounds"):
            Manifest.from_json({**values, "labels": [{"name": "age", "bounds": bounds}]})


@pytest.mark.parametrize("shape", [(5,), (5, 1)])
def test_one_array_of_1_and_minus_1_is_yes_and_no(shape):
    (column,), entries = label_array(np.array([1, -1, -1, np.nan, 1]).reshape(shape), 5, "labels.npy")
    assert column.classes == ("no", "yes")
    assert entries[:, 0].tolist() == [1, 0, 0, -1, 1]


def test_a_number_of_drawn_heads_is_named_once(tmp_path):
    with pytest.raises(UsageError, match="--numbers size,size names a number twice"):
        prepare("drawn:4", tmp_path / "data", PrepareOptions(max_res=16, numbers=("size", "size")))
