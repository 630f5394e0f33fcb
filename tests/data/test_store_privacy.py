"""What a store's file holds beside its records: nothing of the process's memory, where photographs' EXIF lies."""

from __future__ import annotations

import pytest
from PIL import Image

from pggan.data.prepare.prepare import PrepareOptions, prepare
from tests.helpers.image_files import portrait

SECRET = b"N47 51 12 SECRET "


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_unused_space_of_a_store_holds_nothing_of_photographs(tmp_path, ending):
    exif = Image.Exif()
    exif[0x010F] = SECRET.decode() * 200  # the size of a page, whose memory the store would take next
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(8):
        portrait(number).save(folder / f"{number}.{ending}", exif=exif)
    assert SECRET in (folder / f"0.{ending}").read_bytes()
    prepare(str(folder), tmp_path / "data", PrepareOptions(max_res=16))
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert files
    assert [path.name for path in files if SECRET in path.read_bytes()] == []
