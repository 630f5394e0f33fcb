"""Latents w of models with a mapping network: what draws them, their spread, moves, files, projection, truncation."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from pggan.cli import run
from pggan.config.train import DiscriminatorConfig, GeneratorConfig
from pggan.editing.directions import find_sefa, measure_effects
from pggan.editing.directions_file import read_directions
from pggan.editing.keyframes import Keyframes
from pggan.editing.latent_images import write_latent_images
from pggan.editing.latent_sources import read_all_latents, read_latents
from pggan.editing.latent_space import Spread, space_of, straight_move, takes_w, to_w
from pggan.editing.latents_file import LatentSet, relatives
from pggan.editing.projection.picture_input import InputPicture
from pggan.editing.projection.project import ProjectOptions, project
from pggan.editing.projection.tuning import tune
from pggan.generation.model import Model, load
from pggan.networks.factory import build
from pggan.networks.model_file import ModelFile
from pggan.utils.errors import UsageError
from tests.helpers.editing_models import loaded_kind

MAPPED = ("mapping", "mapped-labels")


@pytest.mark.parametrize("truncation", [1.0, 0.4])
@pytest.mark.parametrize("kind", MAPPED)
def test_w_of_seeds_makes_the_pictures_of_the_seeds(tmp_path, kind, truncation):
    model = loaded_kind(kind, tmp_path)
    latents = LatentSet.of_seeds(model, range(5)).in_w(model)  # w is kept as it is before truncation
    model.truncation = truncation
    assert latents.labels is None
    assert (latents.images(model) == model.generate(range(5))).all()
    assert model.truncation == truncation


def test_a_reference_batch_of_virtual_batch_normalisation_passes_through_the_mapping():
    fields = {"resolution": 8, "fmap_base": 32, "fmap_max": 4}
    config = GeneratorConfig(**fields, latent_size=6, mapping_layers=2, norm="virtual-batch", reference_size=3)
    model = Model(ModelFile(*build(config, DiscriminatorConfig(**fields), 0), 3, 1.0), torch.device("cpu"))
    z = model.seed_latents(range(3))
    w = to_w(model, z, None)
    assert w.shape == (3, 6)
    assert torch.allclose(takes_w(model).synthesize(w), model.synthesize(z), atol=1e-5)


def test_a_model_that_takes_w_shares_its_weights(tmp_path):
    model = loaded_kind("mapping", tmp_path)
    view, w = takes_w(model), to_w(model, model.seed_latents([1]), None)
    before = view.images(w)
    with torch.no_grad():
        next(iter(model.file.generator.to_rgb.values())).bias.add_(1)
        list(model.file.generator.to_rgb.values())[-1].bias.add_(0.3)
    assert (view.images(w) != before).any()
    assert model.file.generator.mapping is not None
    with pytest.raises(UsageError, match="has no mapping network"):
        takes_w(loaded_kind("plain", tmp_path))


def test_the_spread_agrees_with_a_second_computation(tmp_path):
    model = loaded_kind("mapped-labels", tmp_path)
    spread, direction = Spread.of(model), np.random.default_rng(0).standard_normal(12)
    assert Spread.of(model) is spread
    unit = direction / np.linalg.norm(direction)
    assert spread.along(direction) == pytest.approx((spread.rows.astype(float) @ unit).std(ddof=1), rel=1e-6)
    w = spread.rows[0]
    moved = straight_move(model, w, 5 * direction, -2)
    assert moved - w == pytest.approx(-2 * float(spread.along(direction)) * unit, abs=1e-6)
    own, other = spread.relatives(w, 0, 3), spread.relatives(w, 90, 3)
    assert own == pytest.approx(np.tile(w, (3, 1)), abs=1e-6)
    assert all((np.abs(spread.rows - row).max(axis=1) < 1e-5).any() for row in other)
    assert (spread.relatives(w, 30, 2) == spread.relatives(w, 30, 3)[:2]).all()


def test_sefa_works_on_the_first_layer_behind_the_mapping(tmp_path):
    model = loaded_kind("mapping", tmp_path)
    directions = find_sefa(model, 2)
    assert directions.space == space_of(model) == "w"
    weight = model.file.generator.blocks["4x4"].dense.effective_weight().detach().double().numpy()
    _, _, rows = np.linalg.svd(weight / np.linalg.norm(weight, axis=1, keepdims=True))
    assert np.abs((directions.vectors * rows[:2]).sum(axis=1)) == pytest.approx(1, abs=1e-5)
    assert all(figures["spreads"] == 2.0 for figures in measure_effects(model, directions).figures)
    directions.save(tmp_path / "d.safetensors")
    with pytest.raises(UsageError, match="latents w, of a mapping network, which plain is not moved in"):
        read_directions(tmp_path / "d.safetensors").check_model(loaded_kind("plain", tmp_path), force=True)


@pytest.mark.parametrize("kind", MAPPED)
def test_files_and_pictures_give_w_back(tmp_path, kind):
    model = loaded_kind(kind, tmp_path)
    seeds = LatentSet.of_seeds(model, range(2))
    latents = seeds.moved(model, find_sefa(model, 1).vectors[0], 1.5)
    assert latents.space == "w"
    latents.save(tmp_path / "l.safetensors")
    written = write_latent_images(model, latents, tmp_path / "out")
    seeds.save(tmp_path / "z.safetensors")
    paths = [tmp_path / "l.safetensors", *(tmp_path / "out" / name for name in written.names)]
    again = read_all_latents(paths, model)
    assert again.space == "w"
    assert (again.z == np.concatenate([latents.z, latents.z])).all()
    together = read_all_latents([tmp_path / "z.safetensors", tmp_path / "l.safetensors"], model)
    assert (together.images(model)[:2] == model.generate(range(2))).all()
    with pytest.raises(UsageError, match="z and w do not go together"):
        LatentSet.join([seeds, latents])
    with pytest.raises(UsageError, match="latents w, but plain has no mapping network"):
        read_latents(tmp_path / "l.safetensors", loaded_kind("plain", tmp_path), force=True)


def test_a_family_and_a_film_go_straight_through_w(tmp_path):
    model = loaded_kind("mapping", tmp_path)
    latents = LatentSet.of_seeds(model, range(3)).in_w(model)
    family = relatives(model, latents.select([0]), 20, 2)
    assert family.space == "w"
    assert family.z[0] != pytest.approx(latents.z[0])
    frames = Keyframes(latents, (1.0, 1.0, 1.0), ("linear",) * 3)
    assert frames.at(5, 10)[0][0] == pytest.approx((latents.z[0] + latents.z[1]) / 2, abs=1e-6)
    smooth = replace(frames, path="spline")
    assert smooth.at(10, 10)[0][0] == pytest.approx(latents.z[1], abs=1e-6)


@pytest.mark.parametrize("kind", MAPPED)
def test_projection_begins_at_the_average_and_finds_a_picture_again(tmp_path, kind):
    model = loaded_kind(kind, tmp_path)
    picture = InputPicture("7.png", model.generate(7)[0])
    options = ProjectOptions(steps=150, restarts=2, loss="pyramid")
    first: list[np.ndarray] = []
    found = project(model, picture, options, watch=lambda step, image: first.append(image))
    average = takes_w(model).images(Spread.of(model).average[None])[0].astype(int)
    apart = np.abs(picture.image - average).mean()
    assert np.abs(first[0] - average).mean() < 0.5 * apart  # noise alone is between them
    assert found.psnr > 30
    if kind == "mapped-labels":
        given = project(model, picture, replace(options, label="kind1", codes={0: 2}))
        assert given.latents.labels is None
        with pytest.raises(UsageError, match="kind9"):
            project(model, picture, replace(options, label="kind9"))
    weights = tune(model, found.latents, [picture], 5, "pyramid")
    assert not any(name.startswith("mapping.") for name in weights.deltas)
    assert len(weights.deltas) > 0


def test_moves_of_either_kind_of_model_are_given_in_its_unit(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    loaded_kind("mapping", tmp_path)
    loaded_kind("plain", tmp_path)
    assert run(["directions", "mapping.safetensors", "--n", "1", "--spreads", "2"]) == 0
    show = ["traverse", "mapping.safetensors", "--directions", "directions.safetensors"]
    assert run([*show, "--degrees", "20"]) != 0
    assert "has a mapping network: its latents are moved by --spreads" in capsys.readouterr().err
    assert run([*show, "--spreads", "1"]) == 0
    assert "1 spreads to either side" in capsys.readouterr().out
    assert run(["directions", "plain.safetensors", "--spreads", "2", "--out", "p.safetensors"]) != 0
    assert "has no mapping network: its latents are moved by --degrees" in capsys.readouterr().err


def test_truncation_goes_on_beside_w(tmp_path, monkeypatch):
    path = tmp_path / "mapping.safetensors"
    loaded_kind("mapping", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert (
        run(["generate", "mapping.safetensors", "--similar", "3", "--n", "2", "--truncation", "0", "--out", "s"]) == 0
    )
    one, two = (np.asarray(Image.open(path)) for path in sorted((tmp_path / "s").glob("seed*.png")))
    assert (one == two).all()
    model = load(path, "cpu", truncation=0.0)
    images = LatentSet.of_seeds(model, range(3)).in_w(model).images(model)
    assert (images == images[0]).all()  # the average alone
