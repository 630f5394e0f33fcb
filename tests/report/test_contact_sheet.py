"""Contact sheets of stores: which pictures, labels, landmarks, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from pggan.cli import run
from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.data.sources.face_table import USED, FaceRow, FaceTable
from pggan.data.store.store import Store
from pggan.report.contact_sheet import SMALLEST_TILE, write_contact_sheet
from pggan.utils.errors import UsageError


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    place = tmp_path_factory.mktemp("sheet") / "data"
    prepare("drawn:10", place, PrepareOptions(max_res=32))
    return place


def test_pictures_are_spread_over_the_store(store, tmp_path):
    told = write_contact_sheet(store, tmp_path / "sheet.png", 16, 4)
    assert told == {"sheet": str(tmp_path / "sheet.png"), "shown": 4, "resolution": 16}
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    with Store(store) as opened:
        images = opened.read(16, [0, 9]).transpose(0, 2, 3, 1)
    scale = SMALLEST_TILE // 16
    columns = (sheet.shape[1] - 4) // (SMALLEST_TILE + 4)
    height = (sheet.shape[0] - 4) // -(-4 // columns)  # of a tile with its labels, and the gap
    for number, image in ((0, images[0]), (3, images[1])):
        top, left = 4 + number // columns * height, 4 + number % columns * (SMALLEST_TILE + 4)
        shown = sheet[top : top + SMALLEST_TILE, left : left + SMALLEST_TILE]
        assert np.array_equal(shown, image.repeat(scale, 0).repeat(scale, 1))


def test_landmarks_of_the_report_are_drawn(store, tmp_path):
    points = (10.0, 10.0, 20.0, 10.0, 15.0, 15.0, 11.0, 22.0, 19.0, 22.0)
    rows = [FaceRow(f"{n}.png", 1, USED, 0.9, 20.0, 5.0, points) for n in range(10)]
    FaceTable(rows).write(tmp_path / "faces.csv")
    write_contact_sheet(store, tmp_path / "plain.png", 32, 2)
    write_contact_sheet(store, tmp_path / "marked.png", 32, 2, tmp_path / "faces.csv")
    plain, marked = (np.asarray(Image.open(tmp_path / name)).astype(int) for name in ("plain.png", "marked.png"))
    changed = np.abs(plain - marked).max(2) > 0
    assert 10 < changed.sum() < 1000
    FaceTable(rows[:-1]).write(tmp_path / "fewer.csv")
    with pytest.raises(UsageError, match="9 used faces, and the store 10 pictures"):
        write_contact_sheet(store, tmp_path / "no.png", 32, 2, tmp_path / "fewer.csv")
    assert not (tmp_path / "no.png").exists()


def test_the_command(store, tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    assert run(["info", str(store), "--sheet", str(sheet), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["sheet"], values["shown"], values["resolution"]) == (str(sheet), 10, 32)
    assert sheet.exists()
    for arguments, reason in (
        (["--res", "8"], "give --sheet FILE"),
        (["--count", "8"], "give --sheet FILE"),
        (["--sheet", str(sheet), "--res", "0"], "the store has 4, 8, 16, 32"),
        (["--sheet", str(sheet), "--res", "64"], "the store has 4, 8, 16, 32"),
        (["--sheet", str(tmp_path / "sheet.jpg")], "give the name of a PNG file"),
        (["--sheet", str(sheet), "--count", "0"], "--count 0 is not from 1"),
    ):
        assert run(["info", str(store), *arguments]) == 2
        assert reason in capsys.readouterr().err
    assert run(["info", "portraits", "--sheet", str(sheet)]) == 2
    assert "of a data store" in capsys.readouterr().err
