"""Directions: against second computations, recovered where they are known, files hostile and truncated."""

import numpy as np
import pytest
import torch

from pggan.config.model_metadata import DIRECTIONS_KEY
from pggan.editing.directions import (
    effect_images,
    find_classes,
    find_components,
    find_marks,
    find_scores,
    find_sefa,
    fit_scores,
    keep_fixed,
    measure_effects,
)
from pggan.editing.directions_file import DirectionSet, read_directions
from pggan.editing.fits import fit_classes, fit_values
from pggan.editing.image_scores import DISCRIMINATOR, HUE, IMAGE_SCORES, read_score_table, score_images
from pggan.editing.latents_file import LatentSet
from pggan.editing.model_identity import ModelIdentity
from pggan.editing.sphere import angle
from pggan.editing.task import CancelledError, Task
from pggan.networks.model_file import write_tensors
from pggan.utils.errors import DataError, ModelError, PgganError, UsageError
from tests.helpers.editing_models import KINDS, LATENT_SIZE, loaded_kind

NAMES = (*IMAGE_SCORES, HUE, DISCRIMINATOR)  # those of faces: see test_faces.py


def gaussian(count, size, seed=0):
    return np.random.default_rng(seed).standard_normal((count, size))


def test_a_linear_value_is_found_with_its_direction():
    z, direction = gaussian(800, 24), gaussian(1, 24, 1)[0]
    fit = fit_values(z, 3 * z @ direction + 7)
    assert float(angle(fit.direction, direction)) < 1
    assert fit.figure > 0.999
    assert fit_values(z, np.random.default_rng(2).standard_normal(800)).figure < 0.1  # noise is not explained


def test_least_squares_agree_with_a_second_computation():
    z, y = gaussian(200, 10), gaussian(1, 200, 1)[0]
    expected, *_ = np.linalg.lstsq(z[:160], y[:160] - y[:160].mean(), rcond=None)
    assert float(angle(fit_values(z, y).direction, expected)) < 0.5


def test_a_half_space_is_found_by_logistic_regression():
    z, direction = gaussian(600, 16), gaussian(1, 16, 1)[0]
    fit = fit_classes(z, z @ direction > 0)
    assert float(angle(fit.direction, direction)) < 8
    assert fit.figure > 0.9
    chance = fit_classes(z, np.random.default_rng(3).random(600) > 0.5)
    assert 0.3 < chance.figure < 0.65  # held out: what was learned by heart does not count


def test_sefa_agrees_with_the_singular_vectors_of_the_normalised_weight(tmp_path):
    model = loaded_kind("labels", tmp_path)
    weight = model.file.generator.blocks["4x4"].dense.weight.detach().numpy()[:, :LATENT_SIZE].astype(np.float64)
    weight /= np.linalg.norm(weight, axis=1, keepdims=True)
    _, _, rows = np.linalg.svd(weight)
    directions = find_sefa(model, 4)
    assert directions.names == ("sefa0", "sefa1", "sefa2", "sefa3")
    assert np.abs((directions.vectors * rows[:4]).sum(axis=1)) == pytest.approx(np.ones(4), abs=1e-5)
    with pytest.raises(UsageError, match="13 directions are not from 1 to 12"):
        find_sefa(model, 13)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_has_directions(tmp_path, kind):
    model = loaded_kind(kind, tmp_path)
    names = ("brightness", "contrast", "sharpness", "score") if model.channels == 1 else NAMES
    counted = []
    sets = [find_sefa(model, 2), find_components(model, 2, 40), find_scores(model, names, 40)]
    sets.append(find_marks(model, range(6), range(6, 12), "mine"))
    if kind == "labels":
        sets.append(find_classes(model, 40))
        assert sets[-1].names == ("kind0", "kind1", "kind2")
    for directions in sets:
        measured = measure_effects(model, directions, task=Task(counted.append))
        assert sum(counted) == effect_images(len(directions))
        counted.clear()
        effects = [figures["effect"] for figures in measured.figures]
        assert effects == sorted(effects, reverse=True)
        assert all(effect > 0 for effect in effects)
        measured.save(tmp_path / "d.safetensors")
        again = read_directions(tmp_path / "d.safetensors").check_model(model)
        assert (again.vectors == measured.vectors).all()
        assert again.names == measured.names
        assert again.figures == measured.figures


def test_a_search_is_the_same_for_the_same_model(tmp_path):
    model = loaded_kind("plain", tmp_path)
    first, cached = (find_components(model, 3, 50) for _ in range(2))
    assert (first.vectors == cached.vectors).all()
    for path in (tmp_path / "cache").rglob("*.safetensors"):
        path.unlink()
    assert (find_components(model, 3, 50).vectors == first.vectors).all()


def test_marks_are_of_seeds_with_the_label_that_was_asked_for(tmp_path):
    """In w, where the label has its part."""
    model = loaded_kind("mapped-labels", tmp_path)
    vectors = [find_marks(model, range(6), range(6, 12), label=label).vectors for label in (None, "kind0", "kind1")]
    assert not np.allclose(vectors[1], vectors[2])
    assert not np.allclose(vectors[0], vectors[1])


