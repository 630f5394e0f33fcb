"""Outputs of the networks against the reference release's own (tests/fixtures/official)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.helpers import official_networks


def tensor(array, dtype=torch.float32):
    return torch.from_numpy(array).to(dtype)


def lods(fixture):
    """The levels of detail of a fixture, as its keys name them and as numbers: 0.0 is full resolution."""
    named = {f"{lod:.1f}": lod for lod in fixture["lods"].tolist()}
    assert {"0.0", "0.3", "1.0", "1.6"} < named.keys()
    return named


@pytest.mark.parametrize("case", official_networks.CASES)
def test_generators_make_the_reference_images_at_every_stage(case):
    fixture = official_networks.load(case)
    g, _, gs = official_networks.networks(case)
    stages = lods(fixture)
    full = g.config.resolution
    for network, images_of, names in ((g, "G_images", stages), (gs, "Gs_images", ("0.0", "0.3"))):
        for name in names:
            level, alpha = official_networks.stage(stages[name], g.config.max_level)
            expected = tensor(fixture[f"{images_of}/lod{name}"])
            with torch.no_grad():
                images = network(tensor(fixture["latents"]), level, alpha, tensor(fixture["labels"]))
            assert images.shape[-1] == 2**level
            images = F.interpolate(images, size=(full, full), mode="nearest")
            assert images.shape == expected.shape
            assert (images - expected).abs().max() < 1e-4, (images_of, name)


@pytest.mark.parametrize("case", official_networks.CASES)
def test_discriminators_give_the_reference_scores_at_every_stage_and_count(case):
    fixture = official_networks.load(case)
    _, d, _ = official_networks.networks(case)
    stages = lods(fixture)
    for scores_of, names in (("D_scores", stages), *((f"D_scores_n{n}", ("0.3",)) for n in (4, 3, 2, 1))):
        for name in names:
            level, alpha = official_networks.stage(stages[name], d.config.max_level)
            expected = tensor(fixture[f"{scores_of}/lod{name}"])
            images = tensor(fixture["images"])[: len(expected)]
            images = F.avg_pool2d(images, images.shape[-1] >> level)
            with torch.no_grad():
                out = d(images, level, alpha)
            assert out.score.shape == expected[:, 0].shape
            assert (out.score - expected[:, 0]).abs().max() < 1e-4, (scores_of, name)
            assert out.class_logits is None


@pytest.mark.parametrize("case", official_networks.CASES)
def test_networks_in_double_precision_give_the_reference_results(case):
    fixture = official_networks.load(case)
    g, d, _ = official_networks.networks(case, torch.float64)
    level, alpha = official_networks.stage(0.3, g.config.max_level)
    with torch.no_grad():
        images = g(tensor(fixture["latents"], torch.float64), level, alpha)
        scores = d(tensor(fixture["images"], torch.float64), level, alpha).score
    assert images.dtype == scores.dtype == torch.float64
    assert (images - tensor(fixture["G_images_f64/lod0.3"], torch.float64)).abs().max() < 5e-6
    assert (scores - tensor(fixture["D_scores_f64/lod0.3"], torch.float64)[:, 0]).abs().max() < 5e-6
