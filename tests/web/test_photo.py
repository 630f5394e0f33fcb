"""A photograph: cut out by its points, found by a search with previews, stopped."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from pggan.data.sources.aligned import align_face
from pggan.generation.images import encode_png
from tests.helpers.explorers import ORIGIN, client_of, explorer_of, page_of


@pytest.fixture(scope="module")
def studio():
    explorer = explorer_of(labels=2)
    with client_of(explorer) as client, page_of(client) as page:
        yield page, explorer, client


def upload(client, image):
    return client.post("/upload", content=encode_png(image), headers={"origin": ORIGIN}).json()


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png)), formats=["PNG"]))


def test_points_cut_a_face_out_as_preparing_data_does(studio):
    page, _, client = studio
    noise = np.random.default_rng(0).integers(0, 256, (120, 100, 3), np.uint8)
    photograph = upload(client, noise)
    points = [[40, 50], [62, 52], [43, 75], [60, 76]]
    cut = page.ask("align", key=photograph["key"], points=points)
    np.testing.assert_array_equal(pixels(cut["png"]), align_face(noise, points, 16))
    whole = pixels(page.ask("align", key=photograph["key"])["png"])
    assert whole.shape == (16, 16, 3)
    for wrong in ([[1, 1]] * 4, [[-9000, 1], [-8000, 1], [-9000, 9], [-8000, 9]]):
        assert "drag the points" in page.ask("align", key=photograph["key"], points=wrong)["error"]
    for wrong in ([], [[1, 2, 3]] * 4, [["a", 1]] * 4, [[1e9, 1]] * 4, "points"):
        assert page.ask("align", key=photograph["key"], points=wrong)["type"] == "error"
    assert "drop it again" in page.ask("align", key="nothing")["error"]


@pytest.mark.long
def test_a_search_comes_near_to_a_picture_of_the_model_itself(studio):
    page, explorer, client = studio
    image = explorer.model.generate(12345)[0]
    photograph = upload(client, image)
    page.progress.clear()
    answer = page.ask("project", key=photograph["key"], steps=60)
    previews = [event for event in page.progress if "preview" in event]
    assert len(previews) >= 10
    assert previews[-1]["psnr"] > previews[0]["psnr"]
    np.testing.assert_array_equal(pixels(answer["png"]), image)
    found = page.picture(answer["point"])
    error = np.square(np.asarray(Image.open(io.BytesIO(found["data"]), formats=["PNG"])).astype(float) - image).mean()
    assert 10 * np.log10(255**2 / error) > previews[0]["psnr"]


def test_a_search_can_be_stopped(studio):
    page, _, client = studio
    photograph = upload(client, np.zeros((40, 40, 3), np.uint8))
    number = page.tell("project", key=photograph["key"], steps=3000)
    while "preview" not in page.receive():
        pass
    page.tell("cancel", job=number)
    while (message := page.receive())["type"] == "progress":
        pass
    assert message["cancelled"]
    assert "model" in page.ask("hello")