def test_kept_properties_are_orthogonal(tmp_path):
    model = loaded_kind("plain", tmp_path)
    directions, others = find_sefa(model, 3), find_scores(model, ("brightness",), 60)
    fixed = keep_fixed(directions, others)
    assert np.abs(fixed.vectors @ others.vectors.T).max() < 1e-6
    assert fixed.figures[0]["orthogonal_to"] == ["brightness"]
    with pytest.raises(UsageError, match="the direction brightness is one of those to keep"):
        keep_fixed(others, others)
    several = keep_fixed(directions, others, find_components(model, 2, 50))
    assert several.figures[0]["orthogonal_to"][0] == "brightness"
    assert np.abs(several.vectors @ others.vectors.T).max() < 1e-6
    assert np.abs(several.vectors @ find_components(model, 2, 50).vectors.T).max() < 1e-6


def test_a_cancelled_search_stops(tmp_path):
    model = loaded_kind("plain", tmp_path)
    with pytest.raises(CancelledError, match="cancelled"):
        find_scores(model, ("brightness",), 60, task=Task(is_cancelled=lambda: True))


def test_requests_that_make_no_sense_are_refused(tmp_path):
    grey, plain = loaded_kind("grey", tmp_path), loaded_kind("plain", tmp_path, discriminator=False)
    latents = LatentSet.of_seeds(grey, range(8))
    with pytest.raises(UsageError, match="hue and saturation are of pictures in colour"):
        score_images(grey, latents, ("hue",))
    with pytest.raises(UsageError, match="there is no score 'beauty'"):
        score_images(grey, latents, ("beauty",))
    with pytest.raises(ModelError, match="keeps no discriminator"):
        score_images(plain, LatentSet.of_seeds(plain, range(8)), ("score",))
    with pytest.raises(UsageError, match="seed 3 is marked both"):
        find_marks(plain, [1, 2, 3], [3, 4])
    with pytest.raises(UsageError, match="two of each kind"):
        find_marks(plain, [1], [3, 4])
    with pytest.raises(UsageError, match="has no classes"):
        find_classes(plain)
    with pytest.raises(UsageError, match="all the same"):
        fit_scores(grey, latents, {"flat": np.ones(8)})
    with pytest.raises(UsageError, match="no direction 'x'; there are sefa0"):
        find_sefa(plain, 1).select(["x"])
    with pytest.raises(UsageError, match="directions of the model plain"):
        find_sefa(plain, 1).check_model(loaded_kind("plain", tmp_path / "other", seed=4))


def test_scores_measure_what_they_say(tmp_path):
    model = loaded_kind("plain", tmp_path)
    latents = LatentSet.of_seeds(model, range(5))
    scores = score_images(model, latents, NAMES)
    images = latents.images(model).astype(float)
    assert scores["brightness"] == pytest.approx((images @ [0.299, 0.587, 0.114]).mean(axis=(1, 2)))
    raw = model.synthesize(latents.inputs)
    assert scores["score"][2] == pytest.approx(float(model.discriminator(raw[2:3]).score), abs=1e-5)
    assert np.abs(scores["hue"]).max() <= 180


def test_a_table_of_scores_is_read_strictly(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("seed,age\n3,0.5\n9,1\n")
    seeds, columns = read_score_table(path)
    assert seeds == [3, 9]
    assert columns["age"].tolist() == [0.5, 1]
    bad = ("", "age\n1\n", "seed,age\n", "seed,age\n1\n", "seed,age\n1,x\n", "seed,age\n1,nan\n", "seed,a,a\n1,2,3\n")
    for text in bad:
        path.write_text(text)
        with pytest.raises(DataError, match="a table begins with seed,NAME"):
            read_score_table(path)


ROW = torch.eye(12)[:1]


@pytest.mark.parametrize(
    "vectors,entries,message",
    [
        (ROW * 2, [{"name": "a"}], "unit length"),
        (ROW * torch.nan, [{"name": "a"}], "unit length"),
        (ROW.double(), [{"name": "a"}], "not float32"),
        (ROW, [{"name": "a"}, {"name": "b"}], "2 names"),
        (ROW.repeat(2, 1), [{"name": "a"}, {"name": "a"}], "there twice"),
        (ROW, [{"name": ""}], "empty"),
        (ROW, [{"name": 5}], "empty"),
        (ROW, [7], "damaged or not what"),
        (ROW, [], "no list of directions"),
    ],
)
def test_a_hostile_file_is_refused_in_one_line(tmp_path, vectors, entries, message):
    about = {"space": "z", "model": {"name": "m", "sha256": None}, "directions": entries}
    write_tensors(tmp_path / "d.safetensors", {"directions": vectors}, DIRECTIONS_KEY, about)
    with pytest.raises(ModelError, match=message) as caught:
        read_directions(tmp_path / "d.safetensors")
    assert len(str(caught.value).splitlines()) == 1


def test_a_truncated_file_is_refused(tmp_path):
    directions = DirectionSet(np.eye(12, dtype=np.float32)[:2], ("a", "b"), ({}, {}), ModelIdentity("m", None))
    path = tmp_path / "d.safetensors"
    directions.save(path)
    data = path.read_bytes()
    for end in range(0, len(data), 37):
        path.write_bytes(data[:end])
        with pytest.raises(PgganError, match=r"is not a whole|is damaged|an empty file"):
            read_directions(path)
