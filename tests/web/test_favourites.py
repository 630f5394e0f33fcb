"""Favourites on disk, undone and redone, exported; pictures that are saved come back; what is no picture does not."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import shlex
import zipfile

import numpy as np
import pytest
from PIL import Image

from pggan.cli import run
from pggan.editing.latent_sources import read_latents
from pggan.generation.images import encode_png, read_metadata
from pggan.generation.model import load
from pggan.networks.model_file import save_model
from pggan.web.uploads import MOST_UPLOAD_BYTES
from tests.helpers.explorers import ORIGIN, client_of, explorer_of, page_of
from tests.helpers.model_files import model_file, saved


@pytest.fixture
def browser(tmp_path):
    """A page, its explorer and its HTTP client, of a model that lies in a file."""
    explorer = explorer_of(saved(tmp_path / "small.safetensors", labels=2))
    with client_of(explorer) as client, page_of(client) as page:
        yield page, explorer, client


def keys_of(explorer):
    return [entry["key"] for entry in explorer.favourites.describe()["entries"]]


def test_favourites_that_cannot_be_written_are_an_error_and_can_still_be_undone(browser, tmp_path):
    page, explorer, _ = browser
    page.ask("favour", point={"seed": 3})
    place = explorer.favourites.path
    (tmp_path / "file").write_text("")
    explorer.favourites.path = tmp_path / "file" / "favourites.json"
    for request in ({"kind": "favour", "point": {"seed": 4}}, {"kind": "undo"}):
        answer = page.ask(**request)
        assert (answer["type"], "Not a directory" in answer["error"]) == ("error", True)
    explorer.favourites.path = place
    assert len(keys_of(explorer)) == 1
    assert page.ask("undo")["moved"]
    assert keys_of(explorer) == []


def fetch(client, answer):
    assert "file" in answer, answer
    reply = client.get(answer["file"])
    assert reply.status_code == 200
    assert answer["name"] in reply.headers["content-disposition"]
    return reply.content


def test_favourites_are_kept_on_disk_and_undone(browser):
    page, explorer, _ = browser
    for seed in (3, 4, 5):
        page.ask("favour", point={"seed": seed}, note=f"number {seed}")
    data = json.loads(explorer.favourites.path.read_text())
    assert [entry["point"] for entry in data["favourites"]] == [{"seed": 3}, {"seed": 4}, {"seed": 5}]
    keys = keys_of(explorer)
    page.ask("unfavour", key=keys[1])
    assert keys_of(explorer) == [keys[0], keys[2]]
    page.ask("note", key=keys[0], note="other words")
    page.ask("undo")
    assert explorer.favourites.read()[0].note == "number 3"
    page.ask("undo")
    assert keys_of(explorer) == keys  # back at its place
    page.ask("undo")
    assert keys_of(explorer) == keys[:2]
    for _ in range(3):
        page.ask("redo")
    assert keys_of(explorer) == [keys[0], keys[2]]
    assert explorer.favourites.read()[0].note == "other words"
    assert not list(explorer.favourites.path.parent.glob(".*"))  # nothing else is written


def test_favourites_of_a_run_lie_in_it(tmp_path):
    run = tmp_path / "run"
    (run / "models").mkdir(parents=True)
    path = saved(run / "models" / "model-000000040.safetensors")
    with client_of(explorer_of(path, run)) as client, page_of(client) as page:
        page.ask("favour", point={"seed": 1})
        assert page.ask("hello")["model"]["run"] == "run"
    assert json.loads((run / "favourites.json").read_text())["version"] == 1


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"version": 2, "favourites": []}', '{"version": 1}', '{"version": 1, "favourites": [{}]}'],
)
def test_a_damaged_file_is_said_and_never_replaced(browser, content):
    page, explorer, _ = browser
    explorer.favourites.path.parent.mkdir(parents=True, exist_ok=True)
    explorer.favourites.path.write_text(content)
    answer = page.ask("favour", point={"seed": 1})
    assert answer["type"] == "error"
    assert "move it away" in answer["error"]
    assert "move it away" in page.ask("hello")["model"]["favourites"]["problem"]
    assert explorer.favourites.path.read_text() == content


def test_a_saved_picture_brings_its_state_back(browser):
    page, explorer, client = browser
    page.ask("change", screen={"stage": {"seed": 6, "classes": [1]}, "level": 3, "alpha": 0.5})
    data = fetch(client, page.ask("save", point={"seed": 6, "classes": [1]}))
    about = read_metadata(io.BytesIO(data))
    assert about["seed"] == 6
    assert about["class"] == {"number": 1, "name": "kind1"}
    image = np.asarray(Image.open(io.BytesIO(data), formats=["PNG"]))
    latents, labels = explorer.model.seed_latents([6]), np.float32([[0, 1]])
    raw = explorer.model.synthesize(latents, labels, 3, 0.5)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(image, np.clip(np.rint(raw * 127.5 + 127.5), 0, 255), atol=1)
    page.ask("change", screen={"stage": {"seed": 0}, "level": 4, "alpha": 1})
    answer = client.post("/upload", content=data, headers={"origin": ORIGIN}).json()
    assert answer["kind"] == "state"
    assert answer["difference"] == ""
    screen = page.ask("change", screen=answer["screen"])["screen"]
    assert (screen["stage"], screen["level"], screen["alpha"]) == ({"seed": 6, "classes": [1]}, 3, 0.5)


def test_pictures_of_generate_come_back_too(browser):
    _, _, client = browser
    data = encode_png(np.zeros((4, 4, 3), np.uint8), {"seed": 77, "sha256": "of another model", "model": "other"})
    answer = client.post("/upload", content=data, headers={"origin": ORIGIN}).json()
    assert (answer["kind"], answer["screen"]) == ("state", {"stage": {"seed": 77}})
    assert answer["difference"].startswith("Another model made this picture: other.")


@pytest.mark.parametrize("label, classes", [("kind1", [1]), ("kind0", [0]), (None, None)])
def test_pictures_of_generate_come_back_in_their_class(browser, tmp_path, label, classes):
    page, explorer, client = browser
    own = explorer.space.labels.drawn(5, explorer.space.latent_size)[0]
    chosen = ["--label", label] if label else []
    assert run(["generate", str(explorer.model.path), "--seeds", "5", "--out", str(tmp_path / "out"), *chosen]) == 0
    (path,) = (tmp_path / "out").glob("seed*.png")
    answer = client.post("/upload", content=path.read_bytes(), headers={"origin": ORIGIN}).json()
    stage = {"seed": 5} if classes in (None, [own]) else {"seed": 5, "classes": classes}
    assert answer == {"kind": "state", "screen": {"stage": stage}, "difference": ""}
    with Image.open(io.BytesIO(page.picture(stage)["data"])) as shown, Image.open(path) as made:
        assert (np.asarray(shown) == np.asarray(made)).all()


def test_a_picture_of_the_generator_itself_says_that_the_page_shows_its_average(browser):
    _, _, client = browser
    about = {"seed": 5, "raw": True, "model": "small"}
    data = encode_png(np.zeros((4, 4, 3), np.uint8), about)
    answer = client.post("/upload", content=data, headers={"origin": ORIGIN}).json()
    assert "--raw" in answer["difference"]


def test_other_pictures_are_photographs_and_other_files_are_refused(browser):
    _, explorer, client = browser
    headers = {"origin": ORIGIN}
    answer = client.post("/upload", content=encode_png(np.full((30, 20, 3), 9, np.uint8)), headers=headers).json()
    assert (answer["kind"], answer["width"], answer["height"]) == ("photograph", 20, 30)
    assert explorer.photographs.find(answer["key"]).shape == (30, 20, 3)
    for data in (b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(50), b"GIF89a" + bytes(99)):
        reply = client.post("/upload", content=data, headers=headers)
        assert reply.status_code == 400
        assert "not a picture" in reply.json()["error"]
    reply = client.post("/upload", content=bytes(MOST_UPLOAD_BYTES + 1), headers=headers)
    assert reply.status_code == 413
    assert "25 MB" in reply.json()["error"]


def test_exports_hold_every_favourite(browser, tmp_path):
    page, explorer, client = browser
    assert "no favourites" in page.ask("export", way="pngs")["error"]
    for seed in (1, 2, 3):
        page.ask("favour", point={"seed": seed}, note="mine" if seed == 2 else "")
    with zipfile.ZipFile(io.BytesIO(fetch(client, page.ask("export", way="pngs")))) as file:
        assert file.namelist() == ["001-seed1.png", "002-seed2.png", "003-seed3.png"]
        about = read_metadata(io.BytesIO(file.read("002-seed2.png")))
    assert about["note"] == "mine"
    assert about["seed"] == 2
    assert page.progress[-1]["done"] == 1
    sheet = Image.open(io.BytesIO(fetch(client, page.ask("export", way="sheet"))), formats=["PNG"])
    assert sheet.size == (128, 128)
    latents = tmp_path / "favourites.safetensors"
    latents.write_bytes(fetch(client, page.ask("export", way="latents")))
    kept = read_latents(latents, explorer.model)
    np.testing.assert_array_equal(kept.z, explorer.model.seed_latents([1, 2, 3]))
    assert kept.names == ("seed0000000001", "mine", "seed0000000003")
    assert client.get("/files/nothing").status_code == 404


def test_exported_files_go_with_the_server(tmp_path):
    explorer = explorer_of(saved(tmp_path / "small.safetensors"))
    with client_of(explorer) as client, page_of(client) as page:
        key = page.ask("save", point={"seed": 1})["file"].rpartition("/")[2]
        path = explorer.exports.find(key).path
        assert path.exists()
    assert not path.parent.exists()


def test_seeds_sorted_by_score_are_in_the_discriminators_order(browser):
    page, explorer, _ = browser
    answer = page.ask("sort", first=5)
    seeds, model = answer["seeds"], explorer.model
    assert sorted(seeds) == list(range(5, 245))
    scores = []
    for seed in (seeds[0], seeds[120], seeds[-1]):
        images = model.synthesize(model.seed_latents([seed]), model.seed_labels([seed]))
        scores.append(float(model.discriminator(images).score[0]))
    assert scores[0] > scores[1] > scores[2]


MASK = base64.b64encode(bytes(range(256))).decode()


def picture_in(data):
    return np.asarray(Image.open(io.BytesIO(data), formats=["PNG"]))


@pytest.mark.parametrize(
    "point,level",
    [
        ({"seed": 4}, 4),
        ({"seed": 4, "classes": [1]}, 4),
        ({"seed": 4, "moves": {"sefa:sefa0": 20}}, 4),
        ({"seed": 4}, 3),
        ({"seed": 4, "mix": {"with": {"seed": 5}, "level": 3, "share": 0.5}}, 4),
        (
            {"seed": 4, "mix": {"with": {"seed": 5}, "level": 3, "mask": base64.b64encode(bytes(range(256))).decode()}},
            4,
        ),
    ],
)
def test_the_python_code_makes_the_same_picture(browser, point, level):
    page, _, client = browser
    page.ask("find", source="sefa")
    page.ask("change", screen={"stage": point, "level": level})
    recipe = page.ask("recipe", point=point)
    names = {}
    exec(recipe["python"], names)  # our own code, as a user would run it
    saved_data = fetch(client, page.ask("save", point=point))
    difference = picture_in(saved_data).astype(int) - names["image"]
    assert np.abs(difference).max() <= 1
    if point == {"seed": 4} and level == 4:
        assert recipe["command"].endswith("small.safetensors --seeds 4")
    if "moves" in point:
        assert "--latents SAVED.png" in recipe["command"]


def test_a_recipe_names_the_class_also_where_its_number_is_the_name_of_another(tmp_path):
    labels = {"name": "petals", "classes": ["1", "2", "3"]}
    save_model(tmp_path / "flowers.safetensors", dataclasses.replace(model_file(labels=3), labels=labels))
    explorer = explorer_of(tmp_path / "flowers.safetensors")
    with client_of(explorer) as client, page_of(client) as page:
        recipe = page.ask("recipe", point={"seed": 4, "classes": [1]})
    assert recipe["command"].endswith("--seeds 4 --label 2")
    names = {}
    exec(recipe["python"], names)  # our own code, as a user would run it
    model = explorer.model
    np.testing.assert_array_equal(
        names["image"], model.images(model.seed_latents([4]), model.labels.vectors([(1,)]))[0]
    )


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_the_command_of_a_mixture_makes_it(browser, tmp_path, monkeypatch, share):
    page, _, client = browser
    monkeypatch.chdir(tmp_path)
    mix = {"with": {"seed": 5}, "level": 3, "share": share}
    page.ask("change", screen={"stage": {"seed": 4}, "level": 4})
    command = page.ask("recipe", point={"seed": 4, "mix": mix})["command"]
    assert "--seeds 4,5 --at 8x8" in command
    assert run(shlex.split(command)[1:]) == 0
    sheet = picture_in((tmp_path / "blend.png").read_bytes())  # small pictures are enlarged there
    middle = sheet[:: sheet.shape[0] // 16, :: sheet.shape[0] // 16][:, 16:32].astype(int)
    shown = picture_in(fetch(client, page.ask("save", point={"seed": 4, "mix": mix})))
    assert np.abs(middle - shown).max() <= 1
    moved = {"seed": 4, "moves": {"sefa:sefa0": 20}, "mix": mix}
    page.ask("find", source="sefa")
    command = page.ask("recipe", point=moved)["command"]
    assert command.endswith("--latents FIRST.png --latents SECOND.png --at 8x8" + (" --share 0.5" if share < 1 else ""))
    painted = {**mix, "mask": base64.b64encode(bytes(256)).decode()}
    assert command != page.ask("recipe", point={"seed": 4, "mix": painted})["command"]


def test_exported_latents_have_different_names_whatever_the_notes_say(browser, tmp_path):
    page, _, client = browser
    for seed, note in enumerate(("smile", "smile", "smile-2")):
        page.ask("favour", point={"seed": seed}, note=note)
    (tmp_path / "kept.safetensors").write_bytes(fetch(client, page.ask("export", way="latents")))
    names = read_latents(tmp_path / "kept.safetensors", load(tmp_path / "small.safetensors", "cpu")).names
    assert names == ("smile", "smile-2", "smile-2-2")


def test_a_moved_picture_is_a_latent_for_other_commands(browser, tmp_path):
    page, explorer, client = browser
    page.ask("find", source="sefa")
    point = {"seed": 4, "moves": {"sefa:sefa0": 20, "sefa:sefa1": -5}}
    path = tmp_path / "moved.png"
    path.write_bytes(fetch(client, page.ask("save", point=point)))
    latents = read_latents(path, explorer.model)
    np.testing.assert_allclose(latents.images(explorer.model)[0], picture_in(path.read_bytes()), atol=1)


MOVES = {"sefa:sefa0": 20}


@pytest.mark.parametrize("mix", [{}, {"mix": {"with": {"seed": 5, "moves": MOVES}, "level": 3, "share": 0.5}}])
def test_a_picture_comes_back_and_a_favourite_stays_where_their_directions_are_gone(browser, mix):
    page, explorer, client = browser
    page.ask("find", source="sefa")
    point = {"seed": 4, "moves": MOVES, **mix}
    page.ask("favour", point=point)
    data = fetch(client, page.ask("save", point=point))
    shown = picture_in(data)
    answer = client.post("/upload", content=data, headers={"origin": ORIGIN}).json()
    assert answer["screen"]["stage"]["moves"] == MOVES  # the sliders come back, too
    again = explorer_of(explorer.model.path)  # started again: its rack is empty
    with client_of(again) as client, page_of(client) as page:
        answer = client.post("/upload", content=data, headers={"origin": ORIGIN}).json()
        assert answer["difference"] == ""
        stored = page.ask("hello")["model"]["favourites"]["entries"][0]["point"]
        for back in (answer["screen"]["stage"], stored):
            np.testing.assert_array_equal(picture_in(page.picture(back)["data"]), shown)
        page.ask("find", source="sefa")
        event = next(event for event in reversed(page.events) if event["event"] == "favourites")
        assert event["favourites"]["entries"][0]["point"]["moves"] == MOVES
        about = {key: value for key, value in read_metadata(io.BytesIO(data)).items() if "latent" not in key}
    with client_of(explorer_of(explorer.model.path)) as client:
        data = encode_png(shown, about)  # as pictures of before: no latent beside it
        assert "Sliders" in client.post("/upload", content=data, headers={"origin": ORIGIN}).json()["difference"]


def test_an_exported_favourite_keeps_the_class_of_its_seed_where_its_directions_are_gone(browser):
    page, explorer, client = browser
    seed = next(seed for seed in range(99) if explorer.space.labels.drawn(seed, explorer.space.latent_size)[0])
    page.ask("find", source="sefa")
    page.ask("favour", point={"seed": seed, "moves": MOVES})
    shown = page.picture({"seed": seed, "moves": MOVES})["data"]
    explorer.rack._directions.clear()
    with zipfile.ZipFile(io.BytesIO(fetch(client, page.ask("export", way="pngs")))) as file:
        data = file.read("001-latent.png")
    assert read_metadata(io.BytesIO(data))["class"]["number"] == 1
    np.testing.assert_array_equal(picture_in(data), picture_in(shown))


def test_a_mixed_picture_is_no_latent(browser):
    page, _, _ = browser
    page.ask("favour", point={"seed": 4, "mix": {"with": {"seed": 5}, "level": 3, "share": 1}})
    assert "seed0000000004-mixed is mixed of two pictures" in page.ask("export", way="latents")["error"]


def test_everything_is_saved_also_where_the_model_file_is_gone_since(browser):
    page, explorer, client = browser
    page.ask("find", source="sefa")
    page.ask("favour", point={"seed": 4, "moves": MOVES})
    explorer.model.path.unlink()  # a run keeps its newest models alone
    data = fetch(client, page.ask("save", point={"seed": 4, "moves": MOVES}))
    for way in ("pngs", "sheet", "latents"):
        fetch(client, page.ask("export", way=way))
    fetch(client, page.ask("directions"))
    about = {name: value for name, value in read_metadata(io.BytesIO(data)).items() if name != "explore"}
    answer = client.post("/upload", content=encode_png(picture_in(data), about), headers={"origin": ORIGIN})
    assert "No such file" in answer.json()["error"]  # a latent of another command has to be of the very model
    assert client.post("/upload", content=data, headers={"origin": ORIGIN}).json()["difference"] == ""
