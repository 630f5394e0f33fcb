"""Blending of models and of feature maps: what is taken from which, and what is refused."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from pggan.editing.blend import CrossOver, blend_models, cross_over, relatedness, side_mask
from pggan.editing.latents_file import LatentSet
from pggan.generation.model import Model
from pggan.utils.errors import UsageError
from tests.helpers.editing_models import KINDS, loaded_kind


def relative(model, seed=0, noise=0.3):
    """A model with slightly other weights, as training from the first would make."""
    generator = copy.deepcopy(model.file.generator)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=random) * noise)
    return Model(replace(model.file, generator=generator), model.device)


def test_layers_come_from_either_side_of_the_resolution(tmp_path):
    coarse = loaded_kind("plain", tmp_path)
    coarse.info["best"] = {"name": "swd", "value": 1.0}
    fine = relative(coarse)
    blend = blend_models(coarse, fine, 8, {16: 0.25})
    assert "best" not in blend.info  # measured of another model
    ours, theirs, mixed = (
        dict(g.named_parameters()) for g in (coarse.file.generator, fine.file.generator, blend.generator)
    )
    assert len(mixed) > 10
    for name, parameter in mixed.items():
        share = 0.0 if "4x4" in name else 1.0 if "8x8" in name else 0.25
        assert torch.allclose(parameter, (1 - share) * ours[name] + share * theirs[name], atol=1e-6), name
    assert blend.info["blend"]["share_of_fine"] == {"4x4": 0.0, "8x8": 1.0, "16x16": 0.25}
    assert (coarse.generate([1]) != Model(blend, coarse.device).generate([1])).any()


def test_the_mapping_network_is_that_of_the_coarse_layers(tmp_path):
    coarse = loaded_kind("mapping", tmp_path)
    fine = relative(coarse)
    blend = blend_models(coarse, fine, 8)
    ours, mixed = (dict(g.named_parameters()) for g in (coarse.file.generator, blend.generator))
    names = [name for name in mixed if name.startswith("mapping.")]
    assert names
    assert all(torch.equal(mixed[name], ours[name]) for name in names)


def test_models_that_do_not_fit_are_refused_by_name(tmp_path):
    plain, stranger = loaded_kind("plain", tmp_path), loaded_kind("plain", tmp_path / "other", seed=5)
    assert abs(relatedness(plain, stranger)) < 0.1 < relatedness(plain, relative(plain))
    with pytest.raises(UsageError, match="not related"):
        blend_models(plain, stranger, 8)
    assert blend_models(plain, stranger, 8, force=True).info["blend"]
    for kind, reason in (
        ("grey", "channels 3 and 1"),
        ("labels", "label size 0 and 3"),
        ("4x4", "resolution 16 and 4"),
    ):
        with pytest.raises(UsageError, match=f"plain and {kind} do not fit: {reason}"):
            blend_models(plain, loaded_kind(kind, tmp_path), 8)
    with pytest.raises(UsageError, match="a baseline"):
        blend_models(loaded_kind("fc", tmp_path), plain, 8)
    for at in (4, 32, 12):
        with pytest.raises(UsageError, match=r"--at|power of two"):
            blend_models(plain, relative(plain), at)
    with pytest.raises(UsageError, match="--mix 8=2"):
        blend_models(plain, relative(plain), 8, {8: 2.0})


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("fc", "dcgan")])
def test_a_cross_over_goes_from_one_picture_to_the_other(tmp_path, kind):
    model = loaded_kind(kind, tmp_path)
    latents = LatentSet.of_seeds(model, [1, 2])
    first, second = latents.images(model).astype(int)
    for at in [side for side in (4, 8, 16) if side <= model.resolution]:
        none, whole = (cross_over(model, latents, CrossOver(at, share)) for share in (0.0, 1.0))
        for images in (none, whole):
            assert np.abs(images[0] - first).max() <= 1
            assert np.abs(images[2] - second).max() <= 1
        assert np.abs(none[1] - first).max() <= 1
        assert np.abs(whole[1] - second).max() <= 1  # the latent enters before the first maps alone
        some = cross_over(model, latents, CrossOver(at, channels=(0, 0)))[1].astype(int)
        assert (some != first).any()
        assert (some != second).any()
    left = cross_over(model, latents, CrossOver(model.resolution, mask=side_mask("left", model.resolution)))[1]
    assert np.abs(left[:, 0] - second[:, 0]).max() <= 1  # beyond the reach of a convolution from the seam
    assert np.abs(left[:, -1] - first[:, -1]).max() <= 1
    with pytest.raises(UsageError, match="two latents, not 1"):
        cross_over(model, latents.select([0]), CrossOver(4))
    with pytest.raises(UsageError, match="beyond the model's"):
        cross_over(model, latents, CrossOver(32))
    with pytest.raises(UsageError, match="channels 5-900"):
        cross_over(model, latents, CrossOver(4, channels=(5, 900)))


def test_masks_are_halves():
    assert side_mask("left", 8)[:, :4].all()
    assert side_mask("left", 8).sum() == side_mask("bottom", 8).sum() == 32
    assert side_mask("middle", 8)[2:6, 2:6].all()
    with pytest.raises(UsageError, match="no mask 'nose'"):
        side_mask("nose", 8)
