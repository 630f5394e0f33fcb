"""The timeline and its video; snapshots of a run and their blends; training pictures near to one; D's opinion."""

from __future__ import annotations

import base64
import io
import zipfile

import av
import numpy as np
import pytest
import torch
from PIL import Image

from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.editing.keyframes import read_keyframes
from pggan.generation.images import read_metadata
from pggan.generation.latent_walks import slerp
from pggan.generation.model import load
from pggan.networks.model_file import load_model, save_model
from pggan.utils.errors import UsageError
from pggan.web.film import film_at, keyframes_of
from pggan.web.session.screen import changed
from tests.helpers.explorers import ORIGIN, client_of, explorer_of, opened, page_of
from tests.helpers.model_files import model_file, saved

FRAMES = [
    {"point": {"seed": 1}, "seconds": 1, "easing": "linear"},
    {"point": {"seed": 2}, "seconds": 2, "easing": "smooth"},
    {"point": {"seed": 3}, "seconds": 0.5, "easing": "in"},
]


def pixels(message):
    return np.asarray(Image.open(io.BytesIO(message["data"]), formats=["PNG"]))


def screen_of(explorer, **fields):
    return changed(explorer.first_screen(), fields, explorer.space)


def row_at(explorer, screen, time):
    """The latent of a film as a row (Z,)."""
    return np.frombuffer(film_at(explorer, screen, time).values, "<f4")


@pytest.mark.parametrize("loop,seconds", [(True, 3.5), (False, 3.0)])
def test_a_film_passes_through_its_keyframes(loop, seconds):
    explorer = explorer_of(labels=2)
    screen = screen_of(explorer, frames=FRAMES, loop=loop)
    assert keyframes_of(explorer, screen).length == seconds
    one, two, three = explorer.model.seed_latents([1, 2, 3])
    for time, latent in ((0, one), (1, two), (3, three), (3.5, one if loop else three)):
        np.testing.assert_allclose(row_at(explorer, screen, time), latent, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(row_at(explorer, screen, 0.25), slerp(one, two, 0.25), rtol=1e-3, atol=1e-4)
    eased = row_at(explorer, screen, 1 + 2 * 0.25)
    np.testing.assert_allclose(eased, slerp(two, three, 3 * 0.25**2 - 2 * 0.25**3), rtol=1e-3, atol=1e-4)
    labels = [np.frombuffer(film_at(explorer, screen, time).labels, "<f4") for time in (0, 0.5, 1)]
    np.testing.assert_allclose(labels[1], (labels[0] + labels[2]) / 2, atol=1e-4)


def test_a_spline_has_no_corners():
    explorer = explorer_of()
    frames = [{"point": {"seed": seed}, "seconds": 1} for seed in range(4)]
    screen = screen_of(explorer, frames=frames, path="spline")
    step = 1e-2
    for time in (1, 2, 3):
        before, at, after = (row_at(explorer, screen, time + d).astype(float) for d in (-step, 0, step))
        before, at, after = (row / np.linalg.norm(row) for row in (before, at, after))
        turn = np.linalg.norm((after - at) - (at - before)) / np.linalg.norm(after - before)
        assert turn < 0.1, time


def test_the_preview_and_the_video_show_the_same():
    with opened() as (page, explorer):
        assert "two keyframes" in page.ask("film", format="mp4")["error"]
        page.ask("change", screen={"frames": FRAMES, "loop": False})
        page.tell("draw", rank=0, pictures=[{"slot": "stage", "time": 1.0}])
        np.testing.assert_array_equal(pixels(page.receive()), explorer.model.generate(2)[0])
        for kind in ("mp4", "gif", "webp"):
            answer = page.ask("film", format=kind, fps=10, scale=2)
            assert answer["frames"] == 30
            path = explorer.exports.find(answer["file"].rpartition("/")[2]).path
            with av.open(str(path)) as video:
                images = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)] if kind != "webp" else []
            if kind == "mp4":
                assert len(images) == 30
                expected = explorer.model.generate(2)[0].repeat(2, 0).repeat(2, 1)
                assert np.abs(images[10].astype(int) - expected).mean() < 12  # lossy, and colours at half resolution
        assert "up to 50" in page.ask("film", format="gif", fps=60)["error"]
        assert page.ask("film", format="exe")["type"] == "error"


