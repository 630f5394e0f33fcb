"""What a page can ask for, by Starlette's client: pictures that are the model's, steps and undo, and any nonsense."""

from __future__ import annotations

import base64
import io
import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pggan.generation.latent_walks import slerp
from pggan.web.server import HANDLERS
from pggan.web.session.history import History
from pggan.web.session.points import Point, family, latent_of, parse_point
from pggan.web.session.screen import changed
from tests.helpers.explorers import explorer_of, opened


@pytest.fixture(scope="module")
def conversation():
    with opened(labels=3) as (page, explorer):
        yield page, explorer


def pixels(message):
    return np.asarray(Image.open(io.BytesIO(message["data"]), formats=["PNG", "JPEG"]))


def test_pictures_are_the_models(conversation):
    page, explorer = conversation
    message = page.picture({"seed": 7, "classes": [2]})
    assert message["kind"] == "image/png"
    assert message["side"] == 16
    np.testing.assert_array_equal(pixels(message), explorer.model.generate(7, label=2)[0])
    own = page.picture({"seed": 7})
    np.testing.assert_array_equal(pixels(own), explorer.model.generate(7)[0])
    latent = base64.b64encode(explorer.model.seed_latents([7]).tobytes()).decode()
    same = page.picture({"z": latent, "classes": [2]})
    np.testing.assert_array_equal(pixels(same), pixels(message))


def test_many_pictures_come_each_to_its_slot(conversation):
    page, explorer = conversation
    page.tell("draw", pictures=[{"slot": f"grid:{seed}", "point": {"seed": seed}} for seed in range(20)])
    while len(page.pictures) < 20:
        message = page.receive()
        page.pictures[message["slot"]] = message
    images = explorer.model.generate(range(20))
    for seed in range(20):
        difference = pixels(page.pictures.pop(f"grid:{seed}")).astype(int) - images[seed]
        assert np.abs(difference).max() <= 1  # another batch rounds otherwise


def test_the_newest_request_of_a_slot_wins(conversation):
    page, _ = conversation
    for seed in range(50):
        page.tell("draw", rank=0, pictures=[{"slot": "stage", "point": {"seed": seed}, "rev": seed}])
    revisions = []
    while not revisions or revisions[-1] != 49:
        revisions.append(page.receive()["rev"])
    assert revisions == sorted(revisions)


def test_levels_and_alpha(conversation):
    page, _ = conversation
    assert [page.picture({"seed": 1}, level=level)["side"] for level in (2, 3, 4)] == [4, 8, 16]
    faded = pixels(page.picture({"seed": 1}, level=4, alpha=0.0))
    coarse = pixels(page.picture({"seed": 1}, level=3)).repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(faded, coarse)


def test_a_family_is_as_far_away_as_it_says(conversation):
    page, explorer = conversation
    points = page.ask("family", point={"seed": 3}, degrees=20)["points"]
    assert len(points) == 12
    latents = [np.frombuffer(base64.b64decode(point["z"]), "<f4") for point in points]
    original = explorer.model.seed_latents([3])[0]
    for latent in latents:
        cosine = latent @ original / np.linalg.norm(latent) / np.linalg.norm(original)
        assert np.degrees(np.arccos(cosine)) == pytest.approx(20, abs=0.01)
    assert len({latent.tobytes() for latent in latents}) == 12
    assert page.ask("family", point={"seed": 3}, degrees=20)["points"] == points


def test_moves_turn_the_latent_and_their_order_does_not_matter():
    space = explorer_of().space
    axes = {"a": np.eye(12, dtype=np.float32)[0], "b": np.eye(12, dtype=np.float32)[1]}
    start = latent_of(Point(seed=5), space, axes)
    one = latent_of(Point(seed=5, moves=(("a", 30.0),)), space, axes)
    across = axes["a"] - (axes["a"] @ start) / (start @ start) * start
    target = across / np.linalg.norm(across) * np.linalg.norm(start)
    np.testing.assert_allclose(one, slerp(start, target, 30 / 90), rtol=1e-4, atol=1e-5)  # a second computation
    assert np.linalg.norm(one) == pytest.approx(np.linalg.norm(start), rel=1e-5)
    both = latent_of(Point(seed=5, moves=(("a", 10.0), ("b", -20.0))), space, axes)
    np.testing.assert_allclose(
        both, latent_of(Point(seed=5, moves=(("b", -20.0), ("a", 10.0))), space, axes), rtol=1e-5
    )
    back = latent_of(Point(seed=5, moves=(("gone", 30.0),)), space, axes)
    np.testing.assert_array_equal(back, start)


def test_points_survive_json():
    space = explorer_of(labels=3).space
    child = family(Point(seed=1), space, {}, 15, 2)[1]
    mixed = {
        "seed": 4,
        "classes": [1],
        "moves": {"x": -3.5},
        "mix": {"with": child.to_json(), "level": 3, "share": 0.5},
    }
    for value in ({"seed": 0}, child.to_json(), mixed):
        point = parse_point(value, space)
        assert parse_point(json.loads(json.dumps(point.to_json())), space) == point


