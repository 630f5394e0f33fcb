"""Headless Chromium, where the machine has it, and a server of the explorer to point it at."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def chromium():
    """A headless browser; skips the test where there is none. `apt-get install chromium` brings Debian's."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra: test)")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def explore(folder, *arguments, modules=()):
    """`pggan explore` as a process of its own; its address. `modules`: folders that Python looks into first."""
    command = [sys.executable, "-m", "pggan", "explore", *map(str, arguments), "--no-browser", "--port", "0", "--json"]
    own = {
        "XDG_DATA_HOME": str(folder / "data"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join(map(str, [*modules, ROOT])),
    }
    environment = {**os.environ, "OMP_NUM_THREADS": "2", **own}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
    try:
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.terminate()
        assert process.wait(20) in (0, 143)
        process.stdout.close()


class Watched:
    """A page that remembers what must not happen: console errors, exceptions, requests to elsewhere."""

    def __init__(self, browser, url, width=1360, height=840, scheme="dark", before=lambda page: None, **options):
        self.origin = url.partition("/?")[0]
        size = {"width": width, "height": height}
        self.context = browser.new_context(viewport=size, color_scheme=scheme, accept_downloads=True, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(1000 * PATIENCE)
        self.faults = []
        self.page.on(
            "console", lambda message: message.type in ("error", "warning") and self.faults.append(message.text)
        )
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", self._check)
        before(self.page)
        self.page.goto(url)
        self.page.wait_for_selector("body[data-ready]")

    def _check(self, request):
        if not request.url.startswith((self.origin, "blob:")):
            self.faults.append(f"request to {request.url}")

    def until(self, expression):
        """Waits until JavaScript is true: the page's policy forbids Playwright's own way, which needs eval."""
        end = time.monotonic() + PATIENCE
        while not (value := self.page.evaluate(expression)):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.02)
        return value

    def picture(self):
        """The address of the stage's picture, once it has one."""
        return self.until("document.querySelector('#picture').naturalWidth && document.querySelector('#picture').src")

    def changed(self, old):
        """Waits for another picture on the stage."""
        self.until(f"document.querySelector('#picture').src !== {json.dumps(old)}")
        return self.picture()

    def download(self, action):
        """Does something that downloads a file; the file's path."""
        with self.page.expect_download() as info:
            action()
        return Path(info.value.path())

    def touch(self, *ways, steps=8, hold_ms=0):
        """Moves fingers over the page, each from one place (x, y) to another; they rest for `hold_ms` at first."""
        session = self.context.new_cdp_session(self.page)
        for step in range(steps + 1):
            share = step / steps
            fingers = [
                {"x": a[0] + share * (b[0] - a[0]), "y": a[1] + share * (b[1] - a[1]), "id": number}
                for number, (a, b) in enumerate(ways)
            ]
            kind = "touchMove" if step else "touchStart"
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})
            self.page.wait_for_timeout(15 if step else 15 + hold_ms)
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        session.detach()

    def middle(self, selector, nth=0, across=0.5, down=0.5):
        """Returns the place of a share of an element, its middle by default."""
        place = self.page.locator(selector).nth(nth)
        place.scroll_into_view_if_needed()
        box = place.bounding_box()
        return box["x"] + across * box["width"], box["y"] + down * box["height"]

    def drag(self, selector, share, nth=0):
        """Drags a slider to a share of its way."""
        slider = self.page.locator(selector).nth(nth)
        slider.scroll_into_view_if_needed()
        box = slider.bounding_box()
        y = box["y"] + box["height"] / 2
        at = slider.evaluate("input => (input.value - input.min) / (input.max - input.min)")
        inner = box["width"] - 18
        self.page.mouse.move(box["x"] + 9 + inner * at, y)
        self.page.mouse.down()
        for step in range(1, 9):
            self.page.mouse.move(box["x"] + 9 + inner * (at + (share - at) * step / 8), y)
            self.page.wait_for_timeout(10)
        self.page.mouse.up()