def test_the_keyframes_file_is_what_interpolate_plays(tmp_path):
    with opened(labels=2) as (page, explorer):
        page.ask("change", screen={"frames": FRAMES, "path": "spline"})
        answer = page.ask("keyframes")
        path = explorer.exports.find(answer["file"].rpartition("/")[2]).path
        with zipfile.ZipFile(path) as file:
            assert sorted(file.namelist()) == ["keyframes.json", "keyframes.safetensors"]
            file.extractall(tmp_path)
        played = read_keyframes(tmp_path / "keyframes.json", explorer.model)
        shown = keyframes_of(explorer, changed(explorer.first_screen(), page.ask("hello")["screen"], explorer.space))
        assert (played.seconds, played.easings, played.path, played.loop) == (
            (1, 2, 0.5),
            shown.easings,
            "spline",
            True,
        )
        for frame in (0, 13, 50):
            np.testing.assert_array_equal(played.at(frame, 20)[0], shown.at(frame, 20)[0])


def test_a_video_can_be_cancelled_and_leaves_nothing():
    with opened() as (page, explorer):
        page.ask("change", screen={"frames": [{**frame, "seconds": 60} for frame in FRAMES]})
        number = page.tell("film", format="mp4", fps=60)
        while (message := page.receive()).get("type") != "progress" or message["done"] == 0:
            assert message.get("type") != "answer"
        page.tell("cancel", job=number)
        while (message := page.receive()).get("type") == "progress":
            pass
        assert message["cancelled"]
        assert list(explorer.exports.new_path(".x").parent.iterdir()) == []


@pytest.fixture
def run(tmp_path):
    """A run with three snapshots of one network that grows."""
    folder = tmp_path / "run"
    (folder / "models").mkdir(parents=True)
    for number, level in ((1, 3), (2, 4), (3, 4)):
        torch.manual_seed(number)
        file = model_file(level=level)
        with torch.no_grad():
            for weight in file.generator.parameters():
                weight.add_(0.1 * torch.randn_like(weight))
        save_model(folder / "models" / f"model-{1000 * number:09d}.safetensors", file)
    return folder


def test_snapshots_of_a_run_show_the_same_latents(run):
    paths = sorted((run / "models").iterdir())
    with client_of(explorer_of(paths[-1], run)) as client, page_of(client) as page:
        listed = page.ask("snapshots")["snapshots"]
        assert [snapshot["kimg"] for snapshot in listed] == [1, 2, 3]
        for path, snapshot in zip(paths, listed):
            message = page.picture({"seed": 4}, snapshot=snapshot["name"])
            np.testing.assert_array_equal(pixels(message), load(path, "cpu").generate(4)[0])
        torch.manual_seed(9)
        save_model(run / "models" / "model-000004000.safetensors", model_file())
        assert len(page.ask("snapshots")["snapshots"]) == 4  # a run that still trains
        paths[0].unlink()
        page.ask("change", screen={"snapshot": "model-000001000"})
        page.tell("draw", rank=0, pictures=[{"slot": "gone", "point": {"seed": 5}, "snapshot": "../../etc/passwd"}])
        assert "no snapshot" in page.receive()["error"]


def test_a_blend_of_two_snapshots_has_their_mean_weights(run):
    paths = sorted((run / "models").iterdir())
    explorer = explorer_of(paths[-1], run)
    model = explorer.shelf.model("model-000002000+model-000003000@0.25")
    two, three = (load_model(path).generator.state_dict() for path in paths[1:])
    for name, weight in model.file.generator.state_dict().items():
        torch.testing.assert_close(weight, 0.75 * two[name] + 0.25 * three[name])
    with pytest.raises(Exception, match="no snapshot"):
        explorer.shelf.model("model-000002000+nothing@0.5")


