"""Faces: how a model frames them, cuts out of photographs, scores; with a detector that knows where it drew them."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pggan.cli import run
from pggan.data.sources.aligned import align_face
from pggan.editing.directions import find_scores, fit_scores
from pggan.editing.faces import face_points as finding
from pggan.editing.faces.face_points import corners, face_points, why_no_faces
from pggan.editing.faces.face_scores import FACE_SCORES, score_faces
from pggan.editing.faces.face_template import cut_face, face_template
from pggan.editing.latents_file import LatentSet
from pggan.editing.projection.picture_input import fit_square, read_picture
from pggan.utils.errors import DataError, UsageError
from tests.helpers.editing_models import loaded_kind

POINTS = np.array([[40.0, 50.0], [60.0, 50.0], [50.0, 60.0], [43.0, 70.0], [57.0, 70.0]])
SQUARE = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])


class Detector:
    """Finds in every picture the faces that it was told of, in shares of the picture."""

    def __init__(self, *faces):
        self.shares = faces

    def faces(self, picture):
        size = np.array([picture.shape[1], picture.shape[0]])
        return [SimpleNamespace(landmarks=share * size - 0.5) for share in self.shares]


@pytest.fixture
def detects(monkeypatch):
    """Puts a stand-in in the detector's place: `detects(face, ...)`, faces (5, 2) in shares of the picture."""

    def use(*faces):
        monkeypatch.setattr(finding, "_detector", lambda: Detector(*faces))

    return use


@pytest.fixture
def undetected(monkeypatch):
    """The extra is missing."""

    def missing():
        raise UsageError(finding.EXTRA)

    monkeypatch.setattr(finding, "_detector", missing)


def turned(points, degrees, scale=1.0, shift=(0.0, 0.0)):
    c, s = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    return points @ np.array([[c, s], [-s, c]]) + np.array(shift)


def face_image(opening=6.0, side=100):
    """A drawn face at POINTS, with eyes of some height."""
    image = Image.new("RGB", (side, side), (200, 160, 140))
    draw = ImageDraw.Draw(image)
    for x, y in POINTS[:2]:
        draw.ellipse((x - 4, y - opening / 2, x + 4, y + opening / 2), fill=(20, 20, 20))
    return np.asarray(image)


def test_landmarks_come_back_in_the_pictures_own_pixels(detects):
    share = (POINTS + 0.5) / 100
    detects(share)
    assert face_points(np.zeros((100, 100, 3), np.uint8)) == pytest.approx(POINTS)  # it was enlarged to 256
    assert face_points(np.zeros((400, 300, 1), np.uint8)) == pytest.approx(share * [300, 400] - 0.5)
    detects()
    assert face_points(np.zeros((40, 40, 3), np.uint8)) is None


def test_a_face_is_cut_out_as_the_model_frames_its_own(detects, tmp_path):
    """A face at other eyes and mouth, turned and larger, comes to where the model has them."""
    model = loaded_kind("plain", tmp_path)
    own = (turned(POINTS, 0, 0.008) + 0.1) / 1.0
    detects(own)
    template = face_template(model)
    assert template == pytest.approx(corners(own))
    assert face_template(model) is template
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(noise).resize((600, 600), Image.Resampling.BICUBIC))
    in_photograph = turned(corners(own), 25, 220.0, (230, 90))
    cut = cut_face(smooth, in_photograph - 0.5, template, 64).astype(float)
    for x, y in ((20, 20), (32, 40), (45, 30)):  # the same place in photograph and cut
        at = turned(np.array([[(x + 0.5) / 64, (y + 0.5) / 64]]), 25, 220.0, (230, 90))[0]
        around = smooth[int(at[1]) - 2 : int(at[1]) + 3, int(at[0]) - 2 : int(at[0]) + 3].mean(axis=(0, 1))
        assert np.abs(cut[y, x] - around).max() < 12
    assert (cut_face(smooth, in_photograph, None, 64) == align_face(smooth, in_photograph, 64)).all()


def test_a_model_without_faces_has_no_template(detects, tmp_path):
    detects()
    assert face_template(loaded_kind("plain", tmp_path)) is None


def test_photographs_are_aligned_or_refused_in_one_line(detects, tmp_path):
    model = loaded_kind("plain", tmp_path)
    Image.fromarray(face_image()).save(tmp_path / "me.png")
    detects((POINTS + 0.5) / 100, (turned(POINTS, 0, 0.5) + 0.5) / 100)
    picture = read_picture(tmp_path / "me.png", model, "auto")
    assert picture.faces == 2
    assert picture.image.shape == (16, 16, 3)
    whole = read_picture(tmp_path / "me.png", model)
    assert (whole.image == fit_square(face_image(), 16)).all()
    assert (picture.image != whole.image).any()
    with pytest.raises(UsageError, match="unknown alignment 'yes'"):
        read_picture(tmp_path / "me.png", model, "yes")
    detects()
    with pytest.raises(DataError, match="shows no face that can be found; cut it out yourself"):
        read_picture(tmp_path / "me.png", model, "auto")


