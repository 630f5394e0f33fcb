"""Commands on model files of the baseline networks."""

from __future__ import annotations

import json

import pytest
from PIL import Image

import pggan
from pggan.cli import run
from pggan.config.train import DiscriminatorConfig, GeneratorConfig
from pggan.networks.factory import build
from pggan.networks.model_file import ModelFile, save_model
from pggan.utils.errors import UsageError


@pytest.fixture(params=["fc", "dcgan"])
def model(request, tmp_path):
    size = {"resolution": 16, "channels": 1, "fmap_max": 8, "arch": request.param}
    g = GeneratorConfig(**size, latent_size=6, norm="virtual-batch", reference_size=4)
    d = DiscriminatorConfig(**size, norm="layer", diversity="none")
    path = tmp_path / "m.safetensors"
    save_model(path, ModelFile(*build(g, d, 0), 4, 1.0))
    return path


def test_info_says_what_they_are(model, capsys):
    assert run(["info", str(model), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    loaded = pggan.load(model, "cpu")
    assert told["generator_architecture"] == loaded.file.generator.config.arch
    assert told["generator_normalisation"] == "virtual-batch"
    assert (told["discriminator_normalisation"], told["diversity"]) == ("layer", "none")
    for part in ("generator", "discriminator"):
        counted = sum(each.numel() for each in getattr(loaded.file, part).parameters())
        assert told[f"{part}_parameters"] == counted


def test_pictures_and_videos(model, tmp_path, capsys):
    assert run(["generate", str(model), "--seeds", "3,4", "--out", str(tmp_path / "p"), "--device", "cpu"]) == 0
    with Image.open(tmp_path / "p" / "seed0000000003.png") as picture:
        assert (picture.size, picture.mode) == ((16, 16), "L")
    arguments = ["--seconds", "0.2", "--fps", "10", "--out", str(tmp_path / "w.gif"), "--device", "cpu"]
    assert run(["interpolate", str(model), *arguments]) == 0
    assert (tmp_path / "w.gif").stat().st_size > 0
    loaded = pggan.load(model, "cpu")
    assert (loaded.generate([3, 4], batch=2)[1] == loaded.generate([4], batch=2)[0]).all()
    with pytest.raises(UsageError, match="level 3 is not 4"):
        loaded.synthesize(loaded.seed_latents([0]), level=3)
    capsys.readouterr()
