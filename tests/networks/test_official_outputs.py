"""Outputs of the networks against the reference release's own (tests/fixtures/official)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.helpers import official_networks


def tensor(array, dtype=torch.float32):
    return torch.from_numpy(array).to(dtype)


def lods(fixture):
    return [(str(float(f"{lod:.1f}")), lod) for lod in fixture["lods"]]


@pytest.mark.parametrize("case", official_networks.CASES)
def test_generator_images(case):
    fixture = official_networks.load(case)
    g, _, gs = official_networks.networks(case)
    for name, lod in lods(fixture):
        level, alpha = official_networks.stage(lod, g.config.max_level)
        full = g.config.resolution
        for network, key in ((g, f"G_images/lod{name}"), (gs, f"Gs_images/lod{name}")):
            if key in fixture:
                with torch.no_grad():
                    images = network(tensor(fixture["latents"]), level, alpha, tensor(fixture["labels"]))
                assert images.shape[-1] == 2**level
                images = F.interpolate(images, size=(full, full), mode="nearest")
                assert (images - tensor(fixture[key])).abs().max() < 1e-4, (key, level, alpha)


@pytest.mark.parametrize("case", official_networks.CASES)
def test_discriminator_scores(case):
    fixture = official_networks.load(case)
    _, d, _ = official_networks.networks(case)
    for name, lod in lods(fixture):
        level, alpha = official_networks.stage(lod, d.config.max_level)
        for key in [f"D_scores/lod{name}"] + [f"D_scores_n{n}/lod{name}" for n in (4, 3, 2, 1)]:
            if key in fixture:
                images = tensor(fixture["images"])[: len(fixture[key])]
                images = F.avg_pool2d(images, images.shape[-1] >> level)
                with torch.no_grad():
                    out = d(images, level, alpha)
                assert (out.score - tensor(fixture[key])[:, 0]).abs().max() < 1e-4, key
                assert out.class_logits is None


@pytest.mark.parametrize("case", official_networks.CASES)
def test_double_precision_stays_double(case):
    fixture = official_networks.load(case)
    g, d, _ = official_networks.networks(case, torch.float64)
    level, alpha = official_networks.stage(0.3, g.config.max_level)
    with torch.no_grad():
        images = g(tensor(fixture["latents"], torch.float64), level, alpha)
        scores = d(tensor(fixture["images"], torch.float64), level, alpha).score
    assert images.dtype == scores.dtype == torch.float64
    assert (images - tensor(fixture["G_images_f64/lod0.3"], torch.float64)).abs().max() < 5e-6
    assert (scores - tensor(fixture["D_scores_f64/lod0.3"], torch.float64)[:, 0]).abs().max() < 5e-6
