"""The commands: every kind of model through each, what they print, what they refuse, nothing replaced unasked."""

import json

import numpy as np
import pytest
from PIL import Image

from pggan.cli import project as project_command
from pggan.cli import run
from pggan.editing import directions
from pggan.editing.latent_images import remaining
from pggan.editing.latents_file import read_latents_file
from pggan.editing.sphere import angle
from pggan.generation.images import read_metadata
from tests.helpers.editing_models import KINDS, saved_kind


@pytest.mark.parametrize("kind", [*KINDS, pytest.param("1024", marks=pytest.mark.slow)])
def test_every_kind_of_model_passes_through_every_command(tmp_path, monkeypatch, printed, kind):
    monkeypatch.chdir(tmp_path)
    model, side = str(saved_kind(kind, tmp_path)), {"4x4": 4, "1024": 1024}.get(kind, 16)
    Image.fromarray(np.full((20, 20, 3), 90, np.uint8)).save("me.png")
    project = ["project", model, "me.png", "--steps", "6", "--starts", "8", "--restarts", "2", "--tune", "3"]
    result = printed([*project, "--video", "search.gif"])
    assert result["pictures"][0]["psnr"] > 0
    assert {"found.safetensors", "found.png", "search.gif", "found.tuned.safetensors"} <= {
        p.name for p in tmp_path.iterdir()
    }
    kept, tuned = ["--latents", "found.safetensors"], ["--tuned", "found.tuned.safetensors"]
    result = printed(["generate", model, *kept, *tuned, "--out", "g"])
    assert result["files"] == ["me.png"]
    about = read_metadata(tmp_path / "g" / "me.png")
    assert about["tuned"]["pictures"] == ["me.png"]
    assert about["resolution"] == side
    twice = [*kept, "--latents", "g/me.png"]
    result = printed(["interpolate", model, *twice, *tuned, "--seconds", "0.2", "--fps", "20", "--out", "w.gif"])
    assert result["frames"] == 4
    printed(["directions", model, "--n", "2"])
    printed(["traverse", model, "--directions", "directions.safetensors", "--direction", "sefa0", *kept])
    video = ["traverse", model, "--directions", "directions.safetensors", "--out", "d.gif", "--seconds", "0.1"]
    assert printed(video)["frames"] == 3
    for more in (["--sort", "score"], ["--reject", "0.5"]):
        result = printed(["generate", model, "--similar", "3", "--n", "4", *more, "--out", "s"])
        scores = result["scores"]
        assert len(scores) == (4 if "--sort" in more else 2)
        if "--sort" in more:
            assert scores == sorted(scores, reverse=True)
    assert printed(["generate", model, "--around", "found.safetensors", "--n", "2", "--out", "a"])["pictures"] == 2
    frames = [{"seed": 1, "seconds": 0.1}, {"latents": "found.safetensors", "seconds": 0.1}]
    (tmp_path / "way.json").write_text(json.dumps({"format": 1, "keyframes": frames}))
    assert printed(["interpolate", model, "--keyframes", "way.json", "--out", "k.gif", "--fps", "20"])["frames"] == 4
    for method in ("pca", "scores", "marks", *(["labels"] if "labels" in kind else [])):
        more = {
            "pca": ["--pictures", "12", "--n", "1"], "scores": ["--pictures", "12", "--score", "brightness"],
            "marks": ["--yes", "0-3", "--no", "4-7"], "labels": ["--pictures", "12"],
        }[method]  # fmt: skip
        find = ["directions", model, "--from", method, *more, "--overwrite"]
        assert printed(find)["directions"][0]["from"] == method
    if kind not in ("fc", "dcgan"):
        printed(["blend", model, "--seeds", "1,2", "--at", "4x4", "--mask", "left"])
        assert (tmp_path / "blend.png").is_file()
        if kind != "4x4":
            printed(["blend", model, model, "--at", "8x8", "--mix", "8x8=0.5", "--out", "blend.safetensors"])
            assert printed(["generate", "blend.safetensors", "--n", "1", "--out", "b"])["pictures"] == 1


def test_a_family_lies_at_its_angle(tmp_path, monkeypatch, printed):
    monkeypatch.chdir(tmp_path)
    model = str(saved_kind("plain", tmp_path))
    printed(["generate", model, "--similar", "3", "--degrees", "20", "--n", "3", "--out", "s"])
    from pggan.editing.latent_sources import read_latents
    from pggan.generation.model import load

    loaded = load(model, "cpu")
    latents = [read_latents(path, loaded) for path in sorted((tmp_path / "s").glob("seed*.png"))]
    assert len(latents) == 3
    for one in latents:
        assert float(angle(one.z[0], loaded.seed_latents([3])[0])) == pytest.approx(20, abs=1e-3)
    result = printed(["generate", model, "--around", "s/" + sorted(p.name for p in (tmp_path / "s").glob("seed*"))[0]])
    assert result["pictures"] == 24