def test_a_film_refuses_mixed_pictures():
    explorer = explorer_of()
    mixed = {"seed": 1, "mix": {"with": {"seed": 2}, "level": 3, "share": 1}}
    with pytest.raises(UsageError, match="keyframe02 is mixed of two pictures"):
        keyframes_of(explorer, screen_of(explorer, frames=[FRAMES[0], {"point": mixed}]))


@pytest.mark.parametrize("snapshot, side", [("model-000001000", 8), ("model-000002000+model-000003000@0.25", 16)])
def test_a_saved_snapshot_names_what_made_it_and_its_recipe_makes_it_again(run, snapshot, side):
    paths = sorted((run / "models").iterdir())
    explorer = explorer_of(paths[-1], run)
    with client_of(explorer) as client, page_of(client) as page:
        page.ask("change", screen={"snapshot": snapshot, "frames": FRAMES})
        for point in ({"seed": 4}, {"seed": 4, "mix": {"with": {"seed": 5}, "level": 3, "share": 1}}):
            data = client.get(page.ask("save", point=point)["file"]).content
            about, shown = read_metadata(io.BytesIO(data)), pixels({"data": data})
            assert about["resolution"] == len(shown) == side
            recipe = page.ask("recipe", point=point)
            names: dict[str, object] = {}
            exec(recipe["python"], names)  # our own code, as a user would run it
            np.testing.assert_array_equal(names["image"], shown)
            upload = client.post("/upload", content=data, headers={"origin": ORIGIN}).json()
            assert (upload["screen"]["snapshot"], upload["difference"]) == (snapshot, "")
            if "+" in snapshot:
                assert about["sha256"] is None
                names_of = [about["blend"][part]["name"] for part in ("coarse", "fine")]
                assert names_of == ["model-000002000", "model-000003000"]
                assert about["blend"]["share_of_fine"]["16x16"] == 0.25
                assert recipe["command"] == "# a blend of two snapshots: see the Python code"
            else:
                assert str(paths[0]) in recipe["command"]
        film = page.ask("film", format="gif", fps=5, scale=1)
        with Image.open(explorer.exports.find(film["file"].rpartition("/")[2]).path) as video:
            assert video.size == (side, side)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("near") / "data"
    prepare("drawn:20", path, PrepareOptions(max_res=16))
    return str(path)


def test_the_nearest_training_picture_of_a_training_picture_is_itself(store, tmp_path):
    from pggan.data.store.store import Store
    from pggan.web.explorer import Explorer

    explorer = Explorer(load(saved(tmp_path / "small.safetensors"), "cpu"), None, store)
    image = Store(store).read(16, [7])[0].transpose(1, 2, 0)

    class Quiet:
        def step(self, done, **details):
            assert 0 <= done <= 1

    answer = explorer.training_pictures.near(image, Quiet())
    first, second = answer["near"][:2]
    assert (first["number"], first["ratio"]) == (7, 0)
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(base64.b64decode(first["png"])), formats=["PNG"])), image
    )
    assert second["ratio"] > 0.2
    with client_of(explorer) as client, page_of(client) as page:
        answer = page.ask("near", point={"seed": 1})
        ratios = [entry["ratio"] for entry in answer["near"]]
        assert ratios == sorted(ratios)
        assert len(ratios) == 6
        assert answer["count"] == 20


def test_without_data_and_without_a_discriminator_it_is_said():
    with opened(discriminator=False) as (page, _):
        hello = page.ask("hello")["model"]
        assert (hello["data"], hello["scores"]) == (False, False)
        assert "--data" in page.ask("near", point={"seed": 1})["error"]
        assert page.ask("judge", point={"seed": 1})["score"] is None
        assert page.ask("sort", first=0)["type"] == "error"


def test_d_judges_a_picture_among_others():
    with opened() as (page, explorer):
        answer = page.ask("judge", point={"seed": 3})
        model = explorer.model
        scores = [float(model.discriminator(model.synthesize(model.seed_latents([s]))).score[0]) for s in range(64)]
        assert answer["score"] == pytest.approx(scores[3], rel=1e-4)
        assert answer["better_than"] == pytest.approx(sum(score < scores[3] for score in scores) / 64)