def test_the_command_aligns(detects, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    loaded_kind("plain", tmp_path)
    Image.fromarray(face_image()).save("me.png")
    detects((POINTS + 0.5) / 100, (POINTS + 0.5) / 100)
    project = ["project", "plain.safetensors", "me.png", "--align", "auto", "--steps", "4", "--starts", "8"]
    assert run(project) == 0
    assert "shows 2 faces; the largest is taken" in capsys.readouterr().err


def test_without_the_extra_one_line_says_what_to_install(undetected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    loaded_kind("plain", tmp_path)
    Image.fromarray(face_image()).save("me.png")
    assert "pip install 'pggan[align]'" in why_no_faces()
    for command in (
        ["project", "plain.safetensors", "me.png", "--align", "auto"],
        ["directions", "plain.safetensors", "--from", "scores", "--score", "smile"],
    ):
        assert run(command) != 0
        (line,) = [line for line in capsys.readouterr().err.splitlines() if "pggan[align]" in line]
        assert line


@pytest.mark.parametrize("degrees,scale", [(0, 1.0), (20, 1.0), (-35, 2.5)])
def test_scores_measure_what_they_say(degrees, scale):
    image = face_image()
    points = turned(POINTS, degrees, scale, (10, 20))
    scores = {name: FACE_SCORES[name] for name in ("yaw", "roll", "smile")}
    straight = {name: score(points, image) for name, score in scores.items()}
    assert straight["yaw"] == pytest.approx(0, abs=1e-6)
    assert straight["roll"] == pytest.approx(degrees)
    assert straight["smile"] == pytest.approx(14 / 20)
    right, wide = POINTS.copy(), POINTS.copy()
    right[2, 0] += 4
    wide[3, 0] -= 2
    wide[4, 0] += 2
    assert FACE_SCORES["yaw"](turned(right, degrees, scale), image) == pytest.approx(4 / 20)
    assert FACE_SCORES["smile"](turned(wide, degrees, scale), image) == pytest.approx(18 / 20)


def test_open_eyes_score_higher():
    heights = [FACE_SCORES["eyes"](POINTS, face_image(opening)) for opening in (1.0, 3.0, 6.0)]
    assert heights == sorted(heights)
    assert heights[2] > 1.5 * heights[0]
    tilted = np.asarray(
        Image.fromarray(face_image(6.0)).rotate(-20, center=(50, 50), resample=Image.Resampling.BICUBIC)
    )
    about = turned(POINTS + 0.5 - 50, 20) + 50 - 0.5
    assert FACE_SCORES["eyes"](about, tilted) == pytest.approx(heights[2], rel=0.15)


def test_pictures_without_a_face_are_left_out_of_a_fit(detects, tmp_path):
    model = loaded_kind("plain", tmp_path)
    detects()
    assert np.isnan(score_faces(np.zeros((2, 16, 16, 3), np.uint8), ("yaw",))["yaw"]).all()
    with pytest.raises(UsageError, match="none of 12 pictures has a score yaw"):
        find_scores(model, ("yaw",), 12)
    latents = LatentSet.of_seeds(model, range(200))
    values = latents.z @ np.arange(12.0)
    holes = values.copy()
    holes[::3] = np.nan
    found = fit_scores(model, latents, {"whole": values, "holes": holes})
    assert float(found.vectors[0] @ found.vectors[1]) == pytest.approx(1, abs=1e-3)


def test_the_page_offers_what_the_extra_finds_or_says_why_not(detects, tmp_path, monkeypatch):
    from tests.helpers.explorers import ORIGIN, client_of, explorer_of, page_of

    out = io.BytesIO()
    Image.fromarray(face_image()).save(out, "PNG")
    explorer = explorer_of()
    with client_of(explorer) as client, page_of(client) as page:
        detects((POINTS + 0.5) / 100)
        answer = client.post("/upload", content=out.getvalue(), headers={"origin": ORIGIN}).json()
        assert answer["points"] == pytest.approx(corners(POINTS + 0.5))
        assert answer["why"] == ""
        assert page.ask("align", key=answer["key"], points=answer["points"])["png"]

        def missing():
            raise UsageError(finding.EXTRA)

        monkeypatch.setattr(finding, "_detector", missing)
        answer = client.post("/upload", content=out.getvalue(), headers={"origin": ORIGIN}).json()
        assert answer["points"] is None
        assert "pggan[align]" in answer["why"]
        (source,) = [s for s in page.ask("rack")["sources"] if s["name"] == "faces"]
        assert "pggan[align]" in source["why"]
        assert "pggan[align]" in page.ask("find", source="faces")["error"]
        assert page.ask("align", key=answer["key"], points=(POINTS[[0, 1, 3, 4]]).tolist())["png"]
