"""The drawing thread's choices: which level keeps up, what is drawn first, what stays in memory."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from pggan.web.rendering import renderer as renderer_module
from pggan.web.rendering.drawing import MOVING_MS, Drawing, Latent, LevelTimes
from pggan.web.rendering.renderer import MOST_PENDING, Renderer, Request
from tests.helpers.explorers import explorer_of


def test_the_moving_level_is_the_highest_that_keeps_up():
    times = LevelTimes()
    for level, ms in ((2, 2), (3, 8), (4, 30), (5, 100), (6, 400)):
        times.note(level, ms)
    assert times.moving_level(6, 2) == 4
    assert times.moving_level(3, 2) == 3
    times.note(4, 200)  # it has become slow: at once
    assert times.moving_level(6, 2) == 3
    for _ in range(200):
        times.note(3, 8)  # and gets another chance
    assert times.moving_level(6, 2) == 4
    assert LevelTimes().moving_level(6, 2) == 2
    assert all(ms <= MOVING_MS for ms in (2, 8, 30))


def drawing_of(explorer, seed, level=4, quality="still"):
    latent = explorer.model.seed_latents([seed]).tobytes()
    return Drawing(Latent(latent), level, 1.0, "", quality)


@pytest.fixture
def stopped():
    """A renderer whose thread does not run yet, and what it has delivered."""
    explorer = explorer_of()
    return explorer, Renderer(explorer.shelf), []


def request(explorer, delivered, slot, seed, rank, owner="tab"):
    def deliver(asked, picture):
        delivered.append((asked.slot, picture))

    return Request(owner, slot, drawing_of(explorer, seed), rank, deliver)


def run(renderer, delivered, count):
    renderer.start()
    for _ in range(2000):
        if len(delivered) >= count:
            break
        threading.Event().wait(0.005)
    renderer.stop()


def test_urgent_pictures_come_first_and_newer_ones_replace_older_ones(stopped):
    explorer, renderer, delivered = stopped
    for seed in range(6):
        renderer.submit(request(explorer, delivered, f"grid:{seed}", seed, 2))
    renderer.submit(request(explorer, delivered, "stage", 7, 0))
    renderer.submit(request(explorer, delivered, "stage", 8, 0))
    run(renderer, delivered, 7)
    assert delivered[0][0] == "stage"
    assert sorted(slot for slot, _ in delivered) == sorted(["stage", *(f"grid:{seed}" for seed in range(6))])
    assert len(delivered) == 7


def test_tabs_are_apart_and_a_tab_forgets_its_own_alone(stopped):
    explorer, renderer, delivered = stopped
    one, two = "one", "two"
    renderer.submit(request(explorer, delivered, "stage", 1, 0, one))
    renderer.submit(request(explorer, delivered, "stage", 2, 0, two))
    renderer.submit(request(explorer, delivered, "grid:1", 3, 2, two))
    renderer.forget(two, ["stage"])
    run(renderer, delivered, 2)
    assert sorted(slot for slot, _ in delivered) == ["grid:1", "stage"]


def test_a_tab_waits_for_a_bounded_number_of_pictures(stopped):
    explorer, renderer, delivered = stopped
    for number in range(MOST_PENDING + 50):
        renderer.submit(request(explorer, delivered, f"grid:{number}", 1, 2))
    assert len(renderer._pending) == MOST_PENDING


def test_the_cache_is_bounded_and_gives_equal_pictures_once(stopped, monkeypatch):
    explorer, renderer, delivered = stopped
    monkeypatch.setattr(renderer_module, "CACHE_BYTES", 5000)
    for number in range(40):
        renderer.submit(request(explorer, delivered, f"grid:{number}", number % 20, 2))
    run(renderer, delivered, 40)
    assert 0 < renderer.cached_bytes <= 5000
    by_seed = {}
    for slot, picture in delivered:
        by_seed.setdefault(int(slot[5:]) % 20, set()).add(picture.data)
    assert all(len(pictures) == 1 for pictures in by_seed.values())


def test_a_picture_that_was_begun_before_the_cache_was_emptied_is_not_kept(stopped, monkeypatch):
    explorer, renderer, delivered = stopped
    draw = renderer._draw

    def drawn_late(drawings):
        pictures = draw(drawings)
        renderer.clear()  # the colours change meanwhile
        return pictures

    monkeypatch.setattr(renderer, "_draw", drawn_late)
    renderer.submit(request(explorer, delivered, "stage", 1, 0))
    run(renderer, delivered, 1)
    assert delivered
    assert not renderer._cache
    assert renderer.cached_bytes == 0


def test_a_picture_that_fails_is_said_and_the_thread_lives_on(stopped):
    explorer, renderer, delivered = stopped
    bad = Request("tab", "bad", Drawing(Latent(b""), 4, 1.0), 0, lambda r, p: delivered.append((r.slot, p)))
    renderer.submit(bad)
    renderer.submit(request(explorer, delivered, "good", 1, 1))
    run(renderer, delivered, 2)
    results = dict(delivered)
    assert isinstance(results["bad"], str)
    assert np.frombuffer(results["good"].data[:4], np.uint8)[1] == ord("P")
