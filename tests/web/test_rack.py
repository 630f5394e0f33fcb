"""The rack: directions found and taught, locked ones kept apart, saved and loaded; classes and codes as controls."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from pggan.config.train import DiscriminatorConfig, GeneratorConfig
from pggan.editing.directions import find_sefa
from pggan.editing.directions_file import read_directions
from pggan.editing.sphere import angle
from pggan.generation.images import file_suffix
from pggan.generation.model import Model
from pggan.networks.factory import build
from pggan.networks.model_file import ModelFile
from pggan.web.explorer import Explorer
from pggan.web.rack import SOURCES
from pggan.web.recipe import recipe
from pggan.web.session.points import Point, latent_of, parse_point
from pggan.web.session.screen import changed
from tests.helpers.explorers import client_of, explorer_of, opened, page_of
from tests.helpers.waiting import PATIENCE


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("pggan.web.rack.SEEDS", 80)


@pytest.mark.long
def test_every_source_finds_directions_or_says_why_not(quick):
    with opened(labels=2) as (page, explorer):
        sources = {source["name"]: source["why"] for source in page.ask("rack")["sources"]}
        assert sources == dict.fromkeys(SOURCES, "")
        for name in [name for name in SOURCES if name != "faces"]:  # an untrained model makes none
            before = len(explorer.rack.describe()["directions"])
            answer = page.ask("find", source=name)
            assert len(answer["directions"]) > before, answer
            assert page.ask("find", source=name)["directions"] == answer["directions"]  # the same ones again
        notes = {direction["id"]: direction["note"] for direction in answer["directions"]}
        assert "times as much as a random direction" in notes["sefa:sefa0"]
        assert "R^2" in notes["pca:pca0"]
        assert page.events[-1]["event"] == "rack"
    with opened(discriminator=False) as (page, _):
        assert "no labels" in {s["name"]: s["why"] for s in page.ask("rack")["sources"]}["labels"]
        assert page.ask("find", source="labels")["type"] == "error"
        assert page.ask("find", source="../x")["type"] == "error"


def test_a_slider_turns_the_latent_by_its_degrees():
    with opened() as (page, explorer):
        page.ask("find", source="sefa")
        start = explorer.model.seed_latents([3])[0]
        point = parse_point({"seed": 3, "moves": {"sefa:sefa0": 20}}, explorer.space)
        moved = latent_of(point, explorer.space, explorer.directions(explorer.first_screen()))
        assert angle(start, moved) == pytest.approx(20, abs=1e-3)
        vector = find_sefa(explorer.model).select(["sefa0"]).vectors[0]
        assert angle(moved, vector) < angle(start, vector)


def test_locked_directions_are_not_moved_by_the_others(quick):
    with opened() as (page, explorer):
        page.ask("find", source="sefa")
        page.ask("find", source="scores")
        locked = ["sefa:sefa0", "scores:brightness"]
        screen = changed(explorer.first_screen(), {"locked": locked}, explorer.space)
        free, plain = explorer.directions(screen), explorer.directions(explorer.first_screen())
        for key in set(free) - set(locked):
            assert np.abs([free[key] @ free[other] for other in locked]).max() < 1e-5
        for key in locked:
            np.testing.assert_array_equal(free[key], plain[key])


def test_ten_marks_teach_a_direction():
    with opened() as (page, explorer):
        latents = explorer.model.seed_latents(range(200))
        axis = np.random.RandomState(5).randn(12)
        marks = {str(seed): bool(latents[seed] @ axis > 0) for seed in range(200)}
        page.ask("change", screen={"marks": dict(list(marks.items())[:9])})
        assert "too few" in page.ask("teach", name="mine")["error"]
        page.ask("change", screen={"marks": marks})
        answer = page.ask("teach", name="mine")
        assert answer["taught"] == "marks:mine"
        assert "held-out" in answer["said"]
        vector = explorer.directions(explorer.first_screen())["marks:mine"]
        assert angle(vector, axis) < 25
        assert page.ask("teach", name="mine")["taught"] == "marks:mine 2"
        page.ask("change", screen={"marks": {str(seed): True for seed in range(12)}})
        assert page.ask("teach", name="mine")["type"] == "error"


def test_directions_are_saved_with_their_new_names_and_load_again(tmp_path):
    with opened() as (page, explorer):
        assert "no directions" in page.ask("directions")["error"]
        page.ask("find", source="sefa")
        page.ask("change", screen={"names": {"sefa:sefa0": "sunshine"}})
        path = explorer.exports.find(page.ask("directions")["file"].rpartition("/")[2]).path
        copy = tmp_path / "directions.safetensors"
        copy.write_bytes(path.read_bytes())
        assert "sunshine" in read_directions(copy).names
    again = explorer_of()
    again.rack.load(copy)
    directions = again.directions(again.first_screen())
    expected = find_sefa(again.model).select(["sefa0"]).vectors[0]
    np.testing.assert_allclose(directions["own:sunshine"], expected, atol=1e-6)
    with pytest.raises(Exception, match="does not exist"):
        explorer_of(resolution=8).rack.load(tmp_path / "nothing")


def test_directions_of_one_name_are_told_apart_in_the_file(tmp_path):
    with opened() as (page, explorer):
        page.ask("find", source="sefa")
        names = {"sefa:sefa0": "mine", "sefa:sefa1": "mine", "sefa:sefa2": "mine 2"}
        page.ask("change", screen={"names": names})
        answer = page.ask("directions")
        path = explorer.exports.find(answer["file"].rpartition("/")[2]).path
        saved_names = read_directions(path).names
        assert len(set(saved_names)) == len(saved_names)
        assert {"mine", "mine 2"} <= set(saved_names)  # in the order of their effects


def explorer_with_codes():
    common = {"resolution": 8, "fmap_base": 64, "fmap_max": 8, "categorical": (3,), "continuous": 2}
    generator, _ = build(GeneratorConfig(**common, latent_size=12), DiscriminatorConfig(**common), 0)
    return Explorer(Model(ModelFile(generator, None, 3, 1.0), torch.device("cpu")))


@pytest.mark.parametrize("value, text", [(1, "1"), (-0.5, "-0.5"), (1e6, "1e+06"), (0.123456789, "0.12345679")])
def test_commands_and_file_names_tell_codes_of_single_precision_apart(value, text):
    explorer = explorer_with_codes()
    command = recipe(Point(seed=1, codes=((1, value),)), explorer.first_screen(), explorer)["command"]
    assert command.endswith(f"--code 1={text}")
    assert file_suffix(explorer.model, None, {1: value}) == f"-code1_{text}"
    assert np.float32(text) == np.float32(value)


def test_structured_codes_are_controls():
    explorer = explorer_with_codes()
    with client_of(explorer) as client, page_of(client) as page:
        about = page.ask("hello")["model"]
        assert (about["categorical"], about["continuous"]) == ([3], 2)
        page.picture({"seed": 1, "codes": {"0": 2, "1": -0.5}})
        point = parse_point({"seed": 1, "codes": {"0": 2, "1": -0.5}}, explorer.space)
        row = latent_of(point, explorer.space, {})
        np.testing.assert_array_equal(row, explorer.model.seed_latents([1], {0: 2, 1: -0.5})[0])
        assert "codes 0 to 2" in page.ask("about", point={"seed": 1, "codes": {"7": 1}})["error"]


def test_directions_in_closed_form_do_not_wait_for_other_work():
    explorer = explorer_of(resolution=128)
    with client_of(explorer) as client, page_of(client) as page:
        waiting = threading.Event()
        explorer.jobs.start(lambda job: {"waited": waiting.wait(PATIENCE)}, lambda event: None)
        try:
            answer = page.ask("find", source="sefa")
            assert not waiting.is_set()
            assert len(answer["directions"]) == 8
        finally:
            waiting.set()
