"""Models with a mapping network: the page moves w, in standard deviations."""

from __future__ import annotations

import io
import shlex

import numpy as np
import pytest
import torch
from PIL import Image

from pggan.editing.latent_images import write_latent_images
from pggan.editing.latent_sources import read_latents
from pggan.editing.latent_space import straight_move
from pggan.editing.latents_file import LatentSet
from pggan.generation.images import encode_png
from pggan.generation.model import load
from pggan.networks.model_file import load_model, save_model
from pggan.utils.errors import UsageError
from pggan.web.explorer import Explorer
from tests.helpers.editing_models import saved_kind
from tests.helpers.explorers import ORIGIN, client_of, explorer_of, page_of
from tests.helpers.model_files import saved


@pytest.fixture(scope="module", params=["mapping", "mapped-labels"])
def studio(request, tmp_path_factory):
    explorer = explorer_of(saved_kind(request.param, tmp_path_factory.mktemp("model")))
    with client_of(explorer) as client, page_of(client) as page:
        yield page, explorer, client


def pixels(message):
    return np.asarray(Image.open(io.BytesIO(message["data"]), formats=["PNG"])).astype(int)


def test_a_move_is_in_standard_deviations_of_w(studio):
    page, explorer, _ = studio
    model = explorer.model
    assert page.ask("hello")["model"]["space"] == "w"
    assert (pixels(page.picture({"seed": 5})) == model.generate(5)[0]).all()
    directions = page.ask("find", source="sefa")["directions"]
    assert {(direction["unit"], direction["reach"]) for direction in directions} == {(" σ", 3.0)}
    key = directions[0]["id"]
    vector = explorer.directions(explorer.first_screen())[key]
    latents = LatentSet.of_seeds(model, [5]).in_w(model)
    moved = latents.with_latents(straight_move(model, latents.z, vector, 2.5), latents.names, latents.origins)
    picture = pixels(page.picture({"seed": 5, "moves": {key: 2.5}}))
    assert np.abs(picture - moved.images(model)[0]).max() <= 1
    assert (picture != model.generate(5)[0]).any()


def test_family_children_and_films_are_w(studio):
    page, explorer, _ = studio
    family = page.ask("family", point={"seed": 5})["points"]
    assert family == page.ask("family", point={"seed": 5})["points"]
    assert len({point["z"] for point in family}) == 12
    born = page.ask("children", parents=[{"seed": 1}, family[0]])["points"]
    assert len(born) == 9
    for point in (family[3], born[4]):
        assert pixels(page.picture(point)).shape == (16, 16, 3)
    page.ask("change", screen={"frames": [{"point": {"seed": 1}}, {"point": family[1]}], "loop": False})
    page.tell("draw", rank=0, pictures=[{"slot": "film", "time": 0.0}])
    assert np.abs(pixels(page.receive()) - explorer.model.generate(1)[0]).max() <= 1
    assert page.ask("film", format="gif", fps=5)["frames"] > 1


def test_what_is_saved_or_copied_makes_the_picture_again(studio, tmp_path):
    page, explorer, client = studio
    point = page.ask("family", point={"seed": 9})["points"][2]
    shown = pixels(page.picture(point))
    code = page.ask("recipe", point=point)["python"]
    assert "takes_w" in code
    namespace: dict[str, object] = {}
    exec(code, namespace)
    assert np.abs(np.asarray(namespace["image"]).astype(int) - shown).max() <= 1
    link = page.ask("save", point=point)["file"]
    (tmp_path / "p.png").write_bytes(client.get(link).content)
    latents = read_latents(tmp_path / "p.png", explorer.model)
    assert latents.space == "w"
    assert np.abs(latents.images(explorer.model)[0].astype(int) - shown).max() <= 1
    page.ask("favour", point=point)
    data = client.get(page.ask("export", way="latents")["file"]).content
    (tmp_path / "l.safetensors").write_bytes(data)
    assert read_latents(tmp_path / "l.safetensors", explorer.model).space == "w"
    headers = {"origin": ORIGIN}
    answer = client.post("/upload", content=(tmp_path / "p.png").read_bytes(), headers=headers).json()
    assert answer["screen"]["stage"] == point