def test_directions_of_each_method_are_found(tmp_path, monkeypatch, printed):
    monkeypatch.chdir(tmp_path)
    model = str(saved_kind("labels", tmp_path))
    (tmp_path / "t.csv").write_text("seed,age\n" + "".join(f"{n},{n % 7}\n" for n in range(40)))
    few = ["--pictures", "40"]
    for more, names in (
        (["--from", "pca", "--n", "2", *few], {"pca0", "pca1"}),
        (["--from", "labels", *few], {"kind0", "kind1", "kind2"}),
        (["--from", "scores", "--score", "hue", "--keep", "brightness", *few], {"hue"}),
        (["--from", "scores", "--csv", "t.csv"], {"age"}),
        (["--from", "marks", "--yes", "0-5", "--no", "6-9", "--name", "hat"], {"hat"}),
    ):
        result = printed(["directions", model, *more, "--overwrite"])
        assert {value["name"] for value in result["directions"]} == names
    keep = ["--keep", "directions.safetensors:hat"]
    result = printed(["directions", model, "--n", "1", "--out", "e.safetensors", *keep])
    assert result["directions"][0]["orthogonal_to"] == ["hat"]


def test_two_models_are_blended(tmp_path, monkeypatch, printed):
    monkeypatch.chdir(tmp_path)
    model = str(saved_kind("plain", tmp_path))
    result = printed(["blend", model, model, "--at", "8x8", "--mix", "16x16=0.5", "--out", "c.safetensors"])
    assert result["share_of_fine"] == {"4x4": 0.0, "8x8": 1.0, "16x16": 0.5}
    printed(["generate", "c.safetensors", "--seeds", "1", "--out", "g"])
    (picture,) = (tmp_path / "g").glob("*.png")
    assert read_metadata(picture)["blend"]["coarse"]["name"] == "plain"


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["generate", "MODEL", "--latents", "x", "--seeds", "1"], "exclude each other"),
        (["generate", "MODEL", "--latents", "x", "--layout", "tar"], "--layout tar"),
        (["generate", "MODEL", "--degrees", "5"], "--degrees is about"),
        (["generate", "MODEL", "--latents", "none"], "none does not exist"),
        (["generate", "MODEL", "--latents", "MODEL"], "is a model, not a file of latents"),
        (["generate", "MODEL", "--tuned", "MODEL"], "is a model, not a file of tuned weights"),
        (["generate", "MODEL", "--sort", "score"], "keeps no discriminator"),
        (["generate", "MODEL", "--reject", "1"], "--reject"),
        (["generate", "MODEL", "--reject", "0.5", "--mode", "compiled"], "--mode compiled is about seeds alone"),
        (["interpolate", "MODEL", "--latents", "x", "--seeds", "1,2"], "exclude each other"),
        (["interpolate", "MODEL", "--keyframes", "none"], "none does not exist"),
        (["interpolate", "MODEL", "--seeds", "1,2", "--method", "spline"], "slerp or linear"),
        (["traverse", "MODEL", "--direction", "x"], "give --directions FILE"),
        (["traverse", "MODEL", "--directions", "none"], "none does not exist"),
        (["traverse", "MODEL", "--directions", "none", "--range", "2"], "about continuous codes"),
        (["project", "MODEL", "none.png"], "none.png does not exist"),
        (["project", "MODEL", "MODEL"], "cannot be read as a picture"),
        (["project", "MODEL", "x.png", "--tuned", "t"], "give --tune STEPS"),
        (["project", "MODEL", "x.png", "--out", "MODEL"], "exists already"),
        (["project", "MODEL", "x.png", "--out", "plain.safetensors/found.safetensors"], "that is a file"),
        (["project", "MODEL", "x.jpg", "--out", "x.jpg", "--overwrite"], "a file of latents is a .safetensors file"),
        (["project", "MODEL", "found.png", "--overwrite"], "found.png is read, too, and would be lost"),
        (["project", "MODEL", "x.png", "--sheet", "s.jpg"], "a sheet is a .png file"),
        (["project", "MODEL", "."], "is a folder; give a picture"),
        (["project", "MODEL", "x.png", "--video", "x.avi"], "does not end in one of"),
        (["directions", "MODEL", "--from", "marks", "--yes", "1"], "--yes SEEDS and --no SEEDS"),
        (["directions", "MODEL", "--from", "labels"], "no classes"),
        (["directions", "MODEL", "--n", "500"], "500 directions"),
        (["directions", "MODEL", "--out", "MODEL"], "exists already"),
        (["directions", "MODEL", "--out", "x"], "a file of directions is a .safetensors file"),
        (["directions", "MODEL", "--pictures", "50"], "--from sefa makes none"),
        (["directions", "MODEL", "--from", "scores", "--n", "3"], "--from scores has its own number"),
        (["directions", "MODEL", "--from", "pca", "--n", "9", "--pictures", "8"], "need as many --pictures"),
        (["traverse", "MODEL", "--directions", "d", "--latents", "x", "--seeds", "5"], "exclude each other"),
        (["blend", "MODEL", "--at", "8"], "give two models"),
        (["blend", "MODEL", "--at", "12x12", "--seeds", "1,2"], "power of two"),
        (["blend", "MODEL", "--at", "8", "--seeds", "1"], "two latents, not 1"),
        (["blend", "MODEL", "MODEL", "--at", "8x9"], "no resolution"),
        (["blend", "MODEL", "MODEL", "--at", "8", "--out", "x.png"], "a .safetensors file"),
        (["blend", "MODEL", "MODEL", "--at", "8", "--out", "MODEL", "--overwrite"], "would be lost"),
        (["blend", "MODEL", "MODEL", "--at", "8", "--mix", "16=0.5", "--mix", "16=0.7"], "is there twice"),
        (["blend", "MODEL", "MODEL", "--at", "8", "--device", "cpu"], "--device is about two latents"),
        (["ema", "RUN", "--length", "0.1", "--device", "cpu"], "--device is about --best"),
        (["generate", "MODEL", "--out", ""], "an empty name"),
        (["ema", "RUN", "--length", "0.1", "--out", ""], "an empty name"),
        (["report", "RUN", "--out", "r.pdf"], "a report is an .html file"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    model = str(saved_kind("plain", tmp_path, discriminator=False))
    assert run([model if word == "MODEL" else word for word in arguments]) in (1, 2)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert error.startswith("pggan: error: ")


def test_a_choice_of_another_class_gives_other_files_and_a_full_grid(tmp_path, monkeypatch, printed):
    monkeypatch.chdir(tmp_path)
    model = str(saved_kind("labels", tmp_path))
    chosen = ["generate", model, "--n", "8", "--reject", "0.5", "--batch", "2", "--out", "c"]
    files = [name for kind in ("kind0", "kind1") for name in printed([*chosen, "--label", kind])["files"]]
    assert len(set(files)) == 8
    assert all("-kind" in name for name in files)
    for kind in ("kind0", "kind1"):
        assert read_metadata(f"c/grid-{kind}.png")["grid"] == "2x2"


def test_found_latents_are_kept_where_the_next_search_is_interrupted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model, searched = str(saved_kind("plain", tmp_path)), []
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(name)
    search = project_command._project

    def interrupted(*arguments):
        if searched:
            raise KeyboardInterrupt
        searched.append(1)
        return search(*arguments)

    monkeypatch.setattr(project_command, "_project", interrupted)
    assert run(["project", model, "a.png", "b.png", "--steps", "4", "--starts", "4", "--restarts", "1"]) == 130
    assert read_latents_file("found.safetensors").names == ("a",)


def test_what_was_found_is_not_replaced_unasked(tmp_path, monkeypatch, capsys, printed):
    monkeypatch.chdir(tmp_path)
    model = str(saved_kind("plain", tmp_path))
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save("me.png")
    project = ["project", model, "me.png", "--steps", "4", "--starts", "4", "--restarts", "1"]
    printed(project)
    before = (tmp_path / "found.safetensors").read_bytes()
    assert run(project) == 2
    assert "found.safetensors exists already" in capsys.readouterr().err
    assert (tmp_path / "found.safetensors").read_bytes() == before
    printed([*project, "--overwrite", "--seed", "1"])
    assert json.dumps(read_latents_file("found.safetensors").origins[0])


def test_the_pictures_of_a_kept_score_are_counted_by_their_option(tmp_path, monkeypatch, printed):
    """Also where the directions themselves are found without pictures."""
    monkeypatch.chdir(tmp_path)
    model, counts = str(saved_kind("plain", tmp_path)), []
    find = directions.find_scores
    monkeypatch.setattr(directions, "find_scores", lambda *given: counts.append(given[2]) or find(*given))
    printed(["directions", model, "--n", "2", "--keep", "brightness", "--pictures", "60", "--out", "d.safetensors"])
    assert counts == [60]


@pytest.mark.parametrize(
    "count,reject,left", [(100, 0.29, 71), (100, 0.5, 50), (7, 0.5, 4), (10, 0.0, 10), (3, 0.3, 3)]
)
def test_a_share_that_is_rejected_is_exact(count, reject, left):
    assert remaining(count, reject) == left
