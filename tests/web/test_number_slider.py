"""A label that is a number, as a slider of the explorer in headless Chromium; transparent pictures beside it."""

from __future__ import annotations

import pytest

from pggan.networks.model_file import save_model
from tests.helpers.browser import Watched, chromium, explore
from tests.helpers.model_files import model_file

pytestmark = pytest.mark.slow


def test_a_number_is_a_slider_and_the_picture_follows_it(tmp_path):
    file = model_file(labels=1, channels=4)
    file.labels = {"name": "age", "bounds": [10, 80]}
    save_model(tmp_path / "model.safetensors", file)
    with chromium() as browser, explore(tmp_path, tmp_path / "model.safetensors") as url:
        watched = Watched(browser, url)
        before = watched.picture()
        slider = watched.page.locator(".inputs input[type=range]")
        assert [slider.get_attribute(name) for name in ("min", "max")] == ["10", "80"]
        slider.evaluate("e => { e.value = 59.7; e.dispatchEvent(new Event('input', {bubbles: true})); "
                        "e.dispatchEvent(new Event('change', {bubbles: true})); }")  # fmt: skip
        watched.until(f"document.querySelector('#picture').src != {before!r}")
        watched.until("document.body.innerText.includes('age 59.7')")
        watched.context.close()
        assert watched.faults == []