UNDO_EXPLORER = explorer_of()
# steps of a user; a second model of undo is a list of screens
fields = st.one_of(
    st.fixed_dictionaries({"first": st.integers(0, 99)}),
    st.fixed_dictionaries({"level": st.integers(2, 4), "alpha": st.sampled_from([0, 0.5, 1])}),
    st.fixed_dictionaries({"stage": st.fixed_dictionaries({"seed": st.integers(0, 9)})}),
    st.fixed_dictionaries({"marks": st.dictionaries(st.sampled_from(["1", "2"]), st.booleans())}),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.just("undo"), st.just("redo"), fields), max_size=40))
def test_undo_against_a_list_of_screens(steps):
    explorer = UNDO_EXPLORER
    history = History(explorer.first_screen())
    screens, at = [history.screen], 0
    for step in steps:
        if step == "undo":
            assert history.undo() == (at > 0)
            at = max(0, at - 1)
        elif step == "redo":
            assert history.redo() == (at < len(screens) - 1)
            at = min(len(screens) - 1, at + 1)
        else:
            screen = changed(history.screen, step, explorer.space)
            history.change(screen)
            if screen != screens[at]:
                screens, at = [*screens[: at + 1], screen], at + 1
        assert history.screen == screens[at]
        assert history.depth == (at, len(screens) - 1 - at)


def test_steps_over_the_wire(conversation):
    page, _ = conversation
    before = page.ask("hello")
    answer = page.ask("change", screen={"stage": {"seed": 9}, "marks": {"3": True}})
    assert answer["screen"]["stage"] == {"seed": 9}
    assert answer["undo"] == before["undo"] + 1
    assert page.ask("undo")["screen"] == before["screen"]
    assert page.ask("redo")["screen"] == answer["screen"]
    refused = page.ask("change", screen={"level": 3, "alpha": 7})
    assert refused["type"] == "error"
    assert page.ask("hello")["screen"] == answer["screen"]  # nothing of a refused step stays


def nonsense(draw: random.Random, depth: int = 0):
    """Any JSON."""
    kinds = [None, True, -1, 0, 2**70, 1.5, float("nan"), float("inf"), "", "seed", "a" * 5000, "\0\n", "Ω" * 9]
    if depth < 3 and draw.random() < 0.5:
        if draw.random() < 0.5:
            return [nonsense(draw, depth + 1) for _ in range(draw.randrange(6))]
        keys = [
            "seed",
            "z",
            "mix",
            "with",
            "moves",
            "codes",
            "classes",
            "level",
            "alpha",
            "stage",
            "point",
            "slot",
            "x",
        ]
        return {draw.choice(keys): nonsense(draw, depth + 1) for _ in range(draw.randrange(6))}
    return draw.choice(kinds)


@pytest.mark.long
def test_a_thousand_malformed_messages(conversation, fuzz_rounds):
    """Each gets an answer or none; none ends the conversation, and the server's own words say what is wrong."""
    page, explorer = conversation
    draw = random.Random(1)
    kinds = [*sorted(HANDLERS), "nothing", "", None, 5]
    page.tell("hello")
    for round_number in range(fuzz_rounds(1000)):
        way = draw.random()
        if way < 0.1:
            page.socket.send_bytes(draw.randbytes(draw.randrange(64)))
        elif way < 0.25:
            page.socket.send_text(draw.choice(["", "{", "[" * 90000, "nul", '{"type":', "\ud7ff", "[]", "3"]))
        else:
            names = ["point", "screen", "pictures", "slots", "rank", "degrees", "job", "first", "key", "way"]
            message = {"type": draw.choice(kinds), "id": draw.choice([round_number, -1, "x", None, 2**60])}
            message |= {draw.choice(names): nonsense(draw) for _ in range(draw.randrange(5))}
            page.socket.send_text(json.dumps(message))
        if round_number % 100 == 99:
            assert "model" in page.ask("hello")
    errors = page.ask("change", screen=5)
    assert errors["type"] == "error"
    assert explorer.renderer._thread.is_alive()
    assert page.picture({"seed": 1})["side"] == 16


def test_a_wrong_value_is_said_plainly(conversation):
    page, _ = conversation
    for fields, words in (
        ({"seed": -1}, "the seed"),
        ({"seed": 1.0}, "the seed"),
        ({"seed": True}, "the seed"),
        ({"z": "AAAA"}, "the latent"),
        ({"z": base64.b64encode(np.full(12, np.nan, "<f4").tobytes()).decode()}, "finite"),
        ({"seed": 1, "classes": [3]}, "class of hair"),
        ({"seed": 1, "codes": {"0": 1}}, "no codes"),
        ({"seed": 1, "mix": {"with": {"seed": 2, "mix": {"with": {"seed": 3}, "level": 3}}, "level": 3}}, "one other"),
    ):
        answer = page.ask("about", point=fields)
        assert answer["type"] == "error"
        assert words in answer["error"], answer


def test_a_number_beyond_all_floats_is_a_wrong_value():
    with opened() as (page, _):
        assert "alpha" in page.ask("change", screen={"alpha": 10**400})["error"]
        assert page.ask("change", screen={"alpha": 0.5})["screen"]["alpha"] == 0.5


def test_a_closed_tab_ends_its_work():
    with opened() as (page, explorer):
        page.tell("draw", rank=5, pictures=[{"slot": f"{n}", "point": {"seed": n}} for n in range(100)])
        page.ask("hello")
    assert explorer.tabs == []
    assert not explorer.renderer.is_busy
    assert not explorer.renderer._thread.is_alive()
