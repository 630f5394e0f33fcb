"""Runs on RGBA pictures: from a drawn set to pictures, videos, figures, a report and a resumed run."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import pggan
from pggan.cli import run as command_line
from pggan.config.content.channels import premultiply
from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.generation.video import VideoOptions, _interpolation_frames
from pggan.training.monitor.display import QuietDisplay
from pggan.training.run.directory import RunDirectory
from pggan.training.start import begin, resume
from tests.helpers.runs import StopAfter, same, small_run

ADA = (("augment", "ada"), ("augment_p", 0.5))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("rgba") / "data"
    prepare("drawn:40", path, PrepareOptions(channels=4, max_res=8))
    return path


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("rgba-run") / "run"
    begin(small_run(data, loss_options=ADA), out, QuietDisplay())
    return out


@pytest.mark.long
def test_samples_and_pictures_are_transparent(trained, tmp_path):
    grids = sorted(RunDirectory(trained).samples.glob("*.png"))
    assert len(grids) >= 3
    for path in grids:
        with Image.open(path, formats=["PNG"]) as image:
            assert image.mode == "RGBA"
    model = pggan.load(trained)
    assert model.channels == 4
    inside, outside = model.seed_images(range(3)), model.generate(range(3))
    assert np.abs(premultiply(outside).astype(int) - np.minimum(inside, inside[..., 3:])).max() <= 1
    assert command_line(["generate", str(trained), "--n", "2", "--out", str(tmp_path / "out"), "--quiet"]) == 0
    with Image.open(tmp_path / "out" / "seed0000000001.png", formats=["PNG"]) as image:
        assert (np.asarray(image) == outside[1]).all()


@pytest.mark.long
@pytest.mark.parametrize("background,colour", [("white", 255), ("#000000", 0)])
def test_videos_lie_over_the_chosen_background(trained, tmp_path, background, colour):
    out = tmp_path / "walk.webp"
    arguments = ["interpolate", str(trained), "--out", str(out), "--seconds", "0.5", "--fps", "4", "--scale", "8"]
    assert command_line([*arguments, "--background", background, "--quiet"]) == 0
    with Image.open(out, formats=["WEBP"]) as video:
        frame = np.asarray(video.convert("RGB")).astype(int)
    model = pggan.load(trained)
    assert frame.shape == (64, 64, 3)
    first = next(_interpolation_frames(model, VideoOptions(0.5, 4), lambda frames: None))[0].astype(int)

    def composite(behind):
        return np.clip(first[..., :3] + (255 - first[..., 3:]) * (behind / 255), 0, 255).repeat(8, 0).repeat(8, 1)

    # what the other background would have given lies further away
    expected, other = composite(colour), composite(255 - colour)
    assert np.abs(frame - expected).mean() < np.abs(frame - other).mean() / 2


@pytest.mark.long
def test_figures_reports_and_exports(trained, data, tmp_path, capsys):
    command = ["evaluate", str(trained), "--data", str(data), "--metrics", "neighbours", "--n", "8", "--no-cache"]
    near = tmp_path / "near.png"
    assert command_line([*command, "--background", "black", "--neighbours", str(near)]) == 0
    assert "over #000000" in capsys.readouterr().out
    with Image.open(near, formats=["PNG"]) as image:
        assert image.mode == "RGB"
    assert command_line(["report", str(trained), "--out", str(tmp_path / "page.html")]) == 0
    assert command_line(["info", str(data)]) == 0
    assert "RGBA" in capsys.readouterr().out
    program = tmp_path / "model.pt2"
    assert command_line(["export", str(trained), str(program), "--format", "torch"]) == 0


@pytest.mark.long
def test_a_run_resumes_to_the_same_numbers(data, trained, tmp_path):
    whole, cut = RunDirectory(trained), RunDirectory(tmp_path / "cut")
    begin(small_run(data, loss_options=ADA), cut.path, StopAfter(70))
    resume(cut, QuietDisplay())
    assert same(whole.states()[-1], cut.states()[-1])
    assert same(whole.models()[-1], cut.models()[-1])


@pytest.mark.long
def test_a_run_on_opaque_pictures_does_not_begin_with_a_model_of_transparent_ones(trained, tmp_path, capsys):
    prepare("drawn:8", tmp_path / "rgb", PrepareOptions(max_res=8))
    command = ["train", str(tmp_path / "rgb"), "--from", str(trained), "--out", str(tmp_path / "run")]
    assert command_line(command) != 0
    assert "the model of --from makes RGBA pictures, the data are RGB" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_the_library_makes_pillows_pictures_and_grids_of_transparent_ones(trained):
    images = pggan.load(trained).generate(range(4))
    assert (np.asarray(pggan.to_pil(images)[1]) == images[1]).all()
    grid = np.asarray(pggan.image_grid(images).to_pil())
    assert (grid[::8, ::8][:8, :8] == images[0]).all()
