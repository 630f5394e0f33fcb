"""The description of model files in pggan/interop/README.md is enough: a generator in plain torch from it alone."""

import json
import math
from pathlib import Path

import pytest
import safetensors
import torch
import torch.nn.functional as F

import pggan
from tests.helpers.model_files import saved

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
GAIN = math.sqrt(2)
DEFAULTS = {"leak": 0.2, "equalized": True, "normalize_latents": True, "pixelnorm_epsilon": 1e-8, "output": "linear"}
DEFAULTS |= {"resample": "nearest", "mapping_layers": 0, "gains": "published"}


def images_of(path, z, labels):  # noqa: C901 (in one piece, as the description is)
    """Images (N, C, R, R) of noise and labels, as the description says."""
    with safetensors.safe_open(str(path), "pt") as file:
        about = json.loads(file.metadata()["pggan.model"])
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    config = {**DEFAULTS, **about["generator"]}

    def layer(name, gain=GAIN):
        weight = tensors[f"generator.{name}.weight"]
        scale = gain / math.sqrt(weight[0].numel()) if config["equalized"] else 1.0
        return weight * scale, tensors[f"generator.{name}.bias"]

    def pixelnorm(x):
        return x / (x.square().mean(dim=1, keepdim=True) + config["pixelnorm_epsilon"]).sqrt()

    def activated(x):
        return pixelnorm(torch.where(x > 0, x, config["leak"] * x))

    def convolved(name, x):
        return activated(F.conv2d(x, *layer(name), padding=1))

    def doubled(x):
        return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    def upscaled(name, x):
        if config["resample"] == "nearest":
            return convolved(name, doubled(x))
        weight, bias = layer(name)
        y, rows = F.conv2d(doubled(x), weight, padding=1), torch.tensor([1.0, 2.0, 1.0]) / 4
        kernel = (rows[:, None] * rows).expand(y.shape[1], 1, 3, 3)
        return activated(F.conv2d(y, kernel, padding=1, groups=y.shape[1]) + bias[:, None, None])

    def to_rgb(side, x):
        return F.conv2d(x, *layer(f"to_rgb.{side}x{side}", GAIN if config["gains"] == "he" else 1.0))

    x = torch.cat([z, labels], dim=1)
    x = pixelnorm(x) if config["normalize_latents"] else x
    for number in range(config["mapping_layers"]):
        weight, bias = layer(f"mapping.layers.{number}")
        x = F.leaky_relu(x @ (weight * 0.01).t() + bias * 0.01, config["leak"])
    weight, bias = layer("blocks.4x4.dense", gain=GAIN if config["gains"] == "he" else GAIN / 4)
    x = (x @ weight.t()).reshape(len(z), -1, 4, 4) + bias[:, None, None]
    x = below = convolved("blocks.4x4.conv", activated(x))
    side = 4
    while side < 2 ** about["level"]:
        side, below = 2 * side, x
        x = convolved(f"blocks.{side}x{side}.conv1", upscaled(f"blocks.{side}x{side}.conv0", x))
    image, alpha = to_rgb(side, x), about["alpha"]
    if alpha < 1:
        image = alpha * image + (1 - alpha) * doubled(to_rgb(side // 2, below))
    return image.tanh() if config["output"] == "tanh" else image


def check(path):
    model = pggan.load(path, "cpu")
    seeds = range(4)
    z, labels = model.seed_latents(seeds), model.seed_labels(seeds)
    expected = model.synthesize(z, labels)
    labels = torch.zeros(len(z), 0) if labels is None else torch.as_tensor(labels)
    with torch.no_grad():
        found = images_of(path, torch.as_tensor(z), labels)
    assert found.shape == expected.shape
    expected = torch.as_tensor(expected)
    assert (found - expected).abs().max() < 1e-5 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("name", ["faces", "toon"])
def test_shipped_models(name):
    check(CHECKPOINTS / f"{name}.safetensors")


def test_a_model_with_another_recipe(tmp_path):
    fields = (("mapping_layers", 3), ("resample", "bilinear"), ("gains", "he"))
    check(saved(tmp_path / "model.safetensors", labels=3, alpha=0.5, g_fields=fields))


@pytest.mark.parametrize("alpha", [1.0, 0.25])
def test_a_labelled_model(alpha, tmp_path):
    check(saved(tmp_path / "model.safetensors", labels=3, alpha=alpha))