def test_all_pictures_of_a_page_are_truncated_alike(tmp_path):
    path = saved_kind("mapping", tmp_path)
    model = load(path, "cpu", truncation=0.5)
    explorer = Explorer(model)
    with client_of(explorer) as client, page_of(client) as page:
        assert page.ask("hello")["model"]["truncation"] == 0.5
        shown = pixels(page.picture({"seed": 5}))
        assert (shown == model.generate(5)[0]).all()
        assert (shown != load(path, "cpu").generate(5)[0]).any()
        recipe = page.ask("recipe", point={"seed": 5})
        assert shlex.split(recipe["command"])[3:] == ["--truncation", "0.5", "--seeds", "5"]
        for point in ({"seed": 5}, page.ask("family", point={"seed": 5})["points"][3]):
            names: dict[str, object] = {}
            exec(page.ask("recipe", point=point)["python"], names)  # our own code, as a user would run it
            assert np.abs(np.asarray(names["image"]).astype(int) - pixels(page.picture(point))).max() <= 1
        mix = {"with": {"seed": 6}, "level": 3, "share": 1}
        assert page.ask("recipe", point={"seed": 5, "mix": mix})["command"].startswith("#")
        data = client.get(page.ask("save", point={"seed": 5})["file"]).content
        assert client.post("/upload", content=data, headers={"origin": ORIGIN}).json()["difference"] == ""
    with client_of(explorer_of(path)) as client:
        difference = client.post("/upload", content=data, headers={"origin": ORIGIN}).json()["difference"]
        assert "a truncation of 0.5" in difference
    with pytest.raises(UsageError, match="mapping network"):
        load(saved_kind("plain", tmp_path), "cpu", truncation=0.5)


def test_snapshots_are_truncated_as_the_model_is(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    for number in (1, 2):
        saved(folder / f"model-00000{number}.safetensors", g_fields=[("mapping_layers", 2)])
    explorer = Explorer(load(folder / "model-000002.safetensors", "cpu", truncation=0.5), tmp_path)
    assert explorer.shelf.model("model-000001").truncation == 0.5


def test_a_photograph_is_found_in_w(studio):
    page, explorer, client = studio
    picture = encode_png(explorer.model.generate(3)[0])
    key = client.post("/upload", content=picture, headers={"origin": ORIGIN}).json()["key"]
    answer = page.ask("project", key=key, steps=12)
    assert answer["psnr"] > 5
    assert pixels(page.picture(answer["point"])).shape == (16, 16, 3)


def test_each_snapshot_has_a_mapping_of_its_own(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    opened = saved(folder / "model-000002.safetensors", g_fields=[("mapping_layers", 2)])
    other = load_model(opened, torch.device("cpu"))
    with torch.no_grad():
        for parameter in other.generator.mapping.parameters():
            parameter.mul_(-0.5)
    save_model(folder / "model-000001.safetensors", other)
    explorer = explorer_of(opened, tmp_path)
    with client_of(explorer) as client, page_of(client) as page:
        snapshot = "model-000001"
        expected = explorer.shelf.model(snapshot).generate(4)[0]
        assert (pixels(page.picture({"seed": 4}, snapshot=snapshot)) == expected).all()
        page.ask("find", source="sefa")
        frames = [{"point": {"seed": 4}}, {"point": {"seed": 5}}]
        page.ask("change", screen={"snapshot": snapshot, "frames": frames})
        page.tell("draw", rank=0, pictures=[{"slot": "film", "time": 0.0}])
        assert np.abs(pixels(page.receive()) - expected).max() <= 1
        point = {"seed": 4, "moves": {"sefa:sefa0": 2}}
        data = client.get(page.ask("save", point=point)["file"]).content
        names: dict[str, object] = {}
        exec(page.ask("recipe", point=point)["python"], names)  # our own code, as a user would run it
        assert np.abs(pixels({"data": data}) - np.asarray(names["image"])).max() <= 1
        (tmp_path / "p.png").write_bytes(data)
        latents = read_latents(tmp_path / "p.png", explorer.shelf.model(snapshot))
        assert np.abs(pixels({"data": data}) - latents.images(explorer.shelf.model(snapshot))[0]).max() <= 1
        answer = client.post("/upload", content=data, headers={"origin": ORIGIN}).json()
        assert (answer["screen"]["stage"], answer["difference"]) == (point, "")
        assert (expected != explorer.model.generate(4)[0]).any()


def test_a_picture_of_a_kept_latent_comes_back_when_it_is_dropped(tmp_path):
    explorer = explorer_of(saved_kind("labels", tmp_path))
    model = explorer.model
    latents = LatentSet.of_seeds(model, [3], "kind2")
    latents = latents.with_latents(latents.z + 0.3, ["mine"], [{"edit": {}}])
    (name,) = write_latent_images(model, latents, tmp_path / "out").names
    data = (tmp_path / "out" / name).read_bytes()
    with client_of(explorer) as client, page_of(client) as page:
        answer = client.post("/upload", content=data, headers={"origin": ORIGIN}).json()
        assert answer["kind"] == "state"
        assert (pixels(page.picture(answer["screen"]["stage"])) == latents.images(model)[0]).all()
    other = explorer_of()
    with client_of(other) as client:
        assert client.post("/upload", content=data, headers={"origin": ORIGIN}).json()["kind"] == "photograph"
